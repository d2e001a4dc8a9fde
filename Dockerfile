# One image for every step: `make image`, then `docker run mobanet model info`. At run time it downloads nothing and writes
# only to /tmp, so it works without root, with a read-only root file system and as any user.
# The base image needs Python 3.11 or 3.12 with venv and pip. Wheels provide everything else, except one library of GDAL.
ARG BASE_IMAGE=python:3.11-slim

# The environment: packages and their bytecode, two layers that change only with requirements.lock. You can pass a pip.conf
# as a secret: a private index, certificates, wheels in a mounted folder. Bytecode is validated by content, not by time.
FROM ${BASE_IMAGE} AS environment
# Debian's Python includes libexpat, the official slim image does not.
RUN python3 -c 'import ctypes; ctypes.CDLL("libexpat.so.1")' 2>/dev/null \
 || { apt-get update && apt-get install -y --no-install-recommends libexpat1 && rm -rf /var/lib/apt/lists/*; }
COPY requirements.lock /opt/
RUN --mount=type=secret,id=pip.conf \
    python3 -m venv /opt/venv && PIP_CONFIG_FILE=/run/secrets/pip.conf \
    /opt/venv/bin/pip install --no-cache-dir --no-compile --no-deps --require-hashes -r /opt/requirements.lock
RUN /opt/venv/bin/python -m compileall -qq -j 0 -x '/tests?/' --invalidation-mode unchecked-hash /opt/venv/lib || true

# The project, in /app: packages, data sets and parameters. The file VERSION rebuilds the following layers for every
# commit, because buildah ignores changes of values in ENV and LABEL.
FROM environment AS project
WORKDIR /source
COPY . .
ARG VERSION
ARG COMMIT
RUN /opt/venv/bin/pip install --no-cache-dir --no-compile --no-deps --no-build-isolation --target /app . \
 && /opt/venv/bin/python -m compileall -qq --invalidation-mode unchecked-hash /app \
 && cp -r datasets params.yaml LICENSE NOTICE.md /app && echo "$VERSION $COMMIT" >/app/VERSION

# The final image: a small layer on top of the environment.
FROM environment
COPY --from=project /app /app
WORKDIR /app
ENV PATH=/app/bin:/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp USER=mobanet GIT_PYTHON_REFRESH=quiet
# A numeric id, because Kubernetes cannot verify that a user name is not root.
USER 10001:10001
ENTRYPOINT ["mobanet"]

ARG VERSION
ARG COMMIT
ENV GIT_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="MoBaNet Pipeline" \
      org.opencontainers.image.description="Train, trust, promote and run a segmentation model that fuses aerial images with heights." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"

# One image for every step. `docker build -t mobanet .`, then `docker run mobanet model info`.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

WORKDIR /app
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 DVC_NO_ANALYTICS=1

# The environment changes seldom, the code often: two layers.
COPY requirements.lock ./
RUN python3 -m pip install --no-cache-dir --require-hashes --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE NOTICE.md params.yaml dvc.yaml ./
COPY model model
COPY components components
COPY pipeline pipeline
RUN python3 -m pip install --no-cache-dir --no-deps --no-build-isolation .

RUN useradd --create-home mobanet
USER mobanet
ENTRYPOINT ["mobanet"]

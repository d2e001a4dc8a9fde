# On a new machine, `make repro` installs everything and runs the pipeline on the built-in sample.
PYTHON ?= python3
BIN := .venv/bin
# An experiment runs in a copy of the repository, with this environment and the same MLflow store.
EXPERIMENT = PATH="$(CURDIR)/$(BIN):$$PATH" MLFLOW_TRACKING_URI="$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}" dvc exp run --temp
# One single-threaded process per core, at most four: more would need more than 8 GB of memory.
PROCESSES = logical
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -n $(PROCESSES) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Tests that compare numbers which the network computes. Kernels round differently with every instruction set; all other
# tests compare integers, files or texts, and one run of them is enough. `make test` runs them with this processor's kernels.
NUMERIC = tests/components/train/ranks/test_distributed.py tests/components/train/test_optim.py tests/components/train/test_batches.py \
  tests/components/train/test_validation.py tests/components/export/test_parity.py tests/components/export/test_servable.py tests/model
export DVC_NO_ANALYTICS := 1

# `make image`: the builder, the base image, the image's name, and builder options, for example --secret id=pip.conf,src=FILE.
BUILD ?= $(shell if docker info >/dev/null 2>&1; then echo docker build; elif command -v buildah >/dev/null; then echo buildah build --layers; fi)
BASE_IMAGE ?= python:3.11-slim
IMAGE ?= mobanet:latest
BUILD_OPTIONS ?=

.PHONY: help setup lock repro baselines remote services services-stop image release check schema docs format test test-cpus test-system clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed  ## Create .venv from requirements.lock and install the project, if that is not done yet

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v not in ((3, 11), (3, 12)) and f"Python 3.11 or 3.12 is needed, this is {sys.version.split()[0]}; run make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

lock: setup  ## Regenerate requirements.lock: newest versions that pyproject.toml allows, with hashes
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade --generate-hashes \
	  --no-emit-index-url --no-annotate --quiet --custom-compile-command 'make lock' -o requirements.lock

repro: setup  ## Run all steps with DVC, raw tiles -> registered model; later runs repeat only what has changed
	$(BIN)/dvc repro

baselines: setup  ## Train the network on images alone and on heights alone, as DVC experiments (docs/baselines.md)
	$(EXPERIMENT) --name image-only --set-param 'model.modalities=[rgb]' evaluate
	$(EXPERIMENT) --name dsm-only --set-param 'model.modalities=[dsm]' evaluate
	$(BIN)/dvc exp show --no-pager --only-changed --md --drop '/|^package$$|^model$$|Created'

remote:  ## Configure DVC's S3 remote: make remote MOBANET_REMOTE=s3://bucket/prefix (docs/data_versions.md)
	@test -n "$$MOBANET_REMOTE" || { echo 'MOBANET_REMOTE is not set; run make remote MOBANET_REMOTE=s3://bucket/prefix' >&2; exit 2; }
	$(BIN)/dvc remote add --quiet --local --default --force storage "$$MOBANET_REMOTE"
	$(BIN)/dvc remote modify --local storage verify true

services: setup  ## Start MLflow with accounts, PostgreSQL and an S3 store on this machine; prints the variables of clients
	@$(BIN)/python -m pipeline.services start

services-stop: setup  ## Stop these servers; their data stays in .services
	@$(BIN)/python -m pipeline.services stop

image:  ## Build the image of all steps with Docker or buildah: make image IMAGE=registry/mobanet:1 (docs/kubeflow_local.md)
	@test -n "$(BUILD)" || { echo 'No Docker engine is running and buildah is not installed; start Docker or install buildah' >&2; exit 2; }
	$(BUILD) --build-arg BASE_IMAGE=$(BASE_IMAGE) \
	  --build-arg VERSION=$$($(PYTHON) -c 'import pipeline; print(pipeline.__version__)') \
	  --build-arg COMMIT=$$(git describe --always --dirty --abbrev=40 --exclude='*') $(BUILD_OPTIONS) -t $(IMAGE) .

release: setup  ## Build wheel, sdist, changelog, SBOM and checksums of a tagged commit into dist/ (docs/releasing.md)
	@$(BIN)/python -m pipeline.release

check: setup  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

schema: setup  ## Write params.schema.json, with which editors complete and check params.yaml
	$(BIN)/python -m pipeline.schema

docs: setup  ## Build the documentation site into site/, in strict mode
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

format: setup  ## Fix formatting and lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup  ## Run the fast tests, under 15 minutes on two cores
	$(PYTEST) -m 'not system' --durations=10

test-cpus: setup  ## Run the numeric tests with the kernels of SSE 4.1 and of AVX2
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(PYTEST) -m 'not system' $(NUMERIC)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) -m 'not system' $(NUMERIC)

# One process more than cores, because these tests often wait for servers and other processes.
test-system: PROCESSES = $$($(BIN)/python -c 'import os; print(min(4, os.cpu_count() + 1))')
test-system: setup  ## Run the heavy tests: kill and resume, the complete pipeline
	$(PYTEST) -m system --durations=20

clean:  ## Remove the environment, all caches and the site; data, models and reports stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache site *.egg-info

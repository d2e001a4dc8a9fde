"""The seven steps, in the order in which data goes through them.

acquire     a data source                 -> data/raw      raw tiles in the ISPRS layout
check       data/raw                      -> reports       findings; an error stops the pipeline
preprocess  data/raw                      -> data/store    Arrow files to map into memory, and a manifest
train       data/store                    -> models        the best balanced-fusion checkpoint and its history
evaluate    data/store (test), models     -> reports       scores, balance figures, pictures, one HTML page
export      models, reports               -> package       safetensors and ONNX, checked against each other
register    package, reports              -> MLflow        a model version, its tags and aliases

Each step is a function `run(...)` in `components/STEP/step.py`; `python -m components.STEP` is its entry point for DVC,
`components/STEP/component.py` the one for Kubeflow.
A step imports `components.common` and `model`, never another step: steps meet in files only.
"""

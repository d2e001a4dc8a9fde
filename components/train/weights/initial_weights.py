"""The weights that a training starts from: an earlier model, or pretrained backbone weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

from components.common.data.store import Manifest
from components.common.errors import ParamsError
from components.common.inference.modelfile import InitialWeights
from components.common.tracking.packages import MODEL_FILE
from components.common.tracking.registered_models import SCHEME, fetch
from components.train.config import ModelParams
from components.train.weights.backbone_weights import load_backbone_weights
from components.train.weights.earlier_model import Names, load_earlier_model
from components.train.weights.weight_sources import require_file
from model import MoBaNet


def load_initial_weights(network: MoBaNet, model: ModelParams, manifest: Manifest, out: Path) -> InitialWeights:
    """Load the weights that `model.init` or `model.weights` names into a new network.

    Args:
        network: newly built network.
        model: section `model`.
        manifest: description of the data, with the names of classes and bands.
        out: path of the model that this training will write.

    Raises:
        ParamsError: `model.init` is `out`.
        WeightsError: the weights cannot be read or do not fit.
        TrackingError: `model.init` is a registered model, and MLflow cannot be reached or does not have it.
    """
    if model.init is None:
        return load_backbone_weights(network, model.weights)
    names = Names(manifest.classes, manifest.bands, network.config.modalities)
    if model.init.startswith(SCHEME):
        with tempfile.TemporaryDirectory() as folder:
            path, source = fetch(model.init, MODEL_FILE, Path(folder))
            return load_earlier_model(network, names, path, source)
    path = Path(model.init)
    if path.exists() and out.exists() and path.samefile(out):
        raise ParamsError(f"model.init is {path}, which this training replaces; copy the file and name the copy")
    require_file(path, "model.init")
    return load_earlier_model(network, names, path, model.init)

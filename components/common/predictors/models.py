"""Open a trained network for prediction, whatever its format is.

In: a package folder, a `.safetensors` or `.onnx` file of this project, or `models:/NAME@ALIAS`. Out: a `Predictor`, a
function from pixels to logits. Missing values are handled as in the exported graph: they are NaN, or the tensor of a
sensor that no window of a batch has is None.
Letters: B batch, K classes, C image bands, H W pixels of a window.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from components.common.errors import ParamsError, WeightsError, reason
from components.common.files import digest
from components.common.inference.given_sensors import both_given, runs_by_condition
from components.common.inference.modelfile import ModelFacts, load_model, read_facts
from components.common.inference.precision import chosen, in_precision
from components.common.params import Wanted
from components.common.predictors.predictor import Maps, ModelIdentity, Predictor
from components.common.scoring.gates import GateMap, has_gates
from components.common.tracking.packages import FORMAT, MODEL_FILE, RECORD
from components.common.tracking.registered_models import SCHEME, URI, fetch
from model import MoBaNet
from model.inputs import normalise_image, padded_side
from model.mobanet import on_meta
from model.speed import Precision, autocast

FORMATS = "a package folder, a .safetensors or .onnx file of this project, or models:/NAME@ALIAS"


@contextmanager
def open_model(
    model: str, device: torch.device, window_px: int | None = None, precision: Wanted = "trained"
) -> Iterator[Predictor]:
    """Open a model; it can be used until the block ends.

    Args:
        model: a package folder, `.safetensors`, `.onnx`, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        device: device to compute on. An ONNX graph runs on the CPU.
        window_px: side of a window, rounded up to whole patches; None: as in training.
        precision: of the network. An ONNX graph is float32.

    Raises:
        WeightsError: the file is missing or damaged, or has another format.
        TrackingError: the registered model cannot be downloaded.
        ParamsError: the model has a fixed window of another size.
    """
    with ExitStack() as stack:
        path, version = _located(model, stack)
        opened = {".safetensors": _network, ".onnx": _graph}.get(path.suffix.lower())
        if opened is None:
            raise WeightsError(f"{model}: not a model that predict can open; use {FORMATS}")
        if not path.is_file():
            raise WeightsError(f"{path}: no such model; use {FORMATS}")
        name, number = (path.name, None) if version is None else (version, version.rpartition("/")[2])
        yield stack.enter_context(
            opened(path, ModelIdentity(name, number, _sha256(path)), device, window_px, precision)
        )


def _located(model: str, stack: ExitStack) -> tuple[Path, str | None]:
    """File of a model, and the URI with its version if it is registered."""
    if model.startswith(SCHEME):
        if not URI.fullmatch(model):
            raise ParamsError(f"--model is {model}; expected models:/NAME@ALIAS, models:/NAME/VERSION or a file")
        return fetch(model, MODEL_FILE, Path(stack.enter_context(tempfile.TemporaryDirectory())), "--model")
    path = Path(model)
    return (_of_package(path) if path.is_dir() else path), None


def _of_package(package: Path) -> Path:
    """The network of a package, whose checksum must be the recorded one."""
    try:
        record = json.loads((package / RECORD).read_text())
        newest, recorded = int(record["format"]), record["sha256"][MODEL_FILE]
    except FileNotFoundError:
        raise WeightsError(f"{package}: no model package, because it has no {RECORD}; run the export step") from None
    except (ValueError, KeyError, TypeError):
        raise WeightsError(f"{package / RECORD}: damaged; run the export step again") from None
    if newest > FORMAT:
        raise WeightsError(
            f"{package}: a package of format {newest}, but this version reads up to {FORMAT}; install a newer version"
        )
    path = package / MODEL_FILE
    if path.is_file() and digest(path) != recorded:
        raise WeightsError(f"{path}: changed since the export ({RECORD} has another sha256); run the export step again")
    return path


def _sha256(path: Path) -> str:
    """Checksum of a model; the weights of a graph above 2 GB are in a second file, which counts too."""
    weights = path.with_name(f"{path.name}.data")
    if not weights.is_file():
        return digest(path)
    return hashlib.sha256((digest(path) + digest(weights)).encode()).hexdigest()


class _Network:
    """A network in torch."""

    fixed_window = False

    def __init__(
        self,
        network: MoBaNet,
        facts: ModelFacts,
        identity: ModelIdentity,
        device: torch.device,
        window_px: int,
        precision: Precision,
    ) -> None:
        self._network, self._gates = network, GateMap()
        self.facts, self.identity, self.device, self.window_px = facts, identity, device, window_px
        self.precision = precision
        self.patch_size, self.has_gates = network.patch_size, has_gates(network)
        self.by_condition = runs_by_condition(network.config)

    def __call__(self, image_BCHW: Tensor | None, dsm_B1HW: Tensor | None) -> Maps:
        # autocast belongs to a thread, and other threads than the one that opened the network may call it
        with torch.inference_mode(), autocast(self.precision, self.device):
            rgb = dsm = None
            if image_BCHW is not None and "rgb" in self._modalities:
                rgb = normalise_image(image_BCHW, self.facts.image_mean, self.facts.image_std)
            if dsm_B1HW is not None and "dsm" in self._modalities:
                dsm = dsm_B1HW.float()
            if not self.has_gates:
                return Maps(self._network(rgb, dsm), None)
            logits_BKHW, gates = self._network.forward_with_gates(rgb, dsm)
            gates_B1HW = F.interpolate(self._gates.maps(gates).float(), size=logits_BKHW.shape[-2:])
            return Maps(logits_BKHW, gates_B1HW)

    @property
    def _modalities(self) -> tuple[str, ...]:
        return self._network.config.modalities


@contextmanager
def _network(
    path: Path, identity: ModelIdentity, device: torch.device, window_px: int | None, precision: Wanted
) -> Iterator[Predictor]:
    network, facts = load_model(path)
    side = padded_side(window_px or facts.window_px, network.patch_size)
    used = chosen(precision, facts, device)
    with in_precision(network.to(device), facts, device, used):
        yield _Network(network, facts, identity, device, side, used)


class _Graph:
    """An exported graph in ONNX Runtime, float32 on the CPU."""

    fixed_window, has_gates, device = True, False, torch.device("cpu")
    by_condition = False  # the graph decides for every window of a batch
    precision: Precision = "float32"

    def __init__(self, session: Any, facts: ModelFacts, identity: ModelIdentity) -> None:
        self._session = session
        self.facts, self.identity, self.window_px = facts, identity, facts.window_px
        self.patch_size = on_meta(facts.network).patch_size

    def __call__(self, image_BCHW: Tensor | None, dsm_B1HW: Tensor | None) -> Maps:
        image_BCHW, dsm_B1HW = both_given(image_BCHW, dsm_B1HW, len(self.facts.bands))
        inputs = {"image": image_BCHW.contiguous().numpy(), "dsm": dsm_B1HW.contiguous().numpy()}
        (logits_BKHW,) = self._session.run(["logits"], {name: inputs[name] for name in self._names()})
        return Maps(torch.from_numpy(logits_BKHW), None)

    def _names(self) -> list[str]:
        return [given.name for given in self._session.get_inputs()]


@contextmanager
def _graph(
    path: Path, identity: ModelIdentity, device: torch.device, window_px: int | None, precision: Wanted
) -> Iterator[Predictor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        fields = session.get_modelmeta().custom_metadata_map
        facts = read_facts(path, {name: json.loads(value) for name, value in fields.items()})
    except WeightsError:
        raise
    except Exception as error:  # ONNX Runtime has a class per cause; KeyError, TypeError, ValueError: other metadata
        raise WeightsError(
            f"{path}: not a readable graph of this project ({reason(error)}); run the export step again"
        ) from None
    side = facts.window_px
    if window_px not in (None, side):
        raise ParamsError(
            f"predict.window_px is {window_px}, but the windows of {path.name} are fixed to {side} px; set it to null, "
            "or use the .safetensors file"
        )
    yield _Graph(session, facts, identity)

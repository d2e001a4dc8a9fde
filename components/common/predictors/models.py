"""Open a trained network for prediction, whatever its format is.

In: a package folder, a `.safetensors`, `.onnx` or `.pt2` file of this project, or `models:/NAME@ALIAS`. Out: a
`Predictor`. A file is checked before anything in it is run: `mobanet model verify` prints these checks.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch

from components.common.errors import ParamsError, WeightsError
from components.common.files import digest, with_weights
from components.common.params import Wanted
from components.common.predictors.graph_predictors import open_graph, open_program
from components.common.predictors.predictor import ModelIdentity, Predictor
from components.common.predictors.torch_predictor import open_network
from components.common.predictors.trusted_model import require_trusted
from components.common.tracking.packages import FORMAT, MODEL_FILE, RECORD
from components.common.tracking.registered_models import SCHEME, URI, fetch
from components.common.trust.config import TrustConfig
from components.common.trust.signature_check import UNCHECKED

SUFFIXES = (".safetensors", ".onnx", ".pt2")

FORMATS = "a package folder, a .safetensors, .onnx or .pt2 file of this project, or models:/NAME@ALIAS"


@contextmanager
def open_model(
    model: str,
    device: torch.device,
    window_px: int | None = None,
    precision: Wanted = "trained",
    trust: TrustConfig = UNCHECKED,
) -> Iterator[Predictor]:
    """Open a model; it can be used until the block ends.

    Args:
        model: a package folder, `.safetensors`, `.onnx`, `.pt2`, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        device: device to compute on. An exported file runs on the CPU.
        window_px: side of a window, rounded up to whole patches; None: as in training.
        precision: of the network. An exported file has its own.
        trust: section `trust`; the signature is checked before anything is opened.

    Raises:
        TrustError: the signature of the model is wrong, or missing although it is required.
        WeightsError: the file is missing or damaged, or has another format.
        TrackingError: the registered model cannot be downloaded.
        ParamsError: the model has a fixed window of another size.
    """
    with ExitStack() as stack:
        path, version = located(model, stack)
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise WeightsError(f"{model}: not a model that predict can open; use {FORMATS}")
        if not path.is_file():
            raise WeightsError(f"{path}: no such model; use {FORMATS}")
        require_trusted(model, path, version, trust)
        identity = _identity(path, version)
        if suffix == ".safetensors":
            yield stack.enter_context(open_network(path, identity, device, window_px, precision))
        else:
            yield (open_graph if suffix == ".onnx" else open_program)(path, identity, window_px)


def located(model: str, stack: ExitStack) -> tuple[Path, str | None]:
    """File of a model, and the URI with its version if it is registered; errors as with `open_model`."""
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
        newest, _ = int(record["format"]), record["sha256"][MODEL_FILE]
    except FileNotFoundError:
        raise WeightsError(f"{package}: no model package, because it has no {RECORD}; run the export step") from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise WeightsError(f"{package / RECORD}: damaged; run the export step again") from None
    if newest > FORMAT:
        raise WeightsError(
            f"{package}: a package of format {newest}, but this version reads up to {FORMAT}; install a newer version"
        )
    return package / MODEL_FILE


def _identity(path: Path, version: str | None) -> ModelIdentity:
    """Which model a file is; the weights of a graph above 2 GB are in a second file, which counts too."""
    sums = recorded(path)
    sha256 = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
    if version is None:
        return ModelIdentity(path.name, None, sha256)
    return ModelIdentity(version, version.rpartition("/")[2], sha256)


def recorded(path: Path) -> list[str]:
    """Checksums of a model's files; if a package's record lies next to them, they must be those in it.

    Raises:
        WeightsError: the record has another checksum.
    """
    sums, known = {file.name: digest(file) for file in with_weights(path)}, _record(path.parent)
    for name, sha256 in sums.items():
        if known.get(name, sha256) != sha256:
            raise WeightsError(
                f"{path.with_name(name)}: changed since the export ({RECORD} has another sha256); run the export step "
                "again"
            )
    return list(sums.values())


def _record(folder: Path) -> dict[str, str]:
    """Checksums of the package that a folder is; empty if it is none."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return dict(json.loads((folder / RECORD).read_text())["sha256"])
    return {}

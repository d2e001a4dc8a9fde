"""A trained network in one file: weights as safetensors, everything needed to use them as JSON in the header.

`models/best.safetensors` and `package/model.safetensors` are such files. No pickle is ever read or written.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from components.common.data.store import Heights
from components.common.errors import WeightsError
from components.common.files import replacing
from model import MoBaNet, MoBaNetConfig

HEADER = "mobanet"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a network is, what it was trained on, and how its inputs must be made."""

    network: MoBaNetConfig
    classes: tuple[str, ...]  # in label order
    in_means: tuple[bool, ...]  # which of them count in mIoU and mF1
    palette: tuple[tuple[int, int, int], ...]
    bands: tuple[str, ...]  # of the image, in order
    gsd_m: float  # ground size of a training pixel, metres
    heights: Heights  # how metres become the DSM
    image_range: tuple[float, float]  # pixel values of the files that became 0 and 255
    image_mean: tuple[float, ...]  # per band, of the image / 255
    image_std: tuple[float, ...]
    window_px: int  # side of a training input, a multiple of the patch size
    dataset: str
    source: str
    split: str
    acknowledgement: str
    data_md5: str  # of the store's manifest: the data version
    git_commit: str
    tool_version: str
    step: int
    seed: int
    validation: dict[str, float]  # percent points on the validation tiles, at the selected step
    mlflow_run_id: str | None = None


def save_model(path: Path, network: MoBaNet, facts: ModelFacts) -> None:
    """Write a network and its facts atomically; weights of a switched-off part are not there to be written."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as draft:
        save_file(tensors, draft, metadata={HEADER: json.dumps(asdict(facts))})


def load_model(path: Path) -> tuple[MoBaNet, ModelFacts]:
    """Read a network, on the CPU and in evaluation mode, and its facts.

    Raises:
        WeightsError: the file is missing, damaged, or was not written by `save_model`.
    """
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            if header is None:
                raise WeightsError(
                    f"{path}: weights without the facts of a MoBaNet model; was it written by the train step?"
                )
            facts = _facts(json.loads(header))
            network = MoBaNet(facts.network)
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a dict)
    except (FileNotFoundError, IsADirectoryError):
        raise WeightsError(f"{path}: no such model; run the train step first") from None
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: not a readable model ({reason}); run the train step again") from None
    return network.eval(), facts


def _facts(content: dict[str, Any]) -> ModelFacts:
    frozen = {key: _frozen(value) for key, value in content.items() if key not in ("network", "heights", "validation")}
    network = {key: _frozen(value) for key, value in content["network"].items()}
    heights = {key: _frozen(value) for key, value in content["heights"].items()}
    return ModelFacts(
        network=MoBaNetConfig(**network), heights=Heights(**heights), validation=content["validation"], **frozen
    )


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value

"""The model that `mlflow.pyfunc.load_model` and `mlflow models serve` load: arrays or files in, classes out.

MLflow calls `_load_pyfunc` with the folder of a logged model, because its file `MLmodel` names this module. The network
is the package's `model.safetensors`; nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from components.common.params import from_mapping
from components.common.predictors.models import open_model
from components.common.predictors.predictor import Predictor
from components.common.tracking.logged_format import FORMAT_KEY, RELEASE_KEY, require_known_format
from components.common.yaml_files import read_yaml
from components.predict.arrays import ArrayMap, predict_arrays, predict_files
from components.predict.config import PredictConfig
from components.serve.samples import Sample, samples_of

DESCRIPTION = "MLmodel"
"""MLflow's description of a logged model."""

Settings = dict[str, Any]


class PyfuncModel:
    """A logged model. A thread of its own computes, because the precision of torch belongs to a thread."""

    def __init__(self, folder: Path) -> None:
        """Read the description; the network is loaded on first use.

        Raises:
            WeightsError: the model was logged by a newer release.
        """
        description = read_yaml(folder / DESCRIPTION)
        metadata = description.get("metadata") or {}
        require_known_format(str(folder), metadata.get(FORMAT_KEY), metadata.get(RELEASE_KEY))
        params = json.loads(description["signature"]["params"])
        self._folder, self._defaults = folder, {param["name"]: param["default"] for param in params}
        self._thread, self._stack = ThreadPoolExecutor(1, "mobanet-model"), ExitStack()
        self._opened: tuple[tuple[int, str], Predictor] | None = None

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Classify rasters.

        Args:
            model_input: mapping, data frame or list of mappings with `image`, `dsm` or both. Arrays are
                `[H, W, C]` or `[N, H, W, C]` and `[H, W]` or `[N, H, W]`; values may be paths or URLs instead.
            params: settings that differ from those of the signature.

        Returns:
            `classes` and `confidence` (percent), uint8, of the same height, width and batch; a list for rasters of
            different sizes and for files. 255: no class.

        Raises:
            DataError: the input cannot be used, or the model was not trained for it.
            ParamsError: a setting cannot be used.
        """
        given = samples_of(model_input)
        settings = self._defaults | dict(params or {})
        config = from_mapping(
            PredictConfig,
            {
                **{"tiles": None, "block_px": 4096, "min_agreement": None},
                **{name: settings[name] for name in ("window_px", "overlap", "batch_size", "precision")},
            },
            "params",
        )
        maps = self._thread.submit(self._maps, config, given.samples, settings).result()
        return {
            "classes": _joined([found.classes_HW for found in maps], given.batched, given.samples),
            "confidence": _joined([found.confidence_HW for found in maps], given.batched, given.samples),
        }

    def _maps(self, config: PredictConfig, samples: tuple[Sample, ...], settings: Settings) -> list[ArrayMap]:
        predictor = self._predictor(config)
        return [_predicted(predictor, config, sample, settings) for sample in samples]

    def _predictor(self, config: PredictConfig) -> Predictor:
        """The network; another window or precision loads it again."""
        wanted = (config.window_px or 0, config.precision)
        if self._opened is None or self._opened[0] != wanted:
            self._stack.close()
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            opened = open_model(str(self._folder), device, config.window_px, config.precision)
            self._opened = wanted, self._stack.enter_context(opened)
        return self._opened[1]


def _load_pyfunc(path: str) -> PyfuncModel:
    """What MLflow calls."""
    return PyfuncModel(Path(path))


def _predicted(predictor: Predictor, config: PredictConfig, sample: Sample, settings: Settings) -> ArrayMap:
    allow = settings["allow"].replace(",", " ").split()
    if sample.is_file:
        return predict_files(predictor, config, sample.image, sample.dsm, allow=allow)
    return predict_arrays(predictor, config, sample.image, sample.dsm, gsd_m=settings["gsd_m"], allow=allow)


def _joined(maps: list[npt.NDArray[np.uint8]], batched: bool, samples: tuple[Sample, ...]) -> Any:
    """A single map, a batch, or a list where sizes may differ."""
    if not batched:
        return maps[0]
    if any(sample.is_file for sample in samples) or len({found.shape for found in maps}) > 1:
        return maps
    return np.stack(maps)

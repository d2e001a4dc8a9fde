"""An evaluation with every part that a card can show, and figures that are all different."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

import jsonschema
import numpy as np

SCHEMA = Path(__file__).parents[3] / "components/evaluate/evaluation.schema.json"
CONDITIONS = ("rgb+dsm", "rgb", "dsm")


@functools.cache
def schema() -> jsonschema.Draft202012Validator:
    """The schema of `evaluation.json`."""
    content = json.loads(SCHEMA.read_text())
    found: jsonschema.Draft202012Validator = jsonschema.validators.validator_for(content)(content)
    return found


def full(evaluation: dict) -> dict:
    """A copy of an evaluation with other scores, and with intervals, boundaries, calibration and robustness."""
    rng, found = np.random.default_rng(0), copy.deepcopy(evaluation)

    def points() -> float:
        return float(rng.uniform(1, 99))

    def pair() -> list[float]:
        return sorted((points(), points()))

    classes = found["protocol"]["classes"]
    for by_condition in found["scores"].values():
        for scores in by_condition.values():
            scores |= {key: points() for key in ("oa", "miou", "mf1", "miou_all", "mf1_all")}
            for of_class in scores["per_class"].values():
                of_class |= {key: points() for key in ("iou", "f1", "precision", "recall")}
    found["balance"] |= {key: points() for key in found["balance"] if key != "failure_probability"}
    found["balance"] |= {"retention_rgb": 0.8765, "retention_dsm": None, "imbalance": 0.1234, "fusion_gain": -0.001}
    figures = {f"{figure}/{condition}": pair() for figure in ("oa", "miou", "mf1") for condition in CONDITIONS}
    figures |= {f"iou/{condition}/{name}": pair() for condition in CONDITIONS for name in classes}
    figures["iou/dsm/car"] = None
    found["intervals"] = {
        **{"level": 0.95, "block_px": 256, "blocks": 36, "independent": 17.346, "samples": 1000},
        "figures": figures | {"expected_miou": pair()},
        "differences": {
            "rgb+dsm - rgb": {"value": 3.456, "low": -1.234, "high": 7.89},
            "rgb+dsm - dsm": {"value": 20.555, "low": None, "high": None},
        },
    }
    found["boundary"] = {
        name: {
            "width_px": 3,
            "miou": points(),
            "per_class": {one: points() for one in classes} | {classes[-1]: None},
        }
        for name in CONDITIONS
    }
    found["calibration"] = {
        name: {"temperature": heat, "ece_before": float(rng.random()), "ece": float(rng.random()), "bins": []}
        for name, heat in zip(CONDITIONS, (1.256, 0.814, None), strict=True)
    }
    found["robustness"] = [
        {"perturbation": "noise", "sensor": "dsm", "level": 0.25, "unit": "m", "miou": points(), "change": -12.345},
        {"perturbation": "lost band", "sensor": "rgb", "level": "red", "unit": None, "miou": points(), "change": None},
    ]
    schema().validate(found)
    return found


def formats() -> dict:
    """Formats of a package, one of them left out."""
    of_file = {"runtime": "onnxruntime", "bytes": 1_234_567, "cases": [], "status": "exported", "reason": None}
    return {
        "onnx": of_file
        | {"file": "model.onnx", "precision": "float32", "largest_difference": 2.04e-7, "changed_share": 0.0},
        "onnx-int8": of_file
        | {"file": "model_int8.onnx", "precision": "int8", "largest_difference": 0.5, "changed_share": 0.0031}
        | {"status": "left out", "reason": "0.31 % of the pixels change class, more than 0.2 %"},
        "qgis": of_file
        | {"file": "model_qgis.onnx", "precision": "float32", "largest_difference": 3e-6, "changed_share": 0.000012}
        | {"compared": "probabilities"},
        "pt2": of_file
        | {"file": "model.pt2", "precision": "float32", "largest_difference": 0.0, "changed_share": 0.0}
        | {"runtime": "torch"},
    }

"""Compare a file of a package with the network: the gate that every format must pass.

In: a file, and the network's answers to all cases (`parity_cases`). Out: `FormatParity`, with the largest difference,
the share of pixels that change class, and the reason if a limit of `export` is exceeded. What a float32 file gives may
differ by rounding only; of float16 and int8, only the share of changed pixels is limited.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.common.errors import MobanetError, reason
from components.export.config import ExportConfig, Format
from components.export.formats.known_formats import FORMATS
from components.export.parity.parity_cases import Case, Reference
from components.export.parity.runtimes import Outputs, open_file


class ParityError(MobanetError):
    """A required file of the package differs from the network."""


@dataclass(frozen=True, slots=True)
class CaseParity:
    """Result of one case."""

    name: str
    samples: int  # batch size
    largest_difference: float | None  # as in `FormatParity`
    changed_px: int  # pixels with another class than the network's
    total_px: int


@dataclass(frozen=True, slots=True)
class FormatParity:
    """How one file differs from the network."""

    runtime: str  # onnxruntime or torch, on the CPU
    precision: str  # of the weights in the file
    compared: str  # what the difference is of: "logits", "probabilities", "confidence", or "classes" (no difference)
    largest_difference: float | None  # absolute, over all cases; None: the file gives classes only
    changed_share: float  # of pixels of crops with another class, 0..1; float16 and int8: of the worst case
    cases: tuple[CaseParity, ...]
    reason: str = ""  # one sentence why it did not pass; "" if it passed

    @property
    def passed(self) -> bool:
        """Whether it keeps all limits."""
        return not self.reason

    def as_json(self) -> dict[str, Any]:
        """The fields that `export.json` has about the comparison; an infinite difference is null there."""
        cases = [asdict(case) | {"largest_difference": _finite(case.largest_difference)} for case in self.cases]
        fields = {name: value for name, value in asdict(self).items() if name != "reason"}
        return fields | {"largest_difference": _finite(self.largest_difference), "cases": cases}


def _finite(difference: float | None) -> float | None:
    return None if difference is None or math.isinf(difference) else difference


def check_format(format: Format, path: Path, reference: Reference, config: ExportConfig) -> FormatParity:
    """Run all cases with a file and compare its answers with the network's.

    Args:
        format: of the file.
        path: the file.
        reference: answers of the network, of `make_reference`.
        config: section `export`, with the limits.

    Returns:
        The result; a file that cannot be opened or run has not passed either.
    """
    kind = FORMATS[format]
    try:
        run = open_file(path, reference.facts)
        window = (reference.facts.window_px,) * 2
        cases = [case for case in reference.cases if run.free_size or case.size_px == window]
        answers = [(case, run(*case.inputs)) for case in cases]
        results = tuple(_compared(case, answer) for case, answer in answers)
    except Exception as error:  # runtimes have a class per cause
        failure = f"{path.name}: cannot be run by {kind.runtime} ({reason(error)})"
        return FormatParity(kind.runtime, kind.precision, "nothing", None, 1.0, (), failure)
    exact = kind.precision == "float32"
    shares = _changed_shares([case for case in results if _of_tiles(case, reference)], exact=exact)
    largest = max((case.largest_difference for case in results if case.largest_difference is not None), default=None)
    failure = _failure(path.name, results, shares, config, exact=exact)
    return FormatParity(
        runtime=kind.runtime,
        precision=kind.precision,
        compared=_compared_output(answers[0][1]),
        largest_difference=largest,
        changed_share=max(shares.values()),
        cases=results,
        reason=failure,
    )


def _changed_shares(crops: list[CaseParity], *, exact: bool) -> dict[str, float]:
    """Shares of pixels that are limited, by name.

    The numbers of a float32 file are limited in every case, and pixels with two equal classes change by rounding, so
    all crops count together. With less precision, no condition may hide behind the others.
    """
    if exact:
        return {"all crops": sum(case.changed_px for case in crops) / sum(case.total_px for case in crops)}
    return {case.name: case.changed_px / case.total_px for case in crops}


def _of_tiles(result: CaseParity, reference: Reference) -> bool:
    return any(case.of_tiles for case in reference.cases if case.name == result.name)


def _compared_output(answer: Outputs) -> str:
    return next(name for name in ("logits", "probabilities", "confidence", "classes") if name in answer)


def _compared(case: Case, answer: Outputs) -> CaseParity:
    """Compare all outputs that a file gives; their largest difference counts."""
    classes_NHW = case.logits_NKHW.argmax(1)
    expected = {
        "logits": case.logits_NKHW,
        "probabilities": case.probabilities_NKHW,
        "confidence": case.probabilities_NKHW.max(1),
        "classes": classes_NHW,
    }
    for name, found in answer.items():
        if found.shape != expected[name].shape:
            raise ValueError(f"the output {name} is {_size(found)} for {case.name}; expected {_size(expected[name])}")
    differences = [_difference(found, expected[name]) for name, found in answer.items() if name != "classes"]
    given = [answer["classes"]] if "classes" in answer else []
    given += [answer[name].argmax(1) for name in ("logits", "probabilities") if name in answer]
    changed = max((int((found != classes_NHW).sum()) for found in given), default=0)
    return CaseParity(case.name, case.samples, max(differences, default=None), changed, classes_NHW.size)


def _size(values: npt.NDArray[Any]) -> str:
    return " x ".join(map(str, values.shape))


def _difference(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Largest absolute difference; infinite if one of the numbers is not finite."""
    return float(np.abs(found - expected).max()) if np.isfinite(found).all() else math.inf


def _failure(
    name: str, results: tuple[CaseParity, ...], shares: Mapping[str, float], config: ExportConfig, *, exact: bool
) -> str:
    """Why a file did not pass, in one sentence; "" if it did."""
    different = [case for case in results if case.largest_difference is not None]
    worst = max(different, key=lambda case: case.largest_difference or 0.0, default=None)
    limit, parameter = config.max_changed_reduced, "max_changed_reduced"
    if exact:
        limit, parameter = config.max_changed, "max_changed"
    if worst is not None and worst.largest_difference == math.inf:
        return f"{name}: gives values that are NaN or infinite ({worst.name}); use another export.opset or format"
    if exact and worst is not None and not (worst.largest_difference or 0.0) <= config.tolerance:
        return (
            f"{name}: differs from the network by {worst.largest_difference:.3g} ({worst.name}), more than "
            f"export.tolerance {config.tolerance:.3g}, and {worst.changed_px} of {worst.total_px} pixels change class; "
            "try another export.opset, or raise export.tolerance if this is acceptable"
        )
    case, share = max(shares.items(), key=lambda item: item[1])
    if 100 * share > limit:
        return (
            f"{name}: {100 * share:.3g} % of the pixels get another class than from the network ({case}), more than "
            f"export.{parameter} {limit:g} %; raise it if this is acceptable"
        )
    return ""

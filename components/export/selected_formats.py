"""Write the selected formats into a package, and keep those that agree with the network.

In: a network and its answers to the cases of `parity_cases`. Out: the files, and for each format what `export.json`
records. A format that cannot be written, or differs, is left out with the reason; one of `export.required` stops the
step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.common.errors import reason
from components.common.files import with_weights
from components.common.inference.modelfile import ModelFacts
from components.export.config import ExportConfig, Format
from components.export.formats.known_formats import FORMATS, ExportFormat
from components.export.parity.format_parity import FormatParity, ParityError, check_format
from components.export.parity.parity_cases import Reference
from components.export.parity.runtimes import latency_ms
from model import MoBaNet

log = logging.getLogger(__name__)

Entry = dict[str, Any]
"""One format, as `export.json` records it."""


NOT_COMPARED = {"compared": "nothing", "largest_difference": None, "changed_share": None, "cases": ()}
"""The comparison of a file that was never written."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of one writer of a format."""

    variant: str
    parity: FormatParity | None  # None: no file was written
    failure: str  # one sentence; "" if the file agrees with the network


def write_formats(folder: Path, network: MoBaNet, config: ExportConfig, reference: Reference) -> dict[str, Entry]:
    """Write every selected format.

    Args:
        folder: of the package.
        network: without auxiliary heads, on the CPU, in evaluation mode.
        config: section `export`.
        reference: answers of the network.

    Returns:
        Name of a format -> its entry, in the order of `FORMATS`.

    Raises:
        ParityError: a required format cannot be written, or differs from the network.
    """
    made: dict[str, Entry] = {}
    for name, kind in FORMATS.items():
        if name in config.formats:
            made[name] = _written(name, kind, folder / kind.file, network, config, reference)
    return made


def _written(
    name: Format, kind: ExportFormat, path: Path, network: MoBaNet, config: ExportConfig, reference: Reference
) -> Entry:
    start = time.monotonic()
    log.info("writing %s", path.name)
    attempt = Attempt("", None, f"{path.name}: this version cannot write it")
    for variant in kind.writers:
        attempt = _attempted(name, variant, path, network, config, reference)
        if not attempt.failure:
            break
        for file in with_weights(path):
            file.unlink(missing_ok=True)
        log.info("variant %s is not used: %s", variant, attempt.failure)
    entry = _entry(kind, path, reference.facts, attempt)
    if not attempt.failure:
        log.info("%s: %.1f MB, %.0f s", path.name, entry["bytes"] / 1e6, time.monotonic() - start)
    elif name in config.required:
        raise ParityError(attempt.failure)
    else:
        log.warning("%s is left out: %s", name, attempt.failure)
    return entry


def _attempted(
    name: Format, variant: str, path: Path, network: MoBaNet, config: ExportConfig, reference: Reference
) -> Attempt:
    try:
        FORMATS[name].writers[variant](path, network, reference.facts, config)
    except Exception as error:  # exporters have a class per cause
        return Attempt(variant, None, f"{path.name}: cannot be written ({reason(error)})")
    parity = check_format(name, path, reference, config)
    return Attempt(variant, parity, parity.reason)


def _entry(kind: ExportFormat, path: Path, facts: ModelFacts, attempt: Attempt) -> Entry:
    exported = not attempt.failure
    measured = exported and kind.runtime == "onnxruntime"
    compared: Mapping[str, Any] = attempt.parity.as_json() if attempt.parity is not None else NOT_COMPARED
    return {
        "file": kind.file,
        "precision": kind.precision,
        "runtime": kind.runtime,
        "variant": attempt.variant,
        "bytes": sum(file.stat().st_size for file in with_weights(path)) if exported else None,
        "latency_ms": round(latency_ms(path, facts), 3) if measured else None,
        **compared,
        "status": "exported" if exported else "left out",
        "reason": attempt.failure,
    }


def without_timings(formats: Mapping[str, Entry]) -> dict[str, Entry]:
    """The entries as files of the package may repeat them: a measured time would change the package's identity."""
    return {
        name: {key: value for key, value in entry.items() if key != "latency_ms"} for name, entry in formats.items()
    }

"""`python -m components.train.weights.weight_checksums`: sha256 of the local weight files that params.yaml names.

DVC cannot depend on a file only if a parameter names one. Therefore a stage of its own writes the checksums at every
`dvc repro`, and train depends on them: another content under the same name trains again. Imports no torch, to be quick.
"""

from __future__ import annotations

from pathlib import Path

from pydantic.dataclasses import dataclass

from components.common.entrypoints.dvc import entry_point
from components.common.files import digest, write_json
from components.common.params import STRICT, Text, subset
from components.common.yaml_files import read_yaml
from components.train.weights.weight_sources import check_sources, local_file, require_file


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WeightSources:
    """The keys of section `model` that may name a file."""

    weights: Text
    init: Text | None

    def __post_init__(self) -> None:
        check_sources(self.weights, self.init)


def checksums(weights: str, init: str | None) -> dict[str, str]:
    """Key of params.yaml -> sha256 of the local file that it names.

    Raises:
        WeightsError: a file does not exist, or is a folder, a pointer to a file or a web page.
    """
    named = {"model.weights": local_file(weights), "model.init": local_file(init)}
    for key, path in named.items():
        if path is not None:
            require_file(path, key)
    return {key: digest(path) for key, path in named.items() if path is not None}


def main(params: Path, out: Path) -> None:
    """Write the checksums of the files that a params file names."""
    sources = subset(read_yaml(params), "model", WeightSources)
    write_json(out, checksums(sources.weights, sources.init))


if __name__ == "__main__":
    entry_point(
        "train.weights.weight_checksums",
        "Write the checksums of the local weight files that model.weights and model.init name.",
        {"out": "models/weights.json"},
        main,
    )

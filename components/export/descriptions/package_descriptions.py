"""Write the files of a package that describe it: model card, runnable example and STAC item.

In: the other files of the package, all of them written, and one evaluation. Out: `README.md`, `predict_example.py` and
`stac_item.json`. They depend on model, data and parameters only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.common.data.store import Manifest
from components.common.files import write_json
from components.common.inference.modelfile import ModelFacts
from components.export.descriptions import card, example, stac_item
from components.export.formats.free_sizes import multiple_px
from model import MoBaNet


def write_descriptions(
    folder: Path,
    network: MoBaNet,
    facts: ModelFacts,
    evaluation: Mapping[str, Any],
    formats: Mapping[str, Mapping[str, Any]],
    outputs: Sequence[str],
    manifest: Manifest,
    in_training: tuple[str, float] | None = None,
) -> None:
    """Write the descriptions; the STAC item lists all other files of the folder.

    Args:
        folder: of the package, with every file that describes no other.
        network: the packaged network.
        facts: its facts.
        evaluation: content of its `evaluation.json`.
        formats: formats of the package, as in its record.
        outputs: names of the outputs of the files, as `export.outputs` selects them.
        manifest: of the store; its tiles say where the network was trained if it was trained on this data version.
        in_training: as `card.render` takes it.
    """
    multiple = multiple_px(network, facts.window_px)
    (folder / card.FILE).write_text(card.render(facts, evaluation, formats, outputs, in_training, multiple))
    if any(found["status"] == "exported" and found["runtime"] == "onnxruntime" for found in formats.values()):
        example.write_example(folder / example.FILE)
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    item = stac_item.make(
        facts,
        evaluation,
        formats,
        files,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        outputs=outputs,
        free_size=multiple is not None,
        tiles=manifest.subset("train") if manifest.data_md5 == facts.data_md5 else (),
    )
    write_json(folder / stac_item.FILE, item)

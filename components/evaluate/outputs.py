"""The files of an evaluation. They are written to a draft folder and then moved, so a failure leaves earlier reports.

In: an `Evaluation`, thumbnails. Out: the files named in `OWNED` in the reports folder, and copies of them in the
training's MLflow run.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from components.common.data.store import Manifest
from components.common.files import write_json
from components.common.scoring.metrics import as_json
from components.common.tracking import run as tracking
from components.evaluate import pictures, report
from components.evaluate.record import Evaluation, comparable_metrics
from components.evaluate.tile_results import Thumbnails
from components.evaluate.worst_crops import Crop

log = logging.getLogger(__name__)

RECORD, METRICS, REPORT, PANELS = "evaluation.json", "metrics.json", "report.html", "panels"
CONFUSION_ROWS, CONFUSION_PICTURE = "confusion.csv", "confusion.png"

EXPERIMENT = "mobanet"
"""Experiment of a new MLflow run, used if the current store does not contain the model's training run."""

OWNED = (RECORD, METRICS, CONFUSION_ROWS, CONFUSION_PICTURE, PANELS, REPORT)
"""Files and folders that this step writes to the reports folder; all others belong to other steps."""


def write_reports(
    reports: Path,
    record: Evaluation,
    thumbnails: Sequence[Thumbnails],
    manifest: Manifest,
    crops: Sequence[Crop] = (),
) -> None:
    """Write all files of the evaluation; on failure, the files of an earlier one stay unchanged.

    Args:
        reports: folder for the files.
        record: the evaluation.
        thumbnails: layers of every test tile.
        manifest: manifest of the store, for class names and colours.
        crops: the worst crops of the test tiles, the worst first.
    """
    truth, condition = record.protocol.ground_truth, record.conditions[0]
    classes = record.protocol.classes
    reach = pictures.gate_reach(thumbnails)
    tiles = {t.tile: pictures.panels(t, manifest.palette, reach) for t in thumbnails}
    with _draft_of(reports) as draft:
        write_json(draft / RECORD, as_json(record))
        write_json(draft / METRICS, comparable_metrics(record))
        pictures.write_confusion_csv(draft / CONFUSION_ROWS, record.confusion[truth][condition], classes)
        pictures.write_confusion_png(draft / CONFUSION_PICTURE, record.confusion[truth], classes)
        (draft / PANELS).mkdir()
        for tile, panels in tiles.items():
            pictures.write_strip(draft / PANELS / f"{tile}.png", panels)
        (draft / REPORT).write_text(report.render(record, tiles, manifest, reach, crops))


@contextmanager
def _draft_of(reports: Path) -> Iterator[Path]:
    """Draft folder inside the reports folder; if the block succeeds, its files replace those named in `OWNED`."""
    reports.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".evaluate-", dir=reports) as folder:
        draft = Path(folder)
        yield draft
        for name in OWNED:
            target = reports / name
            if target.is_dir():
                shutil.rmtree(target)
            (draft / name).replace(target)


def send(run_id: str, reports: Path, record: Evaluation) -> None:
    """Add figures and files to the training's MLflow run, at the step of the checkpoint."""
    step = record.protocol.model.step
    numbers = {f"test/{name}": value for name, value in comparable_metrics(record).items()}
    numbers |= {f"test/iou/{name}": found.iou for name, found in record.headline.per_class.items()}
    with tracking.open_run("mlflow", experiment=EXPERIMENT, run_id=run_id) as run:
        run.metrics(numbers, step)
        run.image("test/confusion", np.asarray(Image.open(reports / CONFUSION_PICTURE).convert("RGB")), step)
        for name in OWNED:
            run.artifact(reports / name, "evaluation/panels" if name == PANELS else "evaluation")
    if not run.missing:
        log.info("added scores and reports to MLflow run %s", run.id)

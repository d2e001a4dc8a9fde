"""components/evaluate/pictures.py: rows for DVC, and panels with their titles."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from components.evaluate.pictures import CSV_ROWS, gate_reach, panels, write_confusion_csv, write_strip
from components.evaluate.tile_results import Thumbnails

PALETTE = ((255, 255, 255), (0, 0, 255))


def thumbnails(gate: float | None = 0.5) -> Thumbnails:
    classes_hw = np.array([[0, 1], [1, 255]], np.uint8)
    gate_hw = None if gate is None else np.full((2, 2), gate, np.float32)
    image_hw3, dsm_hw = np.full((2, 2, 3), 90, np.uint8), np.zeros((2, 2), np.float32)
    return Thumbnails("5_10", image_hw3, dsm_hw, classes_hw, {"rgb+dsm": classes_hw, "rgb": classes_hw}, gate_hw)


def test_rows_for_dvc_keep_the_proportions_of_the_pixels(tmp_path) -> None:
    write_confusion_csv(tmp_path / "c.csv", [[600_000_000, 100_000_000], [0, 300_000_000]], ("road", "roof"))
    header, *rows = (tmp_path / "c.csv").read_text().splitlines()
    assert header == "actual,predicted"
    assert Counter(rows) == {"road,road": 6000, "road,roof": 1000, "roof,roof": 3000}


def test_rows_for_dvc_are_always_as_many(tmp_path) -> None:
    counts_KK = np.random.default_rng(0).integers(0, 1000, (6, 6))
    write_confusion_csv(tmp_path / "c.csv", counts_KK, [f"c{k}" for k in range(6)])
    rows = Counter((tmp_path / "c.csv").read_text().splitlines()[1:])
    assert rows.total() == CSV_ROWS
    for (truth, predicted), pixels in np.ndenumerate(counts_KK):
        assert rows[f"c{truth},c{predicted}"] == pytest.approx(pixels / counts_KK.sum() * CSV_ROWS, abs=1)


def test_panels_come_in_the_order_in_which_they_are_read() -> None:
    titles = list(panels(thumbnails(), PALETTE, 0.5))
    assert titles == ["Image", "DSM", "Label", "Predicted: both sensors", "Predicted: image only", "Gate"]
    assert "Gate" not in panels(thumbnails(gate=None), PALETTE, 0.5)


def test_the_gates_colours_span_what_occurs_but_never_less_than_noise() -> None:
    assert gate_reach([thumbnails(0.2), thumbnails(0.2)]) == pytest.approx(0.3)
    assert gate_reach([thumbnails(0.5)]) == 0.05
    assert gate_reach([thumbnails(None)]) == 0.5


def test_a_strip_holds_every_panel_below_its_title(tmp_path) -> None:
    pictures = {"A": np.full((30, 20, 3), 10, np.uint8), "B": np.full((30, 40, 3), 20, np.uint8)}
    write_strip(tmp_path / "strip.png", pictures)
    pixels = np.asarray(Image.open(tmp_path / "strip.png"))
    assert pixels.shape[1] == 20 + 6 + 40
    assert (pixels[-30:, :20] == 10).all() and (pixels[-30:, 26:] == 20).all()
    assert pixels[:-30, :20].min() < 128  # the title is drawn

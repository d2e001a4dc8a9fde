"""components/evaluate/report.py: one self-contained page."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from components.common.data.store import Store
from components.common.inference.modelfile import InitialWeights
from components.common.uncertainty.intervals import Difference
from components.evaluate import report, report_pictures, report_tables
from components.evaluate.config import EvaluateConfig
from components.evaluate.pictures import panels
from components.evaluate.step import run
from tests.components.evaluate import report_example

CONFIG = EvaluateConfig(window_px=16, stride_px=16, batch_size=8, failure_probability=0.1, panel_px=64)
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Addresses and tags of a page; checks that every tag is closed in the right place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def words(text: str) -> str:
    """The text that a reader sees."""
    return re.sub(r"\s+", " ", re.sub(r"<(style|script)>.*?</\1>|<[^>]+>", " ", text, flags=re.S))


@pytest.fixture
def evaluated(make_store, use_network, by_rule, tmp_path):
    store = make_store()
    return run(CONFIG, store, use_network(by_rule(), store), tmp_path / "reports"), Store(store).manifest


def test_the_page_needs_nothing_but_itself(evaluated) -> None:
    text = evaluated[0].report.read_text()
    page = Page(text)
    assert page.open == []
    assert page.addresses.pop(0) == "data:,"  # no icon, so that none is requested
    assert len(page.addresses) == 2 * 7 and all(a.startswith("data:image/") for a in page.addresses)
    assert not {"iframe", "object"} & set(page.tags) and page.tags.count("script") == 1
    assert not re.search(r"https?://|@import|url\(", text)


def test_the_pages_policy_allows_its_own_script_and_nothing_else(evaluated) -> None:
    text = evaluated[0].report.read_text()
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}';" in text


def test_the_page_says_what_was_found(evaluated) -> None:
    result, _ = evaluated
    text = words(result.report.read_text())
    assert "100.0 mIoU with both sensors, 25.0 when the DSM is missing, 25.0 when the image is missing." in text
    assert "Fails without the DSM and without the image" in text and "alanced: both" not in text
    for part in (
        "Boundary IoU",
        "ECE",
        "Both sensors minus DSM",
    ):
        assert part in text
    assert "95 %" not in text and "interval" not in text  # two blocks give none
    assert (
        "Expected mIoU, E(0.1) each sensor fails with probability 0.1, at least one works 86.4" in text
    )  # (0.81 * 100 + 0.09 * 50) / 0.99
    assert "Impervious 100.0 100.0 100.0 100.0" in text and "Car – – – –" in text
    for part in (result.evaluation.protocol.data_md5, result.evaluation.protocol.model.sha256, "Generated scenes."):
        assert part in text


@pytest.fixture(scope="module")
def example_text() -> str:
    return report_example.page(tiles=3, side_px=192)


def test_every_bar_has_its_interval(example_text) -> None:
    record = report_example.example(3, 192)[0]
    for condition, scores in record.scores["eroded"].items():
        limits = record.intervals.figures[f"miou/{condition}"]
        assert f"{scores.miou:.1f} {limits[0]:.1f} to {limits[1]:.1f}" in words(example_text)
        for name, found in scores.per_class.items():
            low, high = record.intervals.figures[f"iou/{condition}/{name}"]
            assert f"{found.iou:.1f} ({low:.1f} to {high:.1f})" in words(example_text)
            place = f'class="whisker" style="left: {low:.1f}%; width: {high - low:.1f}%"'
            assert place in example_text
    assert "95 % interval: 1000 resamples of 18 blocks of 256 px of the test tiles, which are worth 11.5" in words(
        example_text
    )


def test_differences_say_what_is_noise(example_text) -> None:
    record = report_example.example(3, 192)[0]
    v = {condition: scores.miou for condition, scores in record.scores["eroded"].items()}
    gain = v["rgb+dsm"] - v["rgb"]
    said = f"Both sensors minus image only {gain:+.1f} ({gain - 3:+.1f} to {gain + 3:+.1f})"
    assert said in words(example_text) and f"{said} within" not in words(example_text)
    record.intervals.differences["rgb+dsm - rgb"] = Difference(0.4, -0.1, 0.9)
    first, *_ = report_tables.differences(record)
    assert first == report_tables.Difference("Both sensors minus image only", 0.4, "-0.1 to +0.9", noise=True)


def test_boundary_confidence_and_degraded_inputs_are_shown(example_text) -> None:
    record, text = report_example.example(3, 192)[0], words(example_text)
    assert "Boundary IoU" in text and f"{record.boundary['rgb'].miou:.1f} (image only)" in text
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    assert text.count("ECE 6.1 % before, 1.8 % with temperature 1.43") == 3 == example_text.count("<svg")
    assert example_text.count("<circle") == example_text.count('<rect class="of"') == 3 * 12  # bins with pixels
    assert "Lost band, image red" in text and "mIoU with all sensors of the network if one of them is degraded" in text
    worst = record.robustness[6]
    assert f"1 m {worst.miou:.1f} ({worst.change:+.1f})" in text and "Noise, image" in text and "Shift, DSM" in text


def test_conditions_name_their_tiles_if_some_lack_a_sensor(example_text) -> None:
    assert "Both sensors: 2 of 3 tiles; Image only: 3 of 3 tiles; DSM only: 2 of 3 tiles" in words(example_text)
    record = report_example.example(1, 192)[0]
    assert report_tables.coverage(record) == {}


def test_worst_crops_are_named_and_shown(example_text) -> None:
    crops = report_example.example(3, 192)[2]
    assert [round(crop.error) for crop in crops] == sorted((round(crop.error) for crop in crops), reverse=True)
    found = crops[0].entry(report_example.NAMES)
    first = found.confusions[0]
    names = (first.truth.replace("_", " "), first.predicted.replace("_", " "))
    assert f"tile {found.tile}, row {found.row}, column {found.column}" in words(example_text)
    assert f"{names[0]} taken for {names[1]}: {first.share:.0f} %" in words(example_text)
    assert example_text.count(f"of the crop of tile {found.tile}") >= 4


def test_an_evaluation_without_uncertainty_still_has_a_page() -> None:
    record, thumbnails, _, manifest = report_example.example(1, 96)
    record = replace(record, intervals=None, boundary={}, calibration={}, robustness=None)
    layers = panels(thumbnails[0], manifest.palette, 0.5)
    text = words(report.render(record, {"5_10": layers}, manifest, 0.5))
    assert "interval" not in text and "ECE" not in text and "Boundary IoU" not in text


def test_the_page_states_the_licence_of_the_initial_weights(evaluated) -> None:
    result, manifest = evaluated
    start = InitialWeights("models:/mobanet/3", "a" * 64, "DINOv3 <License>")
    model = replace(result.evaluation.protocol.model, initial_weights=start)
    record = replace(result.evaluation, protocol=replace(result.evaluation.protocol, model=model))
    text = report.render(record, {"5_10": {"Image": np.zeros((8, 8, 3), np.uint8)}}, manifest, 0.5)
    assert "models:/mobanet/3; licence of the pretrained weights: DINOv3 &lt;License&gt;" in text


def test_text_of_the_data_cannot_break_the_page(evaluated) -> None:
    result, manifest = evaluated
    picture = {"5_10": {"Image": np.zeros((8, 8, 3), np.uint8)}}
    text = report.render(result.evaluation, picture, replace(manifest, acknowledgement="<script>x</script>"), 0.5)
    assert text.count("<script>") == 1 and "&lt;script&gt;x" in text


def test_many_tiles_stay_within_the_budget_by_shrinking_then_by_leaving_out(evaluated, monkeypatch) -> None:
    result, manifest = evaluated
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    tiles = {f"5_{n}": {"Image": noise} for n in range(10)}
    monkeypatch.setattr(report_pictures, "PICTURE_BUDGET", 200_000)
    text = report.render(result.evaluation, tiles, manifest, 0.5)
    assert text.count('src="data:image') == 10 and len(text) < 230_000
    monkeypatch.setattr(report_pictures, "PICTURE_BUDGET", 40_000)
    text = report.render(result.evaluation, tiles, manifest, 0.5)
    shown = text.count('src="data:image')
    assert 0 < shown < 10 and f"{10 - shown} more tiles are in the folder panels" in text

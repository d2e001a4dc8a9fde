"""The report of an evaluation in Chromium: the map's divider, narrow screens, print; nothing is loaded."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from components.common.scoring.panels import class_picture
from components.evaluate.report import render
from tests.components.evaluate.report_example import example
from tests.components.evaluate.report_example import page as example_page
from tests.e2e.browser import NEEDED, browser_page, keep

pytestmark = [pytest.mark.system, NEEDED]

STAGE, DIVIDER = "#stage", "#divider"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(example_page(tiles=3))
    return path.as_uri()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["wide", "narrow"])
def opened(address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The report in a window; at the end, it has loaded nothing and has no error."""
    with browser_page(*request.param) as (page, errors):
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.locator(STAGE).scroll_into_view_if_needed()
        yield page
        assert [url for url in requests if not url.startswith("data:")] == [address]
        assert errors == []


def pixels(page: Page) -> np.ndarray:
    """The stage as it is shown, `[H, W, 3]`."""
    return np.asarray(Image.open(io.BytesIO(page.locator(STAGE).screenshot())).convert("RGB")).astype(int)


def split(page: Page) -> float:
    """Position of the divider on the stage, 0..1."""
    return page.evaluate(
        """() => {
            const stage = document.querySelector('#stage').getBoundingClientRect();
            const line = document.querySelector('#stage .line').getBoundingClientRect();
            return (line.left + line.width / 2 - stage.left) / stage.width;
        }"""
    )


def layer(page: Page, title: str) -> str:
    return page.locator(".tile.chosen figure", has_text=title).first.locator("img").get_attribute("src")


def shown_alone(page: Page, title: str) -> np.ndarray:
    """Pixels of the stage with one layer on both sides."""
    choices = [page.locator("#left").input_value(), page.locator("#right").input_value()]
    for side in ("#left", "#right"):
        page.select_option(side, title)
    found = pixels(page)
    for side, title in zip(("#left", "#right"), choices, strict=True):
        page.select_option(side, title)
    return found


def test_the_map_opens_with_the_image_and_the_prediction(opened: Page) -> None:
    assert opened.locator("#viewer").is_visible() and split(opened) == pytest.approx(0.5, abs=0.01)
    assert opened.locator("#stage .left").get_attribute("src") == layer(opened, "Image")
    assert opened.locator("#stage .right").get_attribute("src") == layer(opened, "Predicted: both sensors")
    assert opened.locator("#left option").all_inner_texts() == [
        *("Image", "DSM", "Label", "Predicted: both sensors", "Predicted: image only", "Predicted: DSM only", "Gate")
    ]
    keep(opened, f"report-map-{opened.viewport_size['width']}.png")


def test_the_mouse_moves_the_divider_and_uncovers_the_right_pixels(opened: Page) -> None:
    box = opened.locator(STAGE).bounding_box()
    opened.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.3 * box["height"])
    opened.mouse.down()
    for share in (0.4, 0.3, 0.25):
        opened.mouse.move(box["x"] + share * box["width"], box["y"] + 0.3 * box["height"])
    opened.mouse.up()
    opened.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.5 * box["height"])  # not dragged any more
    assert split(opened) == pytest.approx(0.25, abs=0.02)
    left, right, found = shown_alone(opened, "Image"), shown_alone(opened, "Predicted: both sensors"), pixels(opened)
    rows, width = slice(10, len(found) // 3), found.shape[1]  # above the knob and the names
    for part, expected in (
        (slice(5, int(0.22 * width)), left),
        (slice(int(0.28 * width), width - 5), right),
    ):
        assert np.abs(found[rows, part] - expected[rows, part]).mean() < 1
    assert np.abs(left - right)[rows].mean() > 20  # the two differ, so the test can see which one is shown


def test_the_keyboard_moves_the_divider(opened: Page) -> None:
    opened.focus(DIVIDER)
    for key, expected in (("Home", 0.0), ("ArrowRight", 0.01), ("End", 1.0), ("ArrowLeft", 0.99), ("PageDown", 0.89)):
        opened.keyboard.press(key)
        assert split(opened) == pytest.approx(expected, abs=0.02), key
    opened.keyboard.press("Home")
    np.testing.assert_allclose(
        pixels(opened)[10:100, 20:-5], shown_alone(opened, "Predicted: both sensors")[10:100, 20:-5], atol=1
    )
    label = opened.locator(DIVIDER)
    assert label.get_attribute("aria-label") and "Image" in label.get_attribute("aria-valuetext")


def test_a_finger_moves_the_divider(address: str) -> None:
    with browser_page(390, 844) as (page, errors):
        page.goto(address)
        page.locator(STAGE).scroll_into_view_if_needed()
        box = page.locator(STAGE).bounding_box()
        touch = page.context.new_cdp_session(page)
        for kind, share in (("touchStart", 0.5), ("touchMove", 0.6), ("touchMove", 0.8), ("touchEnd", None)):
            at = [] if share is None else [{"x": box["x"] + share * box["width"], "y": box["y"] + 40}]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
        assert split(page) == pytest.approx(0.8, abs=0.02)
        assert errors == []


def test_another_tile_keeps_the_layers_that_it_has(opened: Page) -> None:
    opened.select_option("#left", "Label")
    opened.select_option("#right", "Gate")
    opened.select_option("#tile", "5_11")
    assert opened.locator(".tile.chosen h3").inner_text() == "Tile 5_11"
    assert opened.locator("#stage .left").get_attribute("src") == layer(opened, "Label")
    assert opened.locator("#stage .right").get_attribute("src") == layer(opened, "Gate")
    opened.select_option("#tile", "5_12")  # no DSM, so neither its gate nor two of the predictions
    assert opened.locator("#right option").all_inner_texts() == ["Image", "Label", "Predicted: image only"]
    assert opened.locator("#stage .left").get_attribute("src") == layer(opened, "Label")
    assert opened.locator("#stage .right").get_attribute("src") == layer(opened, "Predicted: image only")


def test_the_page_is_as_wide_as_the_window(opened: Page) -> None:
    wide, window = opened.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide == window
    small = opened.evaluate(
        """() => [...document.querySelectorAll('main *')].filter(element =>
            element.childNodes.length && [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim()) &&
            !element.closest('svg') && parseFloat(getComputedStyle(element).fontSize) < 11).map(e => e.outerHTML)"""
    )
    assert small == []


def test_print_shows_the_pictures_of_every_tile_and_no_controls(opened: Page) -> None:
    assert opened.locator(".tile:visible").count() == 1
    opened.emulate_media(media="print")
    assert opened.locator(".tile:visible").count() == 3 and not opened.locator("#viewer").is_visible()
    complete = opened.evaluate(
        """() => [...document.querySelectorAll('.panels img')].every(
            picture => picture.naturalWidth && picture.getBoundingClientRect().width > 40)"""
    )
    assert complete and len(opened.pdf(format="A4")) > 50_000


def test_without_scripts_the_page_shows_all_pictures(address: str) -> None:
    with browser_page() as (page, _):
        still = page.context.browser.new_page(java_script_enabled=False)
        still.goto(address)
        assert still.locator(".tile:visible").count() == 3 and not still.locator("#viewer").is_visible()


def test_a_single_tile_needs_no_choice(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(example_page(tiles=1, side_px=96))
    with browser_page() as (page, errors):
        page.goto(path.as_uri())
        assert not page.locator("#tile").is_visible() and page.locator("#left").is_visible()
        assert errors == []


def test_fourteen_tiles_of_noise_make_less_than_5_mb() -> None:
    record, _, crops, manifest = example(2)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (768, 768, 3), np.uint8)
    classes = class_picture(rng.integers(0, 6, (768, 768)), manifest.palette)
    layers = {"Image": noise, "DSM": noise, "Label": classes, "Predicted: both sensors": classes, "Gate": noise}
    text = render(record, {f"5_{n}": layers for n in range(14)}, manifest, 0.5, crops)
    assert text.count('src="data:image') == 14 * len(layers) + 4 * len(crops)  # shrunk, not left out
    assert 2_500_000 < len(text.encode()) < 5_000_000

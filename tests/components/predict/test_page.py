"""components/predict/publication/page.py and map_pictures.py: what the page of a map shows."""

from __future__ import annotations

import re

import numpy as np
import pytest
import rasterio

from components.predict.publication.map_pictures import classes_picture, heights, photograph
from components.predict.publication.page import write_page
from tests.components.predict.small_map import NAMES, PALETTE, write_map, write_raster


@pytest.fixture
def page(tmp_path):
    """The page of a map with an image and heights."""
    output, summary = write_map(tmp_path)
    image = write_raster(tmp_path / "image.tif", np.full((3, 40, 60), 90, np.uint8))
    write_page(tmp_path / "city.html", output, summary, [str(image)], [])
    return (tmp_path / "city.html").read_text()


def test_the_page_contains_two_pictures_and_loads_nothing(page):
    assert len(re.findall(r'<img src="data:image/(?:png|jpeg);base64,', page)) == 2
    assert "<script" not in page and not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert len(page) < 1_000_000


def test_classes_are_listed_by_their_area_in_their_colour(page):
    rows = re.findall(r'rgb\((\d+, \d+, \d+)\)"></span>([^<]+)</th>.*?([\d.]+ %)</td><td class="n">([^<]+)<', page)
    assert rows == [
        ("0, 0, 255", "Building", "75.0 %", "1.80 ha"),
        ("255, 255, 255", "Paved road", "25.0 %", "6,000 m²"),
    ]


def test_the_page_states_sensors_seams_origin_and_files(page):
    for text in ("50.0 %", "97.50 %", "models:/mobanet/3", "version 3", "abc123", 'href="city.tif"'):
        assert text in page, text


def test_a_name_with_markup_is_text(tmp_path):
    output, summary = write_map(tmp_path, "<b>&city")
    image = write_raster(tmp_path / "image.tif", np.zeros((3, 40, 60), np.uint8))
    write_page(tmp_path / "page.html", output, summary, [str(image)], [])
    assert "Map of &lt;b&gt;&amp;city" in (tmp_path / "page.html").read_text()


def test_the_map_and_the_image_have_pictures_of_one_size(tmp_path):
    output, _ = write_map(tmp_path)
    image = write_raster(tmp_path / "image.tif", np.zeros((3, 40, 60), np.uint8))
    sizes = {picture.shape for picture in (classes_picture(output, PALETTE, 25), photograph([str(image)], 25))}
    assert sizes == {(14, 20, 3)}


def test_a_picture_of_an_image_has_the_mean_of_its_pixels_in_strips_of_any_height(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 41, 60), np.uint8)
    image = write_raster(tmp_path / "image.tif", pixels)
    monkeypatch.setattr("components.predict.publication.map_pictures.STRIP_PX", 8)
    picture = photograph([str(image)], 15)
    assert picture.shape == (11, 15, 3)
    assert picture[1, 2].tolist() == pixels[:, 4:8, 8:12].mean((1, 2)).astype(np.uint8).tolist()
    assert picture[10, 2].tolist() == pixels[:, 40:, 8:12].mean((1, 2)).astype(np.uint8).tolist()


def test_an_image_of_16_bits_is_stretched_and_one_with_a_palette_has_its_colours(tmp_path):
    ramp = np.tile(np.linspace(1000, 3000, 60, dtype=np.uint16), (3, 40, 1))
    picture = photograph([str(write_raster(tmp_path / "deep.tif", ramp))], 60)
    assert picture[0, 0, 0] == 0 and picture[0, -1, 0] == 255 and 110 < picture[0, 30, 0] < 145
    path = tmp_path / "palette.tif"
    with rasterio.open(path, "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8") as file:
        file.write(np.full((1, 4, 4), 7, np.uint8))
        file.write_colormap(1, {7: (10, 20, 30, 255)})
    assert photograph([str(path)], 4)[0, 0].tolist() == [10, 20, 30]


def test_heights_that_are_not_measured_are_purple(tmp_path):
    metres = np.tile(np.linspace(0, 9, 60, dtype=np.float32), (1, 40, 1))
    metres[0, :4, :4] = -9999
    picture = heights([str(write_raster(tmp_path / "dsm.tif", metres, nodata=-9999))], 60)
    assert picture[0, 0].tolist() == [128, 0, 128] and picture[0, 10].tolist() != [128, 0, 128]


def test_the_names_of_the_sample_are_readable(page):
    assert NAMES[1] == "paved_road" and "paved_road" not in page

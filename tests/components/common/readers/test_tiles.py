import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio import Affine

from components.common.data.config import Accepted
from components.common.data.datasets import IGNORE
from components.common.data.layerinfo import LabelInfo
from components.common.errors import ParamsError
from components.common.params import read_yaml
from components.common.rasterfiles.rasters import Rejected
from components.common.readers.tiles import ReaderSettings, open_tile, reader_settings
from tests.components.common.readers.conftest import HERE, codes, read_heights, write

SETTINGS = ReaderSettings(max_pad_px=8, max_unknown_share=0.001)
AWAY = {"transform": HERE @ Affine.translation(60, 0)}  # covers a quarter of the image


def test_a_tile_opens_with_all_its_layers_on_the_grid_of_its_image(tile):
    tile.write("eroded", tile.label_HW[None])
    with ExitStack() as stack:
        opened = open_tile(tile.files(eroded=LabelInfo(files="eroded.tif")), SETTINGS, stack)
        rows = slice(20, 40)
        np.testing.assert_array_equal(opened.image.rows(rows).image_hWC, np.moveaxis(tile.image_BHW, 0, -1)[rows])
        np.testing.assert_array_equal(opened.dsm.metres(rows), tile.dsm_HW[rows])
        np.testing.assert_array_equal(opened.label.rows(rows).y_hW, tile.label_HW[rows])
        np.testing.assert_array_equal(opened.eroded.rows(rows).y_hW, tile.label_HW[rows])
        assert (opened.grid.height_px, opened.grid.width_px, opened.grid.transform) == (60, 80, HERE)
        assert (opened.grid.crs, opened.notes) == ("EPSG:32633", [])
        opened.finish()


def without(files, kind):
    """The files of a tile whose heights have a file of their own, without one layer."""
    dataset = replace(files.dataset, dsm=replace(files.dataset.dsm, files="{tile}_dsm.tif"))
    return replace(files, dataset=dataset, paths={key: path for key, path in files.paths.items() if key != kind})


def test_a_tile_without_a_dsm_opens_with_its_image_alone(tile):
    with ExitStack() as stack:
        opened = open_tile(without(tile.files(), "dsm"), SETTINGS, stack)
        assert opened.dsm is None and opened.grid.transform == HERE
        np.testing.assert_array_equal(opened.image.rows(slice(0, 60)).image_hWC, np.moveaxis(tile.image_BHW, 0, -1))
        np.testing.assert_array_equal(opened.label.rows(slice(0, 60)).y_hW, tile.label_HW)
        opened.finish()


def test_a_tile_without_an_image_opens_on_the_grid_of_its_dsm(tile):
    heights = tile.dsm_HW[::2, ::2]
    tile.write("dsm", heights[None], transform=HERE @ Affine.scale(2))
    with ExitStack() as stack:
        opened = open_tile(without(tile.files(), "image"), SETTINGS, stack)
        assert opened.image is None
        assert (opened.grid.height_px, opened.grid.width_px, opened.grid.transform) == (30, 40, HERE @ Affine.scale(2))
        np.testing.assert_array_equal(read_heights(opened.dsm), heights)
        assert opened.label.rows(slice(0, 30)).y_hW.shape == (30, 40)  # warped
        assert [(kind, note.code) for kind, note in opened.notes] == [("label", "label-warped")]
        assert "than the DSM's; warped to the DSM's grid" in opened.notes[0][1].sentence
        opened.finish()


def test_a_label_must_fit_the_dsm_where_there_is_no_image(tile):
    tile.write("label", tile.label_HW[None, :, :40], transform=None)
    with ExitStack() as stack, pytest.raises(Rejected) as caught:
        open_tile(without(tile.files(own=False), "image"), SETTINGS, stack)
    assert caught.value.code == "grid-mismatch" and "the DSM 80 x 60 px" in caught.value.sentence


@pytest.mark.parametrize("kind", ["image", "dsm"])
def test_the_sensors_of_a_tile_follow_from_its_files(tile, kind):
    files = tile.files()
    assert files.sensors == ("rgb", "dsm")
    assert without(files, kind).sensors == (("dsm",) if kind == "image" else ("rgb",))
    shared = replace(files, dataset=replace(files.dataset, dsm=replace(files.dataset.dsm, files="dsm.tif")))
    assert replace(shared, paths={"dsm": "dsm.tif", "label": "label.tif"}).sensors == ()


def test_the_notes_of_all_layers_come_with_their_layer_in_order(tile):
    tile.image_BHW[:, :2] = 0
    tile.write("image", tile.image_BHW, nodata=0)
    tile.write("dsm", tile.dsm_HW[None, :, :78], units=["ft"])
    tile.write("label", np.where(tile.label_HW == 0, 9, 1)[None, :, :75].astype(np.uint8), nodata=9)
    with ExitStack() as stack:
        opened = open_tile(tile.files(), SETTINGS, stack)
        opened.image.rows(slice(0, 60))
        read_heights(opened.dsm)
        opened.label.rows(slice(0, 60))
        opened.finish()
        found = [(kind, note.code) for kind, note in opened.notes]
    expected = [("image", "image-missing"), ("dsm", "padded"), ("dsm", "unit-converted"), ("label", "padded")]
    assert [one for one in found if one != ("label", "label-missing")] == expected


@pytest.mark.parametrize(
    ("layer", "code", "facts"),
    [("image", "crs-missing", {"crs": None}), ("dsm", "low-coverage", AWAY), ("label", "low-coverage", AWAY)],
)
def test_a_finding_about_a_position_can_be_accepted_for_a_tile_or_for_all(tile, layer, code, facts):
    pixels = {"image": tile.image_BHW, "dsm": tile.dsm_HW[None], "label": tile.label_HW[None]}
    tile.write(layer, pixels[layer], **facts)

    def opened(accept):
        reader = tile.reader(accept=accept)
        return reader.layers["image"] if layer == "image" else reader.dsm() if layer == "dsm" else reader.label("label")

    for accept in ({}, {code: ("b",)}, {"dsm-blank": "all"}):
        with pytest.raises(Rejected) as caught:
            opened(accept)
        assert caught.value.code == code
        assert caught.value.sentence.endswith(f'; to accept it, set check.accept: {{{code}: ["a"]}}')
    for accept in ({code: ("a",)}, {code: ("b", "a")}, {code: "all"}):
        assert code in codes(opened(accept))


def test_unknown_labels_can_be_accepted_and_are_ignored(tile):
    tile.label_HW[:30] = 77
    tile.write("label", tile.label_HW[None])
    with pytest.raises(Rejected, match=r"label-unknown: \[.a.\]") as caught:
        tile.labels()
    assert caught.value.code == "label-unknown"
    y_HW, found = tile.labels(accept={"label-unknown": ("a",)})
    assert ((y_HW[:30] == IGNORE).all(), found) == (True, ["label-unknown"])
    np.testing.assert_array_equal(y_HW[30:], tile.label_HW[30:])


def test_a_tile_without_heights_can_be_accepted_and_has_none(tile):
    tile.write("dsm", np.full((1, 60, 80), np.nan, np.float32))
    with pytest.raises(Rejected, match="dsm-blank"):
        tile.heights()
    metres_HW, found = tile.heights(accept={"dsm-blank": "all"})
    assert (np.isnan(metres_HW).all(), found) == (True, ["dsm-blank"])


NEVER = {
    "grid-mismatch": lambda tile: tile.write("dsm", tile.dsm_HW[None, :50], transform=None, crs=None),
    "band-count": lambda tile: tile.write("dsm", np.stack([tile.dsm_HW] * 2)),
    "pixel-type": lambda tile: tile.write("dsm", tile.dsm_HW[None].astype(np.uint8)),
    "unreadable": lambda tile: os.truncate(tile.path("dsm"), 300),
    "dsm-units-differ": lambda tile: tile.write("dsm", tile.dsm_HW[None], units=["ft"]),
}


@pytest.mark.parametrize("code", NEVER)
def test_what_makes_a_layer_unusable_cannot_be_accepted(tile, code):
    NEVER[code](tile)
    dsm = {"unit_m": 0.01} if code == "dsm-units-differ" else {}
    with pytest.raises(Rejected) as caught:
        tile.heights(accept={code: "all", "low-coverage": "all"}, dsm=dsm)
    assert (caught.value.code, "check.accept" in caught.value.sentence) == (code, False)


def test_a_nodata_value_that_is_a_class_cannot_be_accepted(tile):
    tile.write("label", tile.label_HW[None], nodata=0)
    with pytest.raises(Rejected, match="is also the class ground") as caught:
        tile.labels(accept={"label-nodata": "all"})
    assert "check.accept" not in caught.value.sentence


def test_an_image_without_a_crs_has_the_one_of_the_data_set(tile):
    tile.write("image", tile.image_BHW, crs=None)
    assert tile.reader(crs="EPSG:32633").grid.crs == "EPSG:32633"
    tile.write("image", tile.image_BHW, crs=None, transform=None)
    assert tile.reader().grid.transform is None  # without a position, no CRS is needed


def test_an_image_never_takes_its_position_from_another_layer(tile):
    tile.write("image", tile.image_BHW, crs=None, transform=None)
    reader = tile.reader()
    metres_HW = read_heights(reader.dsm())
    np.testing.assert_array_equal(metres_HW, tile.dsm_HW)
    assert (reader.grid.transform, reader.grid.crs) == (None, None)


def test_bands_of_rows_end_at_cells_of_the_ground(tile):
    reader = tile.reader(gsd_m=0.05)
    bands = reader.bands()
    assert [row for band in bands for row in range(band.start, band.stop)] == list(range(60))
    assert all((band.stop - band.start) % 10 == 0 for band in bands[:-1])


def test_inputs_are_the_rasters_and_their_sidecar_files(tile):
    for name in (
        "dsm.tfw",
        "DSM.PRJ",
        "dsm.tif.aux.xml",
        "dsm.tif.msk",
        "label.prj",
        "a.tif.ovr",
        "other.tfw",
        "a.txt",
    ):
        (tile.folder / name).write_text("")
    assert tile.files().inputs() == sorted(
        ["a.tif", "dsm.tif", "dsm.tfw", "DSM.PRJ", "dsm.tif.aux.xml", "dsm.tif.msk", "label.tif", "label.prj"]
    )


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_inputs_name_the_sources_of_a_vrt_and_their_sidecar_files(tile, relative, monkeypatch):
    (tile.folder / "parts").mkdir()
    source = tile.folder / "parts" / "west.tif"
    tile.path("dsm").rename(source)
    (tile.folder / "parts" / "west.tfw").write_text("")
    rasterio.shutil.copy(source, tile.folder / "dsm.vrt", driver="VRT")
    files = tile.files()
    if relative:
        monkeypatch.chdir(tile.folder.parent)
        files = replace(files, folder=Path(tile.folder.name))
    files = replace(files, paths={**files.paths, "dsm": "dsm.vrt"})
    expected = ["a.tif", "dsm.vrt", "label.tif", "parts/west.tfw", "parts/west.tif"]
    assert [name for name in files.inputs() if not name.endswith(".aux.xml")] == expected


def test_the_settings_come_from_params_yaml():
    settings = reader_settings(read_yaml(Path("params.yaml")))
    assert (settings.max_pad_px, settings.max_unknown_share, settings.accept) == (8, 0.001, Accepted())


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        ({}, "check.accept is missing"),
        ({"accept": {"low-coverage": "some"}}, "check.accept.low-coverage is 'some'; expected a list of tile ids"),
        ({"accept": {"low-coverage": []}}, "check.accept.low-coverage is []; expected a list"),
        ({"accept": {"low-coverage": [210]}}, "in quotes"),
    ],
)
def test_a_wrong_setting_is_named(check, sentence):
    document = {"preprocess": {"max_pad_px": 8, "max_unknown_share": 0.1}, "check": check}
    with pytest.raises(ParamsError) as caught:
        reader_settings(document)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_whole_numbers_of_64_bits_are_heights(tile, dtype):
    tile.write("dsm", tile.dsm_HW[None].astype(dtype))
    np.testing.assert_array_equal(tile.heights()[0], tile.dsm_HW.astype(dtype))


def test_eight_bits_with_an_offset_are_heights(tile):
    tile.write("dsm", np.rint(tile.dsm_HW[None]).astype(np.uint8), offsets=(200,))
    np.testing.assert_array_equal(tile.heights()[0], np.rint(tile.dsm_HW) + 200)
    tile.write("dsm", np.rint(tile.dsm_HW[None]).astype(np.uint8))
    np.testing.assert_array_equal(tile.heights(dsm={"offset": 100})[0], np.rint(tile.dsm_HW) + 100)


@pytest.mark.parametrize("scale", [0.0, np.nan])
def test_a_scale_that_is_of_no_use_is_noted_and_not_applied_to_any_layer(tile, scale):
    tile.write("image", tile.image_BHW, scales=(scale,) * 3)
    tile.write("dsm", tile.dsm_HW[None], scales=(scale,))
    tile.write("label", tile.label_HW[None], scales=(scale,))
    image_HWC, _, found = tile.image()
    np.testing.assert_array_equal(image_HWC, np.moveaxis(tile.image_BHW, 0, -1))
    metres_HW, of_heights = tile.heights()
    np.testing.assert_array_equal(metres_HW, tile.dsm_HW)
    y_HW, of_labels = tile.labels()
    np.testing.assert_array_equal(y_HW, tile.label_HW)
    assert found == of_heights == of_labels == ["scale-applied"]


@pytest.mark.parametrize("kind", ["image", "dsm", "label"])
def test_a_mask_that_gdal_ignores_is_rejected_until_it_states_that_it_is_one(tile, kind):
    valid_HW = np.full((1, 60, 80), 255, np.uint8)
    valid_HW[0, 10:20, 30:35] = 0
    mask = write(tile.folder / "valid.tif", valid_HW).rename(f"{tile.path(kind)}.msk")

    def missing():
        read = {"image": lambda: tile.image()[1], "dsm": lambda: np.isnan(tile.heights()[0])}
        return read.get(kind, lambda: tile.labels()[0] == IGNORE)()

    with pytest.raises(Rejected, match=f"gdal_edit -mo INTERNAL_MASK_FLAGS_1=2 {mask.name}, or delete") as caught:
        missing()
    assert caught.value.code == "mask-unread"
    with rasterio.open(mask, "r+", driver="GTiff") as file:
        file.update_tags(INTERNAL_MASK_FLAGS_1=2)
    np.testing.assert_array_equal(missing(), valid_HW[0] == 0)

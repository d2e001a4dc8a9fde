from dataclasses import replace

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio import Affine

from components.common.data.datasets import IGNORE
from components.common.data.layerinfo import LabelInfo
from components.common.rasterfiles.rasters import Rejected
from components.common.readers.labels import contradiction
from tests.components.common.readers.conftest import HERE, TOWN, codes

FULL = TOWN.classes
TWO = FULL[:2]  # without water, whose value is 255


def values(*row, dtype="uint8"):
    return np.array([[row]], dtype)


def colours(*row):
    return np.moveaxis(np.array([row], np.uint8), -1, 0)


def of(tile, pixels_BHW, *, label=None, **changes):
    """Classes of a label of one row, and the codes of the notes."""
    tile.write("image", np.ones((3, 1, pixels_BHW.shape[-1]), np.uint8))
    facts = {
        key: changes.pop(key) for key in ("nodata", "palette", "hidden_HW", "own_mask", "colours") if key in changes
    }
    tile.write("label", pixels_BHW, **facts)
    y_HW, found = tile.labels(label=label or {}, **changes)
    return y_HW[0].tolist(), found


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "int64", "uint64", "float32", "float64"])
def test_values_of_any_type_become_classes(tile, dtype):
    assert of(tile, values(0, 1, 255, 1, dtype=dtype)) == ([0, 1, 2, 1], [])


def test_values_to_ignore_are_not_labelled_and_not_unknown(tile):
    assert of(tile, values(0, 1, 9, 8), label={"ignore": (9, 8)}) == ([0, 1, IGNORE, IGNORE], [])


def test_255_is_not_labelled_unless_it_is_a_class(tile):
    assert of(tile, values(0, 255), classes=TWO) == ([0, IGNORE], [])
    assert of(tile, values(0, 255)) == ([0, 2], [])


def test_nan_is_not_labelled(tile):
    assert of(tile, values(0, np.nan, 1, dtype="float32")) == ([0, IGNORE, 1], [])


@pytest.mark.parametrize("mark", [(128, 0, 128), (255, 0, 255), (7, 7, 7)])
def test_colours_to_ignore_may_be_any_colour(tile, mark):
    found = of(tile, colours((255, 255, 255), mark, (0, 0, 255)), labels="colours", label={"ignore": (mark,)})
    assert found == ([0, IGNORE, 2], [])


def test_a_nodata_value_of_the_file_that_is_no_class_is_not_labelled(tile):
    assert of(tile, values(0, 1, 9), nodata=9) == ([0, 1, IGNORE], ["label-missing"])


def test_nodata_of_dataset_yaml_replaces_that_of_the_file(tile):
    assert of(tile, values(0, 1, 9), nodata=0, label={"nodata": (9,)}) == ([0, 1, IGNORE], [])
    assert of(tile, values(0, 1, 1), nodata=0, label={"nodata": ()}) == ([0, 1, 1], [])
    assert of(tile, values(0, 1, 9), nodata=0, label={"nodata": (), "ignore": (9,)}) == ([0, 1, IGNORE], [])


@pytest.mark.parametrize(
    ("labels", "pixels_BHW", "nodata", "name"),
    [
        ("values", values(0, 1), 0, "ground"),
        ("values", values(0, 255), 255, "water"),
        ("values", values(0, 1, dtype="float32"), 1, "roof"),
        ("colours", colours((255, 255, 255), (0, 0, 255)), 255, "ground"),
    ],
)
def test_a_nodata_value_that_is_also_a_class_is_rejected_with_both_and_the_remedy(
    tile, labels, pixels_BHW, nodata, name
):
    with pytest.raises(Rejected) as caught:
        of(tile, pixels_BHW, nodata=nodata, labels=labels)
    assert caught.value.code == "label-nodata"
    for part in (f"its nodata value {nodata} is also the class {name}", "write nodata: [] under label"):
        assert part in caught.value.sentence
    y, found = of(tile, pixels_BHW, nodata=nodata, labels=labels, label={"nodata": ()})
    assert (IGNORE in y, found) == (False, [])


def test_a_nodata_index_of_a_palette_whose_colour_is_a_class_is_rejected(tile):
    palette = {0: (255, 255, 255, 255), 1: (200, 30, 40, 255), 2: (9, 9, 9, 255)}
    with pytest.raises(Rejected, match="its nodata value 1 is also the class roof"):
        of(tile, values(0, 1), palette=palette, nodata=1, labels="colours")
    y, _ = of(tile, values(0, 1, 2), palette=palette, nodata=2, labels="colours")
    assert y == [0, 1, IGNORE]


@pytest.mark.parametrize("nodata", [-1, 300, 0.5])
def test_a_nodata_value_that_the_pixels_cannot_have_does_no_harm(tile, nodata):
    assert of(tile, values(0, 1, dtype="float32"), nodata=nodata) == ([0, 1], [])
    assert of(tile, values(0, 1), label={"nodata": (nodata,)}) == ([0, 1], [])


def test_a_palette_becomes_the_colours_of_the_classes(tile):
    palette = {3: (255, 255, 255, 255), 5: (200, 30, 40, 255), 6: (0, 0, 255, 255)}
    assert of(tile, values(3, 5, 6, 3), palette=palette, labels="colours") == ([0, 1, 2, 0], [])


def test_a_palette_does_no_harm_to_labels_by_value(tile):
    assert of(tile, values(0, 1, 255), palette={0: (9, 9, 9, 255), 1: (8, 8, 8, 255)}) == ([0, 1, 2], [])


def paletted(tile, first, transparency):
    """A label of three colours, the first one as given."""
    picture = Image.new("P", (3, 1))
    picture.putpalette([*first, 200, 30, 40, 0, 0, 255])
    for column in range(3):
        picture.putpixel((column, 0), column)
    tile.write("image", np.ones((3, 1, 3), np.uint8))
    usual = tile.path
    tile.path = lambda kind: tile.folder / "label.png" if kind == "label" else usual(kind)
    picture.save(tile.folder / "label.png", transparency=transparency)


def test_transparent_entries_of_a_palette_are_not_labelled(tile):
    paletted(tile, (9, 9, 9), 0)
    assert tile.labels(labels="colours")[0].tolist() == [[IGNORE, 1, 2]]


@pytest.mark.parametrize(
    ("transparency", "sentence"),
    [
        (0, "its nodata value 0 is also the class ground"),  # GDAL calls the only transparent entry nodata
        (bytes([0, 255, 0]), r"its colour table marks every pixel of the classes ground, water \(66.7 %\) as missing"),
    ],
)
def test_a_transparent_entry_of_a_palette_that_is_a_class_is_rejected_unless_dataset_yaml_says_otherwise(
    tile, transparency, sentence
):
    paletted(tile, FULL[0].rgb, transparency)
    with pytest.raises(Rejected, match=sentence):
        tile.labels(labels="colours")
    for mark in ((), (77,)):
        assert tile.labels(labels="colours", label={"nodata": mark})[0].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("own_mask", [False, True], ids=["internal", "msk"])
def test_masked_pixels_are_not_labelled(tile, own_mask):
    hidden_HW = np.array([[False, True, False]])
    assert of(tile, values(0, 1, 1), hidden_HW=hidden_HW, own_mask=own_mask) == ([0, IGNORE, 1], ["label-missing"])


@pytest.mark.parametrize("own_mask", [False, True], ids=["internal", "msk"])
def test_a_mask_that_hides_all_of_a_class_is_rejected_with_its_name_and_can_be_accepted(tile, own_mask):
    facts = {"hidden_HW": np.array([[True, True, False]]), "own_mask": own_mask}
    with pytest.raises(Rejected) as caught:
        of(tile, values(0, 0, 1), **facts)
    assert caught.value.code == "label-hidden"
    for part in (
        "its mask marks every pixel of the class ground (66.7 %) as missing",
        "gdal_translate -mask none",
        'check.accept: {label-hidden: ["a"]}',
    ):
        assert part in caught.value.sentence
    y, found = of(tile, values(0, 0, 1), accept={"label-hidden": "all"}, **facts)
    assert (y, found) == ([IGNORE, IGNORE, 1], ["label-missing", "label-hidden"])


def test_a_mask_that_hides_mostly_other_pixels_may_hide_all_of_a_class(tile):
    hidden_HW = np.array([[True, True, True, True, False]])
    assert of(tile, values(0, 0, 9, 9, 1), hidden_HW=hidden_HW)[0] == [IGNORE] * 4 + [1]
    assert of(tile, values(0, 1, 1, 1, 1), hidden_HW=hidden_HW)[0] == [IGNORE] * 4 + [1]


def test_an_alpha_band_that_hides_all_of_a_class_is_rejected_unless_dataset_yaml_says_otherwise(tile):
    pixels_BHW = np.concatenate([values(0, 0, 1), values(0, 0, 255)])
    tile.write("image", np.ones((3, 1, 3), np.uint8))
    tile.write("label", pixels_BHW, alpha="yes")
    with pytest.raises(Rejected, match="its alpha band marks every pixel of the class ground .* set label.nodata: "):
        tile.labels()
    assert tile.labels(label={"nodata": ()})[0].tolist() == [[0, 0, 1]]


def test_what_a_warped_label_does_not_cover_is_not_hidden_by_its_mask(tile):
    label_HW = np.ones((10, 40), np.uint8)
    tile.write("label", label_HW[None], transform=HERE @ Affine.scale(2), hidden_HW=np.zeros((10, 40), bool))
    y_HW, found = tile.labels(accept={"low-coverage": "all"})
    assert (y_HW[1:19] == 1).all() and (y_HW[21:] == IGNORE).all() and "label-hidden" not in found


@pytest.mark.parametrize("labels", ["values", "colours"])
@pytest.mark.parametrize(("scale", "offset"), [(1, 1), (2, 0)])
def test_a_scale_or_an_offset_of_a_label_is_refused_and_can_be_accepted(tile, labels, scale, offset):
    pixels_BHW = values(0, 1) if labels == "values" else colours((255, 255, 255), (0, 0, 255))
    tile.write("image", np.ones((3, 1, 2), np.uint8))
    tile.write("label", pixels_BHW, scales=(scale,) * len(pixels_BHW), offsets=(offset,) * len(pixels_BHW))
    with pytest.raises(Rejected, match=rf"pixel \* {scale} \+ {offset}, .* gdal_translate -unscale OLD") as caught:
        tile.labels(labels=labels)
    assert caught.value.code == "label-scaled"
    assert tile.labels(labels=labels, accept={"label-scaled": ("a",)})[1] == ["label-scaled"]


def test_one_band_of_a_label_by_colour_needs_a_palette(tile):
    with pytest.raises(Rejected, match="dataset.yaml picks 1 of its 3 bands, expected 3"):
        of(tile, colours((255, 255, 255)), labels="colours", label={"bands": (1,)})
    found = of(
        tile, values(0, 1), palette={0: (255,) * 4, 1: (0, 0, 255, 255)}, labels="colours", label={"bands": (1,)}
    )
    assert found == ([0, 2], [])


def test_a_nodata_colour_that_is_a_class_is_rejected(tile):
    tile.write("image", np.ones((3, 1, 2), np.uint8))
    with rasterio.open(tile.write("label", colours((255, 255, 255), (0, 0, 255))), "r+") as file:
        file.update_tags(NODATA_VALUES="255 255 255")
    with pytest.raises(Rejected, match="its nodata value 255 is also the class ground"):
        tile.labels(labels="colours")
    assert tile.labels(labels="colours", label={"nodata": ()})[0].tolist() == [[0, 2]]


def test_a_nodata_index_of_a_palette_is_a_class_if_dataset_yaml_says_so(tile):
    palette = {0: (255, 255, 255, 255), 1: (200, 30, 40, 255)}
    found = of(tile, values(0, 1), palette=palette, nodata=0, labels="colours", label={"nodata": ()})
    assert found == ([0, 1], [])


def test_picked_bands_hold_the_labels(tile):
    pixels_BHW = np.concatenate([values(7, 7), values(0, 1)])
    assert of(tile, pixels_BHW, label={"bands": (2,)}) == ([0, 1], [])
    bgr = colours((255, 255, 255), (40, 30, 200))
    assert of(tile, bgr, labels="colours", label={"bands": (3, 2, 1)}) == ([0, 1], [])


def test_unknown_values_up_to_the_limit_are_ignored_and_noted(tile):
    pixels_BHW = np.zeros((1, 1, 1000), np.uint8)
    pixels_BHW[0, 0, 6] = 9
    y, found = of(tile, pixels_BHW)
    assert (y.count(IGNORE), y[6], found) == (1, IGNORE, ["colours-unknown"])
    pixels_BHW[0, 0, 7] = 9
    with pytest.raises(Rejected) as caught:
        of(tile, pixels_BHW)
    assert caught.value.code == "label-unknown"
    for part in (
        "2 px (0.2 %) have a value of no class, for example 9 at row 0, column 6",
        "at most 0.1 %",
        "label.ignore",
        "preprocess.max_unknown_share",
    ):
        assert part in caught.value.sentence


def test_colours_off_by_a_little_are_given_to_the_nearest_class_and_noted(tile):
    y, found = of(tile, colours((255, 255, 255), (204, 28, 40)), labels="colours")
    assert (y, found) == ([0, 1], ["colours-snapped"])


def test_counts_and_the_place_of_an_example_are_those_of_the_tile_however_rows_are_read(tile):
    label_HW = tile.label_HW.copy()
    label_HW[33, 7] = label_HW[50, 3] = 77
    tile.write("label", label_HW[None])
    reader = tile.reader()
    layer = reader.label("label")
    parts = [layer.rows(slice(first, min(first + 13, 60))) for first in range(0, 60, 13)]
    assert (layer.unknown_px, sum(part.unknown_px for part in parts)) == (2, 2)
    reader.finish("label")
    assert codes(layer) == ["colours-unknown"]
    assert "2 px (0.0417 %) have a value of no class, for example 77 at row 33, column 7" in layer.notes[0].sentence


def test_where_the_image_is_missing_nothing_is_labelled(tile):
    layer = tile.reader().label("label")
    hidden_HW = np.zeros((10, 80), bool)
    hidden_HW[3, 5:9] = True
    y_hW = layer.rows(slice(10, 20), hidden_HW).y_hW
    assert (y_hW[3, 5:9] == IGNORE).all()
    np.testing.assert_array_equal(y_hW[~hidden_HW], tile.label_HW[10:20][~hidden_HW])


def test_an_eroded_label_has_keys_of_its_own(tile):
    tile.write("eroded", np.where(tile.label_HW == 0, 8, tile.label_HW)[None].astype(np.uint8))
    eroded = LabelInfo(files="eroded.tif", ignore=(8,))
    y_HW, found = tile.labels("eroded", eroded=eroded)
    np.testing.assert_array_equal(y_HW, np.where(tile.label_HW == 0, IGNORE, tile.label_HW))
    assert found == []
    tile.write("eroded", tile.label_HW[None], nodata=0)
    with pytest.raises(Rejected, match="write nodata: .. under eroded"):
        tile.labels("eroded", eroded=replace(eroded, ignore=()))


@pytest.mark.parametrize(
    ("nodata", "by_value", "by_colour"),
    [
        ((0.0,), "ground", None),
        ((255.0,), "water", "ground"),
        ((9.0,), None, None),
        ((200.0, 30.0, 40.0), None, "roof"),
    ],
)
def test_a_value_contradicts_the_class_that_it_stands_for(nodata, by_value, by_colour):
    from components.common.data.legend import legend_of

    names = tuple(one.name for one in FULL)
    legends = [legend_of(replace(TOWN, labels=labels), TOWN.label) for labels in ("values", "colours")]
    assert [contradiction(nodata, legend, names) for legend in legends] == [by_value, by_colour]

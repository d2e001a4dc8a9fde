import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS

from components.common.rasterfiles.rasters import Rejected
from tests.components.common.readers.conftest import HERE, codes, read_heights, slope

FOOT, FOOT_US = 0.3048, 1200 / 3937
HOLE = (slice(20, 30), slice(30, 42))  # 120 px


def terrain(low_m=30.0, high_m=45.0, noise_m=0.3):
    """Ground that rises over the tile, with noise."""
    rng = np.random.default_rng(0)
    return (np.linspace(low_m, high_m, 80) + rng.normal(0, noise_m, (60, 80))).astype(np.float32)


def with_value(heights_HW, value, place=HOLE):
    heights_HW = heights_HW.copy()
    heights_HW[place] = value
    return heights_HW


def missing_in(tile, heights_HW, dsm=None, **facts):
    """Where no height was measured, and the codes of the notes."""
    tile.write("dsm", heights_HW[None], **facts)
    metres_HW, found = tile.heights(dsm=dsm or {})
    return np.isnan(metres_HW), found


HOLE_HW = np.zeros((60, 80), bool)
HOLE_HW[HOLE] = True


@pytest.mark.parametrize("step", [1, 17, 60])
def test_metres_come_back_exactly(tile, step):
    metres_HW, found = tile.heights(step=step)
    np.testing.assert_array_equal(metres_HW, tile.dsm_HW)
    assert (metres_HW.dtype, found) == (np.float32, [])


@pytest.mark.parametrize(
    ("unit", "unit_m"),
    [("ft", FOOT), ("foot", FOOT), ("US survey foot", FOOT_US), ("ftUS", FOOT_US), ("cm", 0.01), ("Metre", 1.0)],
)
def test_a_unit_of_the_band_becomes_metres(tile, unit, unit_m):
    tile.write("dsm", tile.dsm_HW[None] / np.float32(unit_m), units=[unit])
    metres_HW, found = tile.heights()
    np.testing.assert_allclose(metres_HW, tile.dsm_HW, rtol=1e-6)
    assert found == ["unit-converted"] * (unit_m != 1)


@pytest.mark.parametrize(
    ("crs", "unit_m"), [("EPSG:32633+8228", FOOT), ("EPSG:32633+6360", FOOT_US), ("EPSG:32633+5703", 1)]
)
def test_a_vertical_crs_in_feet_becomes_metres(tile, crs, unit_m):
    tile.write("dsm", tile.dsm_HW[None] / np.float32(unit_m), crs=CRS.from_user_input(crs))
    metres_HW, found = tile.heights()
    np.testing.assert_allclose(metres_HW, tile.dsm_HW, rtol=1e-6)
    assert found == ["unit-converted"] * (unit_m != 1)


def test_a_unit_of_the_band_that_the_vertical_crs_contradicts_is_used_and_noted(tile):
    tile.write("dsm", tile.dsm_HW[None], units=["m"], crs=CRS.from_user_input("EPSG:32633+6360"))
    metres_HW, found = tile.heights()
    np.testing.assert_array_equal(metres_HW, tile.dsm_HW)
    assert found == ["dsm-units"]


def test_a_unit_that_is_not_known_is_rejected_until_unit_m_states_it(tile):
    tile.write("dsm", tile.dsm_HW[None], units=["furlong"])
    with pytest.raises(Rejected, match="states the unit 'furlong', which is not known; set dsm.unit_m"):
        tile.heights()
    np.testing.assert_allclose(tile.heights(dsm={"unit_m": 2.0})[0], tile.dsm_HW * 2, rtol=1e-6)
    metres_HW, found = tile.heights(dsm={"unit_m": 1.0})
    np.testing.assert_array_equal(metres_HW, tile.dsm_HW)
    assert found == ["dsm-units"]


@pytest.mark.parametrize("unit", ["US Feet", "us-survey-foot", "Foot (US survey)", "USFT"])
def test_spellings_of_a_unit_are_one_unit_even_if_unit_m_is_1(tile, unit):
    tile.write("dsm", tile.dsm_HW[None] / np.float32(FOOT_US), units=[unit])
    metres_HW, found = tile.heights(dsm={"unit_m": 1.0})
    np.testing.assert_allclose(metres_HW, tile.dsm_HW, rtol=1e-6)
    assert found == ["unit-converted"]


def test_a_vertical_crs_in_a_prj_file_counts(tile):
    tile.write("dsm", tile.dsm_HW[None] / np.float32(FOOT_US), crs=None)
    (tile.folder / "dsm.prj").write_text(CRS.from_user_input("EPSG:32633+6360").to_wkt())
    metres_HW, found = tile.heights()
    np.testing.assert_allclose(metres_HW, tile.dsm_HW, rtol=1e-6)
    assert found == ["unit-converted"]


def test_depths_of_a_vertical_crs_change_their_sign(tile):
    tile.write("dsm", -tile.dsm_HW[None], crs=CRS.from_user_input("EPSG:32633+5715"))
    metres_HW, found = tile.heights()
    np.testing.assert_array_equal(metres_HW, tile.dsm_HW)
    assert found == ["unit-converted"]


def test_a_scale_of_the_file_and_unit_m_are_not_both_applied(tile):
    tile.write("dsm", np.rint(tile.dsm_HW[None] * 100).astype(np.uint16), scales=[0.01])
    with pytest.raises(Rejected, match="states a scale of 0.01, and unit_m in dataset.yaml is 0.01: both would apply"):
        tile.heights(dsm={"unit_m": 0.01})
    for dsm in ({"unit_m": 0.01, "scale": 1.0}, {}):
        np.testing.assert_allclose(tile.heights(dsm=dsm)[0], tile.dsm_HW, atol=0.0051)


@pytest.mark.parametrize("scale", [0.0, float("nan")])
def test_a_scale_that_cannot_be_right_is_not_applied_and_noted(tile, scale):
    tile.write("dsm", tile.dsm_HW[None], scales=[scale])
    metres_HW, found = tile.heights()
    np.testing.assert_array_equal(metres_HW, tile.dsm_HW)
    assert found == ["scale-applied"]


def test_unit_m_counts_where_the_file_states_no_unit(tile):
    tile.write("dsm", np.rint(tile.dsm_HW[None] * 100).astype(np.int32))
    metres_HW, found = tile.heights(dsm={"unit_m": 0.01})
    np.testing.assert_allclose(metres_HW, tile.dsm_HW, atol=0.0051)
    assert found == []


def test_a_unit_of_the_file_that_unit_m_contradicts_is_rejected_with_both(tile):
    tile.write("dsm", tile.dsm_HW[None], units=["ft"])
    with pytest.raises(
        Rejected, match=r"states a unit of 0.3048 m, but unit_m in dataset.yaml is 0.01; remove unit_m"
    ) as caught:
        tile.heights(dsm={"unit_m": 0.01})
    assert caught.value.code == "dsm-units-differ"
    metres_HW, found = tile.heights(dsm={"unit_m": FOOT})
    np.testing.assert_allclose(metres_HW, tile.dsm_HW * FOOT, rtol=1e-6)
    assert found == ["unit-converted"]


def test_unit_m_replaces_metres_that_the_file_states_and_that_is_noted(tile):
    tile.write("dsm", tile.dsm_HW[None] * 100, units=["m"])
    metres_HW, found = tile.heights(dsm={"unit_m": 0.01})
    np.testing.assert_allclose(metres_HW, tile.dsm_HW, rtol=1e-6)
    assert found == ["unit-replaced"]


def test_scale_and_offset_of_the_file_are_applied_before_its_unit(tile):
    pixels_HW = np.rint((tile.dsm_HW / FOOT - 20) / 0.01).astype(np.uint16)
    tile.write("dsm", pixels_HW[None], scales=[0.01], offsets=[20], units=["ft"])
    metres_HW, found = tile.heights()
    np.testing.assert_allclose(metres_HW, tile.dsm_HW, atol=0.003)
    assert sorted(found) == ["scale-applied", "unit-converted"]


def test_scale_and_offset_of_dataset_yaml_replace_those_of_the_file(tile):
    tile.write("dsm", np.rint(tile.dsm_HW[None] * 10).astype(np.uint16), scales=[0.5], offsets=[20])
    metres_HW, found = tile.heights(dsm={"scale": 0.1, "offset": 0.0})
    np.testing.assert_allclose(metres_HW, tile.dsm_HW, atol=0.051)
    assert found == ["scale-applied"]


@pytest.mark.parametrize("sentinel", [-9999, -99999, -32767, -32768])
def test_usual_nodata_values_are_missing_before_the_unit_is_applied(tile, sentinel):
    pixels_HW = np.rint(terrain() * 100).astype(np.int32)
    missing_HW, found = missing_in(tile, with_value(pixels_HW, sentinel), {"unit_m": 0.01})
    np.testing.assert_array_equal(missing_HW, HOLE_HW)
    assert found == ["dsm-holes"]


@pytest.mark.parametrize("value", [-9999, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan, 9001, -501])
def test_values_that_no_place_on_earth_has_are_missing(tile, value):
    missing_HW, found = missing_in(tile, with_value(terrain(), value))
    np.testing.assert_array_equal(missing_HW, HOLE_HW)
    assert found == ["dsm-holes"]


def test_heights_up_to_the_limits_of_the_earth_are_heights(tile):
    heights_HW = terrain(-400, 8900)
    missing_HW, found = missing_in(tile, heights_HW)
    assert (missing_HW.any(), found) == (False, [])


@pytest.mark.parametrize("nodata", [-9999, 0, np.nan])
def test_the_nodata_value_of_the_file_is_missing(tile, nodata):
    missing_HW, found = missing_in(tile, with_value(terrain(), nodata), nodata=nodata)
    np.testing.assert_array_equal(missing_HW, HOLE_HW)
    assert found == ["dsm-holes"]


@pytest.mark.parametrize("own_mask", [False, True], ids=["internal", "msk"])
def test_a_mask_and_a_nodata_value_both_count(tile, own_mask):
    hidden_HW = np.zeros((60, 80), bool)
    hidden_HW[5:9, 3] = True
    missing_HW, _ = missing_in(tile, with_value(terrain(), -9999), nodata=-9999, hidden_HW=hidden_HW, own_mask=own_mask)
    np.testing.assert_array_equal(missing_HW, HOLE_HW | hidden_HW)


def test_an_alpha_band_is_a_mask(tile):
    alpha_HW = np.where(HOLE_HW, 0, 255)
    heights_HW = np.rint(terrain()).astype(np.uint16)
    tile.write("dsm", np.stack([heights_HW, alpha_HW]).astype(np.uint16), photometric="minisblack", alpha="yes")
    metres_HW, found = tile.heights()
    np.testing.assert_array_equal(np.isnan(metres_HW), HOLE_HW)
    np.testing.assert_array_equal(metres_HW[~HOLE_HW], heights_HW[~HOLE_HW])
    assert found == ["dsm-holes"]


def test_the_band_that_dataset_yaml_names_holds_the_heights(tile):
    tile.write("dsm", np.stack([terrain(), tile.dsm_HW]))
    with pytest.raises(Rejected, match=r"has 2 bands, expected 1; .*dsm.bands"):
        tile.heights()
    metres_HW, _ = tile.heights(dsm={"bands": (2,)})
    np.testing.assert_array_equal(metres_HW, tile.dsm_HW)


FOUND = {
    "0 at 250 m": (terrain(245, 262), 0.0, {}),
    "0 at 250 m in centimetres": (np.rint(terrain(245, 262) * 100).astype(np.int32), 0, {"unit_m": 0.01}),
    "0 at 60 m": (terrain(55, 70), 0.0, {}),
    "-100 at 40 m": (terrain(), -100.0, {}),
    "655.35 at the top of 16 bits": (np.rint(terrain() * 100).astype(np.uint16), 65535, {"unit_m": 0.01}),
    "1e3 above 40 m": (terrain(), 1000.0, {}),
}


@pytest.mark.parametrize("step", [1, 13, 60])
@pytest.mark.parametrize("case", FOUND)
def test_a_value_that_repeats_far_from_all_heights_is_found_and_missing(tile, case, step):
    heights_HW, value, dsm = FOUND[case]
    tile.write("dsm", with_value(heights_HW, value)[None])
    metres_HW, found = tile.heights(dsm=dsm, step=step)
    np.testing.assert_array_equal(np.isnan(metres_HW), HOLE_HW)
    assert found == ["dsm-nodata-found", "dsm-holes"]
    reader = tile.reader(dsm=dsm)
    layer = reader.dsm()
    read_heights(layer)
    reader.finish("dsm")
    assert f"the value {value:g} repeats far from all other heights" in layer.notes[0].sentence
    assert "nodata: []" in layer.notes[0].sentence


def test_two_hidden_values_are_both_found(tile):
    spoilt_HW = with_value(with_value(terrain(245, 262), 0.0), 2000.0, (slice(0, 5), slice(0, 5)))
    missing_HW, found = missing_in(tile, spoilt_HW)
    expected_HW = HOLE_HW.copy()
    expected_HW[:5, :5] = True
    np.testing.assert_array_equal(missing_HW, expected_HW)
    assert found == ["dsm-nodata-found", "dsm-holes"]


@pytest.mark.parametrize(
    ("values", "low_m", "high_m", "dtype", "unit_m"),
    [
        ((0,), 260, 266, np.int16, 1.0),
        ((0,), 260, 425, np.float32, 1.0),
        ((32767,), 5, 150, np.int16, 0.01),
        ((0, -1), 260, 275, np.float32, 1.0),
        ((0, 65535), 260, 275, np.uint16, 0.01),
        ((-999, 9998), 260, 275, np.int32, 0.1),
        ((255,), 0, 6, np.uint8, 1.0),
    ],
    ids=["whole metres", "hills", "largest integer", "two below", "at both ends", "decimetres", "8 bits"],
)
def test_hidden_nodata_is_found_in(tile, values, low_m, high_m, dtype, unit_m):
    pixels_HW = (terrain(low_m + 1, high_m) / np.float32(unit_m)).astype(dtype)
    expected_HW = np.zeros(pixels_HW.shape, bool)
    for number, value in enumerate(values):
        place = slice(5, 15), slice(10 + 20 * number, 20 + 20 * number)
        pixels_HW[place], expected_HW[place] = value, True
    missing_HW, found = missing_in(tile, pixels_HW, {"unit_m": unit_m, "relative_to": "ground"})
    np.testing.assert_array_equal(missing_HW, expected_HW)
    assert found == ["dsm-nodata-found", "dsm-holes"]


def test_the_remedy_for_hidden_nodata_keeps_the_nodata_value_of_the_file(tile):
    pixels_HW = with_value(np.rint(terrain(245, 262) * 100).astype(np.int32), 0)
    pixels_HW[:5, :5] = -9999
    tile.write("dsm", pixels_HW[None], nodata=-9999)
    reader = tile.reader(dsm={"unit_m": 0.01})
    layer = reader.dsm()
    read_heights(layer)
    reader.finish("dsm")
    assert "set dsm.nodata: [-9999, 0] in dataset.yaml, or dsm.nodata: [-9999] if these are" in layer.notes[0].sentence
    metres_HW, found = tile.heights(dsm={"unit_m": 0.01, "nodata": (-9999.0, 0.0)})
    assert (np.isnan(metres_HW).sum(), found) == (120 + 25, ["dsm-holes"])


def flat_roof():
    return with_value(terrain(), 62.0)


def tower():
    return with_value(terrain(), 130.0, (slice(20, 24), slice(30, 34)))


def lake():
    return with_value(terrain(28, 45), 26.5, (slice(0, 60), slice(0, 30)))


def artificial():
    return with_value(np.full((60, 80), 250.0, np.float32), 0.0)


def sea():
    return with_value(terrain(0.2, 12, 0.05), 0.0, (slice(0, 60), slice(0, 20)))


def few():
    return with_value(terrain(245, 262), 0.0, (slice(20, 22), slice(30, 34)))


def sea_before_a_cliff():
    return with_value(terrain(10, 60), 0.0, (slice(0, 60), slice(0, 20)))


@pytest.mark.parametrize(
    "heights", [flat_roof, tower, lake, artificial, sea, few, sea_before_a_cliff], ids=lambda f: f.__name__
)
def test_heights_that_repeat_for_a_reason_stay_heights(tile, heights):
    missing_HW, found = missing_in(tile, heights())
    assert (missing_HW.any(), found) == (False, [])


def test_nodata_of_dataset_yaml_turns_the_detection_off(tile):
    spoilt_HW = with_value(terrain(245, 262), 0.0)
    missing_HW, found = missing_in(tile, spoilt_HW, {"nodata": ()})
    assert (missing_HW.any(), found) == (False, [])
    missing_HW, found = missing_in(tile, spoilt_HW, {"nodata": (0.0,)})
    np.testing.assert_array_equal(missing_HW, HOLE_HW)
    assert found == ["dsm-holes"]


def test_nodata_of_dataset_yaml_replaces_that_of_the_file_and_the_usual_values(tile):
    pixels_HW = np.rint(with_value(terrain(), -99.99) * 100).astype(np.int32)
    missing_HW, _ = missing_in(tile, pixels_HW, {"nodata": (), "unit_m": 0.01}, nodata=-9999)
    assert not missing_HW.any()


def test_learned_asks_for_the_rows_once_more_and_counts_do_not_double(tile):
    tile.write("dsm", with_value(terrain(245, 262), 0.0)[None])
    reader = tile.reader()
    layer = reader.dsm()
    rows = [slice(0, 25), slice(25, 60)]
    assert not np.isnan(np.concatenate([layer.metres(part) for part in rows])).any()
    assert layer.learned()
    assert layer.missing_px == 0
    assert np.isnan(np.concatenate([layer.metres(part) for part in rows])).sum() == 120
    assert not layer.learned()
    assert layer.missing_px == 120
    layer.restart()
    for part in rows:
        layer.metres(part)
    assert layer.missing_px == 120
    reader.finish("dsm")
    assert codes(layer) == ["dsm-nodata-found", "dsm-holes"]
    assert layer.notes[1].sentence.startswith("120 px (2.5 %) hold no height")


def test_a_hidden_value_is_found_in_a_layer_that_is_warped(tile):
    place = HERE @ Affine.translation(-10.5, -10.5)
    heights_HW = slope(place, 90, 110) + 200
    heights_HW[40:60, 50:70] = 0
    tile.write("dsm", heights_HW[None], transform=place)
    metres_HW, found = tile.heights()
    assert found == ["warped", "dsm-nodata-found", "dsm-holes"]
    hole_HW = np.isnan(metres_HW)
    assert hole_HW[31:48, 41:58].all()
    assert hole_HW.sum() < 22 * 22
    np.testing.assert_allclose(metres_HW[~hole_HW], (slope() + 200)[~hole_HW], atol=0.06)


@pytest.mark.parametrize("value", [np.nan, -9999])
def test_a_tile_without_a_height_is_rejected(tile, value):
    tile.write("dsm", np.full((1, 60, 80), value, np.float32))
    with pytest.raises(Rejected, match="holds no height: ") as caught:
        tile.heights()
    assert caught.value.code == "dsm-blank"


def test_a_tile_of_impossible_heights_names_the_unit(tile):
    tile.write("dsm", tile.dsm_HW[None] * 1000)
    with pytest.raises(Rejected, match="none of its values is within -500 to 9000 m; set unit_m in dataset.yaml"):
        tile.heights()


@pytest.mark.parametrize(
    ("dtype", "own", "dsm", "fits"),
    [
        ("int16", True, {}, True),
        ("int16", False, {}, False),
        ("uint8", True, {}, False),
        ("uint8", True, {"relative_to": "ground"}, True),
        ("uint8", True, {"scale": 0.5}, True),
        ("int16", False, {"scale": 0.5}, True),
        ("float64", False, {}, True),
    ],
)
def test_types_of_pixels_that_heights_may_have(tile, dtype, own, dsm, fits):
    tile.write("dsm", np.rint(tile.dsm_HW[None]).astype(dtype))
    if fits:
        np.testing.assert_allclose(tile.heights(own=own, dsm=dsm)[0], np.rint(tile.dsm_HW) * dsm.get("scale", 1))
        return
    with pytest.raises(Rejected, match=f"its pixels are {dtype}, expected float32") as caught:
        tile.heights(own=own, dsm=dsm)
    assert caught.value.code == "pixel-type"

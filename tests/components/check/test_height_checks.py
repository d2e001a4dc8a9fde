from __future__ import annotations

import numpy as np
import pytest
from rasterio import Affine

DSM = "dsm_potsdam_02_11"


def holes(share):
    def change(dsm_BHW):
        dsm_BHW.reshape(-1)[: round(share * dsm_BHW.size)] = np.nan
        return dsm_BHW

    return change


def clipped(dsm_BHW):
    return dsm_BHW.clip(max=np.float32(36))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda dsm: np.full_like(dsm, np.nan), "dsm-blank"),
        (lambda dsm: np.full_like(dsm, -9999), "dsm-blank"),
        (lambda dsm: dsm * 1000, "dsm-blank"),  # millimetres
        (lambda dsm: np.full_like(dsm, 35), "dsm-constant"),
        (holes(0.6), "dsm-missing"),
        (holes(0.4), "dsm-holes"),
        (lambda dsm: dsm * 10, "dsm-units"),
        (lambda dsm: dsm * 100, "dsm-units"),
        (lambda dsm: dsm / 1000, "dsm-units"),
        (lambda dsm: 80 - dsm, "dsm-units"),
        (lambda dsm: dsm - 36, "dsm-normalised"),
    ],
    ids=["nan", "untagged", "millimetres", "constant", "missing", "holes", "dm", "cm", "km", "depths", "normalised"],
)
def test_heights_that_are_none(package, rewritten, codes, change, code):
    folder = package()
    rewritten(folder, DSM, change)
    found = codes(folder)
    assert (code, "2_11") in found
    assert {tile for _, tile in found} == {"2_11"}


def test_the_limit_of_missing_heights_is_a_setting(package, rewritten, codes):
    folder = package()
    rewritten(folder, DSM, holes(0.6))
    assert codes(folder, max_dsm_missing_share=0.7) == {("dsm-holes", "2_11")}


@pytest.mark.parametrize(("factor", "unit"), [(10, "decimetres"), (100, "centimetres")])
def test_the_unit_is_guessed(package, rewritten, checked, factor, unit):
    folder = package()
    rewritten(folder, DSM, lambda dsm: dsm * factor)
    assert [unit in one.sentence for one in checked(folder).findings if one.code == "dsm-units"] == [True]


def test_without_buildings_the_relief_tells_the_unit(own_data, codes):
    assert codes(own_data(relief_m=900), dataset="mine") == {("dsm-units", "a"), ("dsm-units", "b")}
    assert codes(own_data(relief_m=30), dataset="mine") == set()


def test_absolute_heights_where_normalised_ones_belong(own_data, codes):
    found = codes(own_data(relative_to="ground"), dataset="mine")
    assert found == {("dsm-absolute", "a"), ("dsm-absolute", "b")}


def test_saturated_8_bit_heights_are_named(package, checked):
    folder = package(layers=("rgb", "lastools", "label", "eroded"))
    assert [one.code for one in checked(folder).findings if one.code != "split-incomplete"] == []
    from PIL import Image

    path = next(folder.rglob("*02_11_normalized_lastools.jpg"))
    Image.fromarray(np.where(np.array(Image.open(path)) > 60, 255, 0).astype(np.uint8)).save(path, quality=100)
    (one,) = [one for one in checked(folder).findings if one.code == "dsm-saturated"]
    assert one.tile == "2_11" and "25.5 m, the largest value" in one.sentence


def test_percentiles_and_outliers_are_those_of_the_pixels(package, rewritten, checked):
    folder = package(side_px=128)
    rng = np.random.default_rng(0)
    heights = rng.normal(40, 1, (1, 128, 128)).astype(np.float32)
    heights[0, 0, :5] = 400
    rewritten(folder, DSM, lambda _: heights)
    facts = checked(folder).subject.tiles["2_11"].dsm
    np.testing.assert_allclose(
        [facts.low_m, facts.quarter_m, facts.median_m, facts.high_m],
        np.percentile(heights, [0.1, 25, 50, 99.9]),
        atol=0.05,
    )
    assert facts.outlier_px == 5


def test_a_lake_is_flat_above_the_ground_but_not_above_the_datum(own_data, rewritten, codes):
    folder = own_data(relative_to="ground")
    for tile in "ab":
        rewritten(folder / "h", f"h_{tile}.tif", lambda dsm: dsm - 200)
    rewritten(folder / "h", "h_a.tif", np.zeros_like)
    assert codes(folder, dataset="mine") == set()
    rewritten(folder / "h", "h_a.tif", lambda dsm: dsm + 7)
    assert codes(folder, dataset="mine") == {("dsm-constant", "a")}


def test_the_relief_is_compared_with_the_real_size_of_the_tile(own_data, rewritten, codes):
    """100 pixels of 1 km: a relief of 900 m is no sign of another unit."""
    folder = own_data(relief_m=900)
    place = Affine(1000, 0, 500_000, 0, -1000, 5_800_000)
    for name in ("images", "h", "labels"):
        rewritten(folder / name, "a.tif", transform=place)
    found = codes(folder, dataset="mine")
    assert ("dsm-units", "a") not in found and ("dsm-units", "b") in found

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Transformer
from rasterio import Affine


def test_a_label_on_another_grid_is_a_suspicion_in_own_data_and_an_error_in_a_benchmark(package, moved, codes):
    folder = package()
    moved(folder, "top_potsdam_2_11_label.tif", Affine.translation(10.3, 0))
    assert ("label-warped", "2_11") in codes(folder, own=True)
    assert ("grid-mismatch", "2_11") in codes(folder)


def test_a_label_of_another_place_is_an_error(package, moved, codes):
    folder = package()
    moved(folder, "top_potsdam_2_11_label.tif", Affine.translation(500, 0))
    assert ("grid-mismatch", "2_11") in codes(folder)


def test_a_label_whose_reference_system_puts_it_elsewhere_is_an_error(package, rewritten, codes):
    folder = package()
    rewritten(folder, "top_potsdam_2_11_label.tif", crs="EPSG:32631")
    assert ("grid-mismatch", "2_11") in codes(folder)


def test_a_layer_of_another_size_without_georeference_is_an_error(package, rewritten, codes):
    folder = package(georeference="none")
    rewritten(folder, "dsm_potsdam_02_11", lambda dsm_BHW: dsm_BHW[:, :40])
    assert ("grid-mismatch", "2_11") in codes(folder)


def test_heights_on_another_grid_are_warped_in_own_data(package, codes):
    assert codes(package(dsm_coarse=("2_11",)), own=True) == {("warped", "2_11")}


def test_a_part_that_heights_do_not_cover_is_a_loss_in_own_data_and_an_error_in_a_benchmark(package, codes):
    folder = package(dsm_short={"2_11": 20})
    assert codes(folder, own=True) == {("partly-covered", "2_11"), ("dsm-holes", "2_11")}
    assert codes(folder) == {("grid-mismatch", "2_11")}


def test_a_tile_away_from_its_place_is_found(package, moved, codes):
    folder = package()
    for name in ("2_11_RGB", "02_11", "2_11_label.tif", "2_11_label_noBoundary"):
        moved(folder, name, Affine.translation(0, -30))
    assert codes(folder) == {("off-place", "2_11")}


def test_a_shift_of_a_few_pixels_is_no_other_place(package, moved, codes):
    folder = package()
    for name in ("2_11_RGB", "02_11", "2_11_label.tif", "2_11_label_noBoundary"):
        moved(folder, name, Affine.translation(0, 3))
    assert codes(folder) <= {("overlap", "2_11"), ("overlap", "2_12")}


def test_the_size_of_a_pixel_is_compared_with_the_data_set(package, moved, codes):
    folder = package()
    for name in ("2_11_RGB", "02_11", "2_11_label.tif", "2_11_label_noBoundary"):
        moved(folder, name, Affine.scale(2))
    assert ("gsd-differs", "2_11") in codes(folder)


def test_one_tile_without_georeference_is_named(package, rewritten, codes):
    folder = package()
    for name in ("2_11_RGB", "02_11"):
        rewritten(folder, name, transform=None, crs=None)
    assert codes(folder) == {("no-georeference", "2_11")}


def test_a_tile_much_smaller_than_the_others_is_found(package, rewritten, codes):
    folder = package()
    for name in ("2_11_RGB", "02_11", "2_11_label.tif", "2_11_label_noBoundary"):
        rewritten(folder, name, lambda pixels_BHW: pixels_BHW[:, :32, :32])
    assert ("size-odd", "2_11") in codes(folder)


def test_own_data_needs_a_reference_system(own_data, rewritten, codes):
    folder = own_data(crs=None)
    assert codes(folder, dataset="mine") == set()
    rewritten(folder / "images", "a.tif", crs=None)
    rewritten(folder / "h", "h_a.tif", crs=None)
    assert codes(folder, dataset="mine") == {("crs-missing", "a")}


@pytest.mark.parametrize("rows", [60, 57])
def test_missing_rows_are_padded_where_the_georeference_says(package, rewritten, moved, checked, rows):
    folder = package()
    rewritten(folder, "dsm_potsdam_02_11", lambda dsm_BHW: dsm_BHW[:, -rows:])
    moved(folder, "dsm_potsdam_02_11", Affine.translation(0, 64 - rows))
    (padded,) = [one for one in checked(folder).findings if one.code == "padded"]
    assert f"{64 - rows} px at the top" in padded.sentence


def test_heights_of_classes_are_compared_where_they_lie(package, rewritten, moved, checked):
    """Buildings are as high above the ground as before, though the DSM starts at another row than the label."""
    folder = package()
    before = np.array(checked(folder).subject.tiles["2_11"].dsm.class_medians_m, float)
    rewritten(folder, "dsm_potsdam_02_11", lambda dsm_BHW: dsm_BHW[:, 4:])
    moved(folder, "dsm_potsdam_02_11", Affine.translation(0, 4))
    after = np.array(checked(folder).subject.tiles["2_11"].dsm.class_medians_m, float)
    np.testing.assert_allclose(after, before, atol=0.3)


@pytest.mark.parametrize(
    ("crs", "lon", "lat", "scale"),
    [
        ("EPSG:4326", 9, 0.5, 1 / 111_000),
        ("EPSG:2263", -74, 40.7, 1 / 0.3048006),
        ("EPSG:3857", 10, 60, 2),  # Web Mercator: 1 m at 60 degrees north is 2 m on the map
        ("EPSG:3857", 10, 0, 1),
    ],
)
def test_the_size_of_a_pixel_is_compared_on_the_ground(own_data, rewritten, codes, crs, lon, lat, scale):
    folder = own_data()
    east, north = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    place = Affine.translation(east, north) @ Affine.scale(0.2 * scale, -0.2 * scale)
    rewritten(folder / "images", "a.tif", crs=crs, transform=place)
    assert ("gsd-differs", "a") not in codes(folder, dataset="mine")
    rewritten(folder / "images", "a.tif", transform=place @ Affine.scale(1.1))
    assert ("gsd-differs", "a") in codes(folder, dataset="mine")


def test_a_reference_system_other_than_the_configured_one_is_a_suspicion(own_data, rewritten, checked):
    folder = own_data(crs="EPSG:25833")
    found = [one for one in checked(folder, dataset="mine").findings if one.code == "crs-differs"]
    assert [one.tile for one in found] == ["a", "b"]
    assert "is EPSG:25832, the configured one EPSG:25833; the file's own is used" in found[0].sentence

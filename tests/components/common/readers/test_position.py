import warnings
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

from components.common.errors import DataError
from components.common.rasterfiles.position import (
    crs_name,
    identified,
    parse_crs,
    position_of,
    same_crs,
    world_transform,
)
from components.common.rasterfiles.rasters import Rejected, open_raster
from tests.components.common.readers.conftest import write

HERE = Affine(0.5, 0, 366000, 0, -0.5, 5807000)
THERE = HERE @ Affine.translation(100, 50)
ELSEWHERE = HERE @ Affine.translation(-300, 20)
PIXELS = np.ones((1, 60, 80), np.uint8)
UTM33, UTM32 = CRS.from_epsg(32633), CRS.from_epsg(32632)

ESRI_UTM32 = (
    'PROJCS["ETRS_1989_UTM_Zone_32N",GEOGCS["GCS_ETRS_1989",DATUM["D_ETRS_1989",SPHEROID["GRS_1980",6378137.0,'
    '298.257222101]],PRIMEM["Greenwich",0.0],UNIT["Degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["False_Easting",500000.0],PARAMETER["False_Northing",0.0],PARAMETER["Central_Meridian",9.0],'
    'PARAMETER["Scale_Factor",0.9996],PARAMETER["Latitude_Of_Origin",0.0],UNIT["Meter",1.0]]'
)
ESRI_DEGREES = (
    'GEOGCS["GCS_WGS_1984",DATUM["D_WGS_1984",SPHEROID["WGS_1984",6378137.0,298.257223563]],'
    'PRIMEM["Greenwich",0.0],UNIT["Degree",0.0174532925199433]]'
)
LAMBERT_93 = (
    'PROJCS["EPSG:2154",GEOGCS["GCS_unknown",DATUM["unknown",SPHEROID["GRS 1980",6378137,298.257222101]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Lambert_Conformal_Conic_2SP"],'
    'PARAMETER["latitude_of_origin",46.5],PARAMETER["central_meridian",3],PARAMETER["standard_parallel_1",49],'
    'PARAMETER["standard_parallel_2",44],PARAMETER["false_easting",700000],PARAMETER["false_northing",6600000],'
    'UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)
WITHOUT_ELLIPSOID = LAMBERT_93.replace(
    'GRS 1980",6378137,298.257222101', 'unretrievable - using WGS84",6378137,298.257223563'
)
TOWN_GRID = (
    'PROJCS["Town grid",GEOGCS["ETRS89",DATUM["European_Terrestrial_Reference_System_1989",SPHEROID["GRS 1980",6378137,'
    '298.257222101]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["latitude_of_origin",50],PARAMETER["central_meridian",10.3],PARAMETER["scale_factor",1],'
    'PARAMETER["false_easting",5000],PARAMETER["false_northing",7000],UNIT["metre",1]]'
)
LOCAL = 'LOCAL_CS["site plan",UNIT["metre",1],AXIS["X",EAST],AXIS["Y",NORTH]]'


def position(path, configured=None):
    with open_raster(path, path.parent) as file:
        return position_of(file, configured)


def points(transform, noise_px=0.0, corners=((0, 0), (80, 0), (0, 60), (80, 60), (40, 30))):
    """Ground control points on a grid; the last one lies off it."""
    places = [(x + noise_px * (i == len(corners) - 1), y) for i, (x, y) in enumerate(corners)]
    ground = [transform @ place for place in places]
    return [GroundControlPoint(row, column, x, y) for (column, row), (x, y) in zip(corners, ground, strict=True)]


def with_points(path, gcps, crs="EPSG:32633"):
    write(path, PIXELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as file:
            file.gcps = gcps, CRS.from_user_input(crs)
    return path


def world_file(path, transform, suffix=".tfw", separator="."):
    a, b, _, d, e, _ = transform[:6]
    x, y = transform @ (0.5, 0.5)
    text = "\n".join(f"{value:.10f}" for value in (a, d, b, e, x, y))
    target = path.with_suffix(suffix)
    target.write_text(text.replace(".", separator))
    return target


def close(one, other):
    return one is not None and one.almost_equals(other, precision=1e-4)


def test_the_transform_of_the_file_goes_before_its_world_file(tmp_path):
    path = write(tmp_path / "a.tif", PIXELS, transform=HERE, crs=UTM33)
    world_file(path, ELSEWHERE)
    assert position(path) == position(path, UTM32)
    assert (position(path).transform, position(path).crs, position(path).notes) == (HERE, UTM33, ())


def test_ground_control_points_go_before_a_world_file(tmp_path):
    path = with_points(tmp_path / "a.tif", points(THERE))
    world_file(path, ELSEWHERE)
    found = position(path)
    assert close(found.transform, THERE)
    assert (found.crs, found.notes) == (UTM33, ())


def test_a_world_file_is_used_where_the_file_has_no_position(tmp_path):
    path = write(tmp_path / "a.tif", PIXELS)
    assert position(path).transform is None
    world_file(path, THERE)
    assert close(position(path).transform, THERE)


@pytest.mark.parametrize("suffix", [".tfw", ".TFW", ".tifw", ".wld"])
@pytest.mark.parametrize("separator", [".", ","], ids=["point", "comma"])
def test_a_world_file_gives_the_position_of_the_centre_of_the_upper_left_pixel(tmp_path, suffix, separator):
    path = write(tmp_path / "a.tif", PIXELS)
    world_file(path, THERE @ Affine.rotation(20), suffix, separator)
    assert close(position(path).transform, THERE @ Affine.rotation(20))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("upper", [False, True])
def test_pictures_have_world_files_of_their_own(tmp_path, name, upper):
    driver = "PNG" if name.endswith("png") else "JPEG"
    path = write(tmp_path / name, PIXELS, driver=driver)
    suffix = f".{name[2]}{name[-1]}w"
    world_file(path, THERE, suffix.upper() if upper else suffix)
    assert close(position(path).transform, THERE)


@pytest.mark.parametrize(
    "text",
    ["", "1 2 3", "0.5 0 0 -0.5 366000 5807000 7", "a b c d e f", "0 0 0 0 366000 5807000", "nan 0 0 1 2 3", "\0"],
)
def test_a_damaged_world_file_is_named(tmp_path, text):
    path = write(tmp_path / "a.tif", PIXELS)
    path.with_suffix(".tfw").write_text(text)
    with pytest.raises(
        Rejected, match=r"a.tfw: not a world file, which has six numbers; correct or delete it"
    ) as caught:
        position(path)
    assert (caught.value.code, caught.value.path.name) == ("unreadable", "a.tfw")


def test_a_world_file_may_end_with_blank_lines(tmp_path):
    (tmp_path / "a.tfw").write_bytes(b"0.5\r\n0\r\n0\r\n-0.5\r\n366000.25\r\n5806999.75\r\n\r\n")
    assert close(world_transform(tmp_path / "a.tfw"), HERE)


@pytest.mark.parametrize(("off_px", "noted"), [(0.0, False), (0.05, False), (0.5, True)])
def test_ground_control_points_nearly_on_a_grid_are_used(tmp_path, off_px, noted):
    found = position(with_points(tmp_path / "a.tif", points(THERE, off_px)))
    moved_px = np.array(~THERE @ (found.transform @ (40.0, 30.0))) - (40, 30)
    assert np.abs(moved_px).max() <= off_px
    assert [note.code for note in found.notes] == ["position-inexact"] * noted
    if noted:
        said = "its ground control points lie up to 0.40 px off the grid through them; used: rectify it if needed"
        assert found.notes[0].sentence == said


def test_ground_control_points_off_a_grid_are_rejected_with_residual_limit_and_remedy(tmp_path):
    path = with_points(tmp_path / "a.tif", points(THERE, 5.0))
    with pytest.raises(Rejected) as caught:
        position(path)
    assert caught.value.code == "position-inexact"
    assert caught.value.sentence == (
        "its 5 ground control points lie up to 4.0 px off a straight grid, 0.5 px is allowed; rectify it with gdalwarp"
    )


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("corners", [((0, 0), (40, 30), (80, 60)), ((3, 3), (3, 3), (3, 3))], ids=["line", "point"])
def test_ground_control_points_that_define_no_grid_are_rejected(tmp_path, corners):
    path = with_points(tmp_path / "a.tif", points(THERE, corners=corners))
    with pytest.raises(Rejected, match=f"its {len(corners)} ground control points .*; rectify it with gdalwarp"):
        position(path)


@pytest.mark.parametrize("corners", [((0, 0), (80, 60)), ((0, 0), (80, 0))], ids=["diagonal", "edge"])
def test_two_ground_control_points_are_rejected_because_they_leave_the_rotation_open(tmp_path, corners):
    with pytest.raises(Rejected, match="has 2 ground control points, which do not show how it is turned"):
        position(with_points(tmp_path / "a.tif", points(THERE, corners=corners)))


def test_the_crs_of_ground_control_points_counts(tmp_path):
    assert position(with_points(tmp_path / "a.tif", points(THERE), "EPSG:32632"), UTM33).crs == UTM32


def test_a_prj_file_counts_where_the_file_states_no_crs_and_before_the_configured_one(tmp_path):
    path = write(tmp_path / "a.tif", PIXELS, transform=HERE)
    assert (position(path).crs, position(path, UTM33).crs) == (None, UTM33)
    (tmp_path / "a.prj").write_text(ESRI_UTM32 + "\n")
    assert position(path, UTM33).crs == CRS.from_epsg(25832)
    stated = write(tmp_path / "a.tif", PIXELS, transform=HERE, crs=UTM33)
    assert position(stated, UTM32).crs == UTM33


def test_sidecar_files_may_start_with_a_byte_order_mark(tmp_path):
    path = write(tmp_path / "a.tif", PIXELS)
    (tmp_path / "a.prj").write_text(ESRI_UTM32, "utf-8-sig")
    (tmp_path / "a.tfw").write_text("0.5\n0\n0\n-0.5\n366000.25\n5806999.75\n", "utf-8-sig")
    assert (close(position(path).transform, HERE), position(path).crs) == (True, CRS.from_epsg(25832))


def test_a_prj_file_in_upper_case_is_found(tmp_path):
    path = write(tmp_path / "a.tif", PIXELS, transform=HERE)
    (tmp_path / "a.PRJ").write_text(ESRI_UTM32)
    assert position(path).crs == CRS.from_epsg(25832)


def test_a_prj_file_without_a_crs_is_named(tmp_path):
    path = write(tmp_path / "a.tif", PIXELS, transform=HERE)
    (tmp_path / "a.prj").write_text("no reference system")
    with pytest.raises(Rejected, match=r"a.prj: holds no reference system that can be read; correct or delete it"):
        position(path)


def test_the_configured_crs_replaces_only_one_that_cannot_be_identified(tmp_path):
    path = write(tmp_path / "a.tif", PIXELS, transform=HERE, crs=CRS.from_wkt(LOCAL))
    found = position(path, UTM33)
    assert (found.crs, [note.code for note in found.notes]) == (UTM33, ["crs-replaced"])
    assert "site plan" in found.notes[0].sentence and "EPSG:32633 is used" in found.notes[0].sentence
    with pytest.raises(Rejected, match=r"'?site plan.* cannot be identified; set data.crs to what it is") as caught:
        position(path)
    assert caught.value.code == "crs-unknown"
    for stated in (TOWN_GRID, ESRI_UTM32, "EPSG:32632"):
        path = write(tmp_path / "b.tif", PIXELS, transform=HERE, crs=CRS.from_user_input(stated))
        assert position(path, UTM33).crs != UTM33


def test_a_crs_without_a_code_that_matches_a_coded_one_is_that_one_and_noted(tmp_path):
    path = write(tmp_path / "a.tif", PIXELS, transform=HERE)
    (tmp_path / "a.prj").write_text(WITHOUT_ELLIPSOID)
    found = position(path)
    assert (found.crs, [note.code for note in found.notes]) == (CRS.from_epsg(2154), ["crs-matched"])
    assert found.notes[0].sentence == (
        "its reference system 'EPSG:2154' (without an EPSG code) matches EPSG:2154, which is used"
    )


@pytest.mark.parametrize(
    ("definition", "epsg"),
    [
        ("EPSG:25832", 25832),
        ("EPSG:25832+7837", 25832),
        ("EPSG:4979", 4326),  # three-dimensional
        ("EPSG:4326", 4326),
        ("+proj=utm +zone=33 +datum=WGS84 +units=m +no_defs", 32633),
        (ESRI_UTM32, 25832),
        (LAMBERT_93, 2154),
        (WITHOUT_ELLIPSOID, 2154),
        (ESRI_DEGREES, 4326),
        (CRS.from_epsg(28992).to_wkt(), 28992),
        (CRS.from_epsg(23032).to_wkt(), 23032),
        (CRS.from_epsg(3857).to_wkt(), 3857),
        (pyproj.CRS("EPSG:25832").to_wkt("WKT1_ESRI"), 25832),
        (pyproj.CRS("EPSG:27700").to_wkt("WKT1_ESRI"), 27700),
        (pyproj.CRS("EPSG:2056").to_wkt("WKT1_ESRI"), 2056),
        (pyproj.CRS("EPSG:2154").to_wkt("WKT1_ESRI"), 2154),
    ],
)
def test_definitions_are_matched_to_their_code(definition, epsg):
    assert identified(CRS.from_user_input(definition).to_wkt()) == CRS.from_epsg(epsg)


def test_another_datum_is_another_crs():
    ed50, etrs89 = parse_crs("EPSG:23032"), parse_crs("EPSG:25832")
    assert not same_crs(ed50, etrs89)
    assert not same_crs(parse_crs("EPSG:4326"), parse_crs("EPSG:4258"))
    named = ESRI_UTM32.replace("D_ETRS_1989", "D_European_1950").replace("GRS_1980", "International_1924")
    named = named.replace("6378137.0,298.257222101", "6378388.0,297.0")
    assert identified(CRS.from_wkt(named).to_wkt()) != CRS.from_epsg(25832)
    assert identified(etrs89.to_wkt()) == CRS.from_epsg(25832)


def test_a_crs_whose_name_lies_about_its_projection_is_not_that_one():
    shifted = LAMBERT_93.replace("700000", "710000")
    assert identified(CRS.from_wkt(shifted).to_wkt()) != CRS.from_epsg(2154)


def test_a_projection_of_its_own_stays_as_it_is():
    found = identified(CRS.from_wkt(TOWN_GRID).to_wkt())
    assert found is not None
    assert found.to_epsg() is None
    assert same_crs(found, CRS.from_wkt(TOWN_GRID))
    assert crs_name(found) == "'Town grid' (without an EPSG code)"
    to_grid = pyproj.Transformer.from_crs("EPSG:4258", found.to_wkt(), always_xy=True)
    np.testing.assert_allclose(to_grid.transform(10.3, 50), (5000, 7000), atol=1e-3)


def test_a_local_system_is_not_identified():
    assert identified(CRS.from_wkt(LOCAL).to_wkt()) is None


def test_reference_systems_are_compared_by_what_they_are_not_how_they_are_spelt():
    utm = parse_crs("EPSG:32633")
    assert same_crs(utm, parse_crs(utm.to_wkt()))
    assert same_crs(utm, parse_crs("+proj=utm +zone=33 +datum=WGS84 +units=m +no_defs"))
    assert not same_crs(utm, parse_crs("EPSG:32632"))


@pytest.mark.parametrize(("one", "other"), [("EPSG:25832", "EPSG:25832+7837"), ("EPSG:4326", "EPSG:4979")])
def test_heights_are_no_part_of_a_position(one, other):
    assert same_crs(parse_crs(one), parse_crs(other))


def test_an_unknown_name_of_a_reference_system_is_an_error():
    sentence = "'EPSG:1' is not a coordinate reference system; write data.crs like EPSG:32633"
    with pytest.raises(DataError, match=sentence):
        parse_crs("EPSG:1")


REAL = Path(__file__).parents[5] / "shared/real/ign"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real scene is not published")
def test_the_layers_of_the_real_scene_have_one_reference_system():
    found = [position(path) for path in sorted(REAL.glob("*.tif"))]
    assert [one.crs for one in found] == [CRS.from_epsg(2154)] * 4
    assert {note.code for one in found for note in one.notes} == {"crs-matched"}

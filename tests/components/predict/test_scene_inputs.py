"""What the network sees of a scene, in any rectangle; blocks, margins and paths leave no trace."""

from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest
from rasterio import Affine
from rasterio.enums import ColorInterp
from rasterio.shutil import copy

from components.common.data.height_scaling import histogram, scaled
from components.common.data.layerinfo import DsmInfo, ImageInfo
from components.common.data.store import Heights
from components.common.readers.scene import SceneFiles, open_scene
from components.predict.inputs import scene_ground
from components.predict.inputs.scene_inputs import Inputs, reflected
from components.predict.inputs.scene_probe import block_of, spread_blocks
from model import MoBaNetConfig
from tests.components.common.readers.conftest import write
from tests.components.conftest import toy_facts

FACTS = replace(toy_facts(MoBaNetConfig(backbone="test_vit")), gsd_m=0.17)
ABOVE = FACTS.heights
METHODS = {
    "above-ground": replace(ABOVE, ground_radius_m=2.0),  # cells of 3 px, a margin of 58 cells
    "above ground already": replace(ABOVE, ground_radius_m=None, relative_to="ground"),
    "training-range": Heights("training-range", 40.0, 25.0, None, None, (-0.5, 2.0), "datum"),
    "per-tile": Heights("per-tile", None, None, None, (2.0, 98.0), (-0.5, 2.0), "datum"),
}
HEIGHT, WIDTH = 560, 1060  # two blocks, and parts of four more
PLACED = {"crs": "EPSG:32633", "transform": Affine(0.17, 0, 366_000, 0, -0.17, 5_807_000)}
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(1, 256, (3, HEIGHT, WIDTH), dtype=np.uint8)
INFO = ImageInfo(files="", bands=FACTS.bands, range=(0, 255), mean=(0.5,) * 3, std=(0.2,) * 3)
RECTANGLES = [
    (slice(0, HEIGHT), slice(0, WIDTH)),
    (slice(511, 513), slice(1023, 1026)),
    (slice(300, 520), slice(600, 1060)),
    (slice(559, 560), slice(0, 1)),
]


def terrain(height=HEIGHT, width=WIDTH):
    """A slope with swells, buildings of 4 m, and holes."""
    rows, columns = np.mgrid[:height, :width]
    metres = 50 + 0.03 * columns + np.sin(rows / 40) + 4 * ((rows % 40 < 8) & (columns % 30 < 8))
    metres += np.random.default_rng(1).normal(0, 0.03, metres.shape)
    metres[5 : height // 4, 7 : width // 20] = np.nan
    return metres.astype(np.float32)


@contextmanager
def scene(folder, image_BHW=None, dsm_HW=None, *, name="", image=None, dsm=None, relative_to="datum"):
    """An open scene; `image` and `dsm` are facts of the files, which have `name` in their names."""
    names = {"image": (), "dsm": ()}
    for kind, pixels, facts in (("image", image_BHW, image), ("dsm", dsm_HW, dsm)):
        if pixels is not None:
            pixels_BHW = pixels.reshape(-1, *pixels.shape[-2:])
            names[kind] = (str(write(folder / f"{kind}{name}.tif", pixels_BHW, **(PLACED | (facts or {})))),)
    heights = DsmInfo(files="", relative_to=relative_to)
    with ExitStack() as stack:
        yield open_scene(SceneFiles(**names, image_info=INFO, dsm_info=heights, crs=None), stack)


@pytest.mark.parametrize("method", METHODS)
def test_every_rectangle_has_exactly_the_pixels_that_preprocessing_the_complete_raster_gives(tmp_path, method):
    metres_HW, facts = terrain(), replace(FACTS, heights=METHODS[method])
    expected_HW = scaled(metres_HW, facts.heights, facts.gsd_m)
    with scene(tmp_path, PIXELS, metres_HW) as opened:
        for rows, columns in RECTANGLES:
            inputs = Inputs(opened, facts)  # nothing is in memory
            patch = inputs.read(rows, columns)
            np.testing.assert_array_equal(patch.image_HWC, np.moveaxis(PIXELS, 0, -1)[rows, columns])
            np.testing.assert_array_equal(patch.dsm_HW, expected_HW[rows, columns])
            sensors_HW = np.where(np.isnan(metres_HW), 1, 3)[rows, columns]
            np.testing.assert_array_equal(patch.sensors_HW, sensors_HW)
        assert (inputs.height_px, inputs.width_px) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("kept", [0, 10**9])
def test_the_order_of_reading_and_what_stays_in_memory_change_nothing(tmp_path, monkeypatch, kept):
    monkeypatch.setattr(scene_ground, "KEPT_CELLS", kept)
    metres_HW, facts = terrain(), replace(FACTS, heights=METHODS["above-ground"])
    expected_HW = scaled(metres_HW, facts.heights, facts.gsd_m)
    with scene(tmp_path, PIXELS, metres_HW) as opened:
        inputs = Inputs(opened, facts)
        strips = [(slice(row, row + 240), slice(left, left + 530)) for left in (0, 530) for row in range(0, 330, 160)]
        for rows, columns in [*strips, *RECTANGLES[1:]]:
            np.testing.assert_array_equal(inputs.read(rows, columns).dsm_HW, expected_HW[rows, columns])


def test_only_the_blocks_of_the_last_rectangle_stay_in_memory(tmp_path):
    with scene(tmp_path, PIXELS, terrain()) as opened:
        inputs = Inputs(opened, replace(FACTS, heights=METHODS["training-range"]))
        inputs.read(slice(0, HEIGHT), slice(0, WIDTH))
        assert len(inputs._blocks) == 6
        inputs.read(slice(530, 560), slice(0, 600))
        assert list(inputs._blocks) == [(1, 0), (1, 1)]


def test_a_warped_dsm_gives_the_same_heights_in_every_rectangle(tmp_path):
    turned = Affine.translation(365_998, 5_807_003) @ Affine.rotation(3) @ Affine.scale(0.23, -0.23)
    facts = replace(FACTS, heights=METHODS["above-ground"])
    with scene(tmp_path, PIXELS, terrain(), dsm={"transform": turned}) as opened:
        whole_HW = Inputs(opened, facts).read(slice(0, HEIGHT), slice(0, WIDTH)).dsm_HW
        assert 0.5 < np.isfinite(whole_HW).mean() < 1
        for rows, columns in RECTANGLES:
            np.testing.assert_array_equal(Inputs(opened, facts).read(rows, columns).dsm_HW, whole_HW[rows, columns])


@pytest.mark.parametrize("shape", [(1, 1), (1, 37), (40, 1), (5, 3), (70, 90)])
def test_beyond_its_edges_a_raster_is_reflected(tmp_path, shape):
    image_BHW, metres_HW = PIXELS[:, : shape[0], : shape[1]], terrain()[: shape[0], 500 : 500 + shape[1]]
    with scene(tmp_path, image_BHW, metres_HW) as opened:
        inputs = Inputs(opened, replace(FACTS, heights=METHODS["training-range"]))
        inside = inputs.read(slice(0, shape[0]), slice(0, shape[1]))
        got = inputs.read(slice(0, 128), slice(-20, 108))
        pads = (0, 128 - shape[0]), (20, 108 - shape[1])
        for layer in ("image_HWC", "dsm_HW", "sensors_HW"):
            values = getattr(inside, layer)
            padded = np.pad(values, [*pads, (0, 0)][: values.ndim], mode="reflect")
            np.testing.assert_array_equal(getattr(got, layer), padded)
    assert reflected(slice(-2, 5), 3).tolist() == [2, 1, 0, 1, 2, 1, 0]


def test_sensors_state_for_each_pixel_what_there_is(tmp_path):
    image_BHW, metres_HW = PIXELS[:, :60, :80].copy(), terrain(60, 80)
    metres_HW[:20, 30:40] = np.nan
    alpha_HW = np.full((60, 80), 255, np.uint8)
    alpha_HW[10:30, 35:50] = 0
    four_BHW = np.concatenate([image_BHW, alpha_HW[None]])
    collar = {"colours": (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)}
    there_HW, measured_HW = alpha_HW > 0, np.isfinite(metres_HW)
    everything = slice(0, 60), slice(0, 80)
    expected = {
        ("rgb", "dsm"): np.where(there_HW, np.where(measured_HW, 3, 1), 0),
        ("rgb",): np.where(there_HW, 1, 0),
        ("dsm",): np.where(measured_HW, 2, 0),
    }
    for modalities, sensors_HW in expected.items():
        network = replace(FACTS.network, modalities=modalities)
        with scene(tmp_path, four_BHW, metres_HW, image=collar) as opened:
            patch = Inputs(opened, replace(FACTS, network=network)).read(*everything)
        np.testing.assert_array_equal(patch.sensors_HW, sensors_HW)
        assert np.isfinite(patch.dsm_HW).any() == ("dsm" in modalities)
        assert patch.image_HWC.any() == ("rgb" in modalities)


def test_without_a_raster_its_sensor_is_missing_everywhere(tmp_path):
    image_BHW, metres_HW = PIXELS[:, :60, :80], terrain(60, 80)
    everything = slice(0, 60), slice(0, 80)
    with scene(tmp_path, None, metres_HW) as opened:
        inputs = Inputs(opened, FACTS)
        patch = inputs.read(*everything)
        np.testing.assert_array_equal(patch.sensors_HW, np.where(np.isnan(metres_HW), 0, 2))
        assert (patch.image_HWC.shape, inputs.probe.image_values, inputs.probe.overlap) == ((60, 80, 3), (), 1.0)
    with scene(tmp_path, image_BHW) as opened:
        inputs = Inputs(opened, FACTS)
        patch = inputs.read(*everything)
        assert (patch.sensors_HW == 1).all()
        assert np.isnan(patch.dsm_HW).all()
        assert (inputs.probe.metres, inputs.probe.overlap) == (None, 1.0)


def test_ground_is_searched_by_the_real_size_of_the_pixels(tmp_path):
    metres_HW, everything = terrain(200, 200), (slice(0, 200), slice(0, 200))
    facts = replace(FACTS, heights=METHODS["above-ground"])
    coarse = {"transform": Affine(1.0, 0, 366_000, 0, -1.0, 5_807_000)}
    with scene(tmp_path, PIXELS[:, :200, :200], metres_HW, image=coarse, dsm=coarse) as opened:
        got_HW = Inputs(opened, facts).read(*everything).dsm_HW
    np.testing.assert_array_equal(got_HW, scaled(metres_HW, facts.heights, 1.0))
    assert np.nanmax(np.abs(got_HW - scaled(metres_HW, facts.heights, facts.gsd_m))) > 0.1


def test_a_probe_states_the_values_of_the_image_the_heights_and_how_much_they_overlap(tmp_path):
    image_BHW = np.arange(3 * 60 * 80, dtype=np.uint16).reshape(3, 60, 80) % 4000 + 100
    image_BHW[:, 30:] = 0
    metres_HW = terrain(60, 80)
    metres_HW[:, :20] = np.nan
    with scene(tmp_path, image_BHW, metres_HW, image={"nodata": 0, "scales": (0.5,) * 3}) as opened:
        probe = Inputs(opened, FACTS).probe
    valid = image_BHW[:, :30]
    assert probe.image_values == tuple((band.min() / 2, band.max() / 2) for band in valid)
    assert probe.metres == (np.nanmin(metres_HW), np.nanmax(metres_HW))
    assert probe.overlap == 0.75


def test_the_fingerprint_depends_on_pixels_and_position_but_not_on_names(tmp_path):
    image_BHW, metres_HW = PIXELS[:, :60, :80], terrain(60, 80)
    moved = {"transform": Affine(0.17, 0, 366_000.5, 0, -0.17, 5_807_000)}

    def fingerprint(image_BHW, metres_HW, name, **facts):
        with scene(tmp_path, image_BHW, metres_HW, name=name, **facts) as opened:
            return Inputs(opened, FACTS).probe.fingerprint

    first = fingerprint(image_BHW, metres_HW, "a")
    assert fingerprint(image_BHW, metres_HW, "b", image={"compress": "deflate"}) == first
    other_BHW, other_HW = image_BHW.copy(), metres_HW.copy()
    other_BHW[1, 3, 4] ^= 1
    other_HW[50, 60] += 0.01
    others = [
        fingerprint(other_BHW, metres_HW, "c"),
        fingerprint(image_BHW, other_HW, "d"),
        fingerprint(image_BHW, metres_HW, "e", image=moved, dsm=moved),
        fingerprint(image_BHW, None, "f"),
    ]
    assert len({first, *others}) == 5


def test_a_vrt_has_the_fingerprint_of_its_file(tmp_path):
    where = {"transform": Affine(1 / 3, 0, 366_000 + 1 / 7, 0, -1 / 3, 5_807_000)}
    with scene(tmp_path, None, terrain(60, 80), dsm=where) as opened:
        first = Inputs(opened, FACTS).probe.fingerprint
        files = SceneFiles((), (str(tmp_path / "dsm.vrt"),), INFO, DsmInfo(files="", relative_to="datum"), None)
    copy(tmp_path / "dsm.tif", tmp_path / "dsm.vrt", driver="VRT")
    with ExitStack() as stack:
        assert Inputs(open_scene(files, stack), FACTS).probe.fingerprint == first


def test_a_nodata_value_that_the_dsm_does_not_name_is_a_hole_in_every_rectangle(tmp_path):
    metres_HW = terrain(600, 60)
    metres_HW[570:590, 10:30] = -999
    with scene(tmp_path, None, metres_HW) as opened:
        patch = Inputs(opened, replace(FACTS, heights=METHODS["training-range"])).read(slice(560, 600), slice(0, 60))
    hole_HW = np.isnan(np.where(metres_HW == -999, np.nan, metres_HW))[560:]
    np.testing.assert_array_equal(np.isnan(patch.dsm_HW), hole_HW)


def test_the_probed_blocks_are_all_of_a_small_raster_and_64_of_a_large_one_with_its_corners():
    assert spread_blocks((513, 1)) == [(0, 0), (1, 0)]
    assert len(spread_blocks((8 * 512, 8 * 512))) == 64
    for shape in ((24_000, 24_000), (3_000, 96_000), (96_000, 3_000), (1, 10**6)):
        blocks, last = spread_blocks(shape), tuple((size - 1) // 512 for size in shape)
        assert 50 <= len(blocks) == len(set(blocks)) <= 64
        assert {(0, 0), last, (0, last[1]), (last[0], 0)} <= set(blocks)
    assert block_of(1, 2, (700, 1100)) == (slice(512, 700), slice(1024, 1100))


def test_percentiles_of_a_raster_come_from_the_probed_heights(tmp_path):
    metres_HW, facts = terrain(100, 100), replace(FACTS, heights=METHODS["per-tile"])
    offset_m, scale_m = histogram(metres_HW).offset_and_scale((2.0, 98.0))
    with scene(tmp_path, None, metres_HW) as opened:
        got_HW = Inputs(opened, facts).read(slice(0, 100), slice(0, 100)).dsm_HW
    np.testing.assert_allclose(got_HW, np.clip((metres_HW - offset_m) / scale_m, -0.5, 2.0), atol=1e-5)

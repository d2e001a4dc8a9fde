import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml

from components.common.inference.modelfile import save_model
from components.common.params import section
from components.common.predictors.models import open_model
from components.predict.config import PredictConfig
from model import MoBaNet, MoBaNetConfig
from pipeline.bench import predict_memory, predict_speed, prediction
from pipeline.bench.predict_rivals import Raster, Sliding, released, starts

PARAMS = Path("params.yaml")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A toy network with windows of 32 px."""
    torch.manual_seed(0)
    config = MoBaNetConfig(backbone="test_vit", backbone_args={"patch_size": 8, "img_size": 32}, decoder_channels=16)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, MoBaNet(config).eval(), predict_memory.facts_of_sample(config, 32))
    return path


@pytest.fixture(scope="module")
def config() -> PredictConfig:
    return replace(section(PARAMS, "predict", PredictConfig), batch_size=4, precision="float32")


def sliding(model, stride_px, batch_size=1):
    with open_model(str(model), CPU) as predictor:
        return Sliding(predictor._network, predictor.facts, CPU, 32, stride_px, batch_size)


def test_the_released_loop_covers_every_pixel_and_its_last_window_ends_at_the_edge():
    assert starts(100, 32, 32) == [0, 32, 64, 68]
    assert starts(32, 32, 16) == [0]


def test_the_released_loop_gives_the_classes_of_the_network(model):
    rng = np.random.default_rng(0)
    raster = Raster(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), rng.random((32, 32), dtype=np.float32))
    loop = sliding(model, 32)
    inputs = loop.inputs(torch.from_numpy(raster.image_HWC)[None], torch.from_numpy(raster.dsm_HW)[None])
    with torch.inference_mode():
        expected_HW = loop.network(*inputs)[0].argmax(0).numpy()
    assert (released(loop, raster) == expected_HW).mean() > 0.999


def test_the_raster_of_the_loops_has_full_batches_only(model):
    raster = predict_speed.noise(sliding(model, 24, batch_size=4))
    assert raster.size == (32 + 3 * 24, 32 + 3 * 24)


def test_every_installed_way_has_a_speed(model, config):
    found = predict_speed.loops(model, config, CPU)
    assert list(found) == ["predict", "released loop", "MONAI SlidingWindowInferer", "torchgeo GridGeoSampler"]
    assert all(speed is None or speed > 0 for speed in found.values())
    assert found["predict"] and found["released loop"]


@pytest.mark.parametrize("missing", ["zero", "excluded"])
def test_the_sensors_are_measured_with_a_network_that_excludes_absent_ones(config, tmp_path, monkeypatch, missing):
    torch.manual_seed(0)
    args = {"patch_size": 8, "img_size": 32}
    network = MoBaNetConfig(backbone="test_vit", backbone_args=args, decoder_channels=16, missing=missing)
    path = tmp_path / "model.safetensors"
    save_model(path, MoBaNet(network).eval(), predict_memory.facts_of_sample(network, 32))
    given, forward = [], MoBaNet.forward_with_gates

    def recorded(self, rgb, dsm):
        given.append((self.config.missing, rgb is not None, dsm is not None))
        return forward(self, rgb, dsm)

    monkeypatch.setattr(MoBaNet, "forward_with_gates", recorded)
    found = predict_speed.sensors(path, config, CPU, tmp_path)
    assert list(found) == ["both sensors", "image only", "DSM only"] and all(speed > 0 for speed in found.values())
    assert set(given) == {("excluded", *sensors) for sensors in [(True, True), (True, False), (False, True)]}


def test_generated_rasters_have_the_size_and_repeat_one_tile(tmp_path):
    image, dsm = predict_memory.make_rasters(tmp_path, 600, 700)
    with rasterio.open(image) as file:
        image_CHW = file.read()
        assert file.block_shapes[0] == (512, 512)
    with rasterio.open(dsm) as file:
        dsm_HW = file.read(1)
    assert image_CHW.shape == (3, 600, 700)
    assert dsm_HW.shape == (600, 700)
    assert (image_CHW[:, :88, :188] == image_CHW[:, 512:, 512:]).all()
    assert np.ptp(dsm_HW) == pytest.approx(7.8)


def test_a_scene_is_mapped_from_disk_to_geotiff(model, config, tmp_path):
    found = predict_speed.scene(model, config, CPU, 256, tmp_path)
    assert found.megapixels_per_s == pytest.approx(256**2 / 1e6 / found.seconds)
    assert 0 < found.of_ceiling < 1
    assert list(tmp_path.iterdir()) == []


def test_the_spread_is_the_difference_of_the_peaks_divided_by_the_largest():
    row = predict_memory.Mapped(1, 1, 1000.0, 1.0, 1.0, 0.0)
    assert predict_memory.spread([row, replace(row, peak_mb=950.0)]) == pytest.approx(0.05)


def test_the_report_is_json_and_a_table(model, config, tmp_path, monkeypatch):
    monkeypatch.setattr(predict_speed, "ROUNDS", 1)
    params = tmp_path / "params.yaml"
    content = yaml.safe_load(PARAMS.read_text())
    content["predict"]["batch_size"] = 2
    params.write_text(yaml.safe_dump(content))
    report = prediction.measure(
        tmp_path, params, model, None, [prediction.Part.loops, prediction.Part.sensors], False, 256, tmp_path, tmp_path
    )
    content = json.loads(json.dumps(asdict(report)))
    assert content["window_px"] == 32
    assert content["sample"] is None
    assert content["faster"]["released loop"] > 0
    assert content["sensors_faster"].keys() == {"image only", "DSM only"}
    table = prediction.as_table(report)
    assert "faster than both by" in table
    assert "released loop" in table
    assert "megapixels/s" not in table


@pytest.mark.system
def test_memory_does_not_depend_on_the_height_or_width_of_a_raster(tmp_path):
    params = tmp_path / "params.yaml"
    content = yaml.safe_load(PARAMS.read_text())
    content["predict"]["block_px"] = 1024  # every raster is wider than a strip
    params.write_text(yaml.safe_dump(content))
    found = list(predict_memory.measure(tmp_path, params, [(3000, 3000), (12_000, 1500), (1500, 12_000)]))
    assert predict_memory.spread(found) < 0.1
    assert max(row.peak_mb for row in found) < 1500

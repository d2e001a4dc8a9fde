"""components/export/formats/qgis.py: the file for QGIS gives the map that `mobanet predict` gives."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import rasterio
import torch

from components.common.data.height_scaling import scaled
from components.common.data.store import Heights
from components.common.exported.raster_layer import KEY, channels, layer_of
from components.common.inference.modelfile import ModelFacts, read_facts, save_model
from components.export.descriptions import predict_example
from components.export.formats.qgis import LayerServable, write_qgis
from model import MoBaNet
from model.inputs import normalise
from tests.components.conftest import export_config, toy_facts
from tests.components.export.deepness import Model, Settings, segment
from tests.components.export.sample_town import HEIGHT, WIDTH, Town, complete, make_town, predicted
from tests.model.toys import distinguishing, toy

SIDE = 32
TEMPERATURE = {"rgb+dsm": 2.0, "rgb": 0.5, "dsm": 3.0}
RANGE = Heights("training-range", 30.0, 10.0, None, (2.0, 98.0), (-0.5, 2.0), "datum")


@dataclass(frozen=True)
class City:
    """A tile of the sample, and a network with its file for QGIS."""

    network: MoBaNet
    facts: ModelFacts
    folder: Path  # with model.safetensors and model_qgis.onnx
    town: Town


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> City:
    """A network that computes every combination of sensors in a way of its own."""
    folder = tmp_path_factory.mktemp("qgis")
    network = distinguishing(aux_heads=False)  # as in a package
    facts = replace(toy_facts(network.config), temperature=TEMPERATURE)
    save_model(folder / "model.safetensors", network, facts)
    write_qgis(folder / "model_qgis.onnx", network, facts, export_config(opset=21))
    return City(network, facts, folder, make_town(folder, facts))


def expected(network, facts, image_NCHW, heights_N1HW) -> np.ndarray:
    """Probabilities `[N, K, H, W]` of the network itself, sample by sample; heights are scaled."""
    found = []
    for image, heights in zip(torch.from_numpy(image_NCHW), torch.from_numpy(heights_N1HW), strict=True):
        rgb, dsm = normalise(image[None], heights[None], facts.image_mean, facts.image_std)
        given = {"rgb": not rgb.isnan().all(), "dsm": not dsm.isnan().all()}
        condition = "+".join(name for name in facts.network.modalities if given[name]) or facts.conditions[0]
        with torch.inference_mode():
            logits = network(rgb if given["rgb"] or not given["dsm"] else None, dsm if given["dsm"] else None)
        found.append((logits / (facts.temperature or {}).get(condition, 1.0)).softmax(1))
    return torch.cat(found).numpy()


def answered(network, facts, layer_NCHW) -> np.ndarray:
    """Probabilities that the module of the graph gives for raw numbers of a layer."""
    with torch.inference_mode():
        return LayerServable(network, facts)(torch.from_numpy(layer_NCHW) * np.float32(1 / 255)).numpy()


def noise(facts, samples=2, seed=0):
    """Image 1..255 and scaled heights, `[N, bands, H, W]` and `[N, 1, H, W]`."""
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 256, (samples, len(facts.bands), SIDE, SIDE)).astype(np.float32)
    return image, rng.uniform(-0.5, 2, (samples, 1, SIDE, SIDE)).astype(np.float32)


def test_deepness_opens_the_file_and_reads_its_metadata(city):
    model = Model(str(city.folder / "model_qgis.onnx"))
    assert (model.channels, model.side, model.classes) == (4, SIDE, 6)
    assert model.settings == Settings(
        model_type="Segmentor",
        class_names=dict(enumerate(city.facts.classes)),
        resolution_cm=5.0,
        tile_px=SIDE,
        overlap_percent=16,
        mean=(0.0,) * 4,
        std=(1.0,) * 4,
        threshold=0,
        small_segment=0,
    )
    graph = onnx.load(city.folder / "model_qgis.onnx")
    assert (graph.ir_version, [(o.domain, o.version) for o in graph.opset_import]) == (9, [("", 20)])
    metadata = {entry.key: json.loads(entry.value) for entry in graph.metadata_props}
    assert metadata["tile_size"] == metadata["tiles_size"] == SIDE
    assert metadata["dsm_values"] == "metres above ground"


def test_the_file_holds_all_facts_of_the_model(city):
    graph = onnx.load(city.folder / "model_qgis.onnx", load_external_data=False)
    own = next(json.loads(entry.value) for entry in graph.metadata_props if entry.key == KEY)
    assert own["channels"] == [*city.facts.bands, "dsm"] == list(channels(city.facts))
    assert (own["format"], own["dsm_values"], own["outputs"]) == ("qgis", "metres above ground", ["probabilities"])
    names = ModelFacts.__dataclass_fields__
    assert read_facts(Path("x"), {name: value for name, value in own.items() if name in names}) == city.facts


def test_a_graph_with_two_inputs_or_a_free_size_is_refused_by_deepness(tmp_path):
    value = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("Add", ["a", "b"], ["c"])]
    for a, b in (([1, 4, 8, 8], [1, 4, 8, 8]), (["N", 4, "H", "W"], None)):
        given = [value("a", 1, a)] + ([value("b", 1, b)] if b else [])
        nodes = nodes if b else [onnx.helper.make_node("Identity", ["a"], ["c"])]
        graph = onnx.helper.make_graph(nodes, "g", given, [value("c", 1, a)])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
        onnx.save(model, tmp_path / "x.onnx")
        with pytest.raises(ValueError, match="the plugin feeds"):
            Model(str(tmp_path / "x.onnx"))


def test_the_script_of_the_page_makes_the_band_of_heights(city, monkeypatch):
    page = Path(__file__).parents[3] / "docs/qgis.md"
    (script,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    monkeypatch.chdir(city.folder)
    exec(script.replace("package/", ""), {})
    with rasterio.open("ndsm.tif") as file:
        assert file.nodata == -9999
        np.testing.assert_array_equal(file.read(1), city.town.layer_HWC[..., 3])


def test_without_overlap_deepness_gives_the_map_of_predict(city):
    predicted_HW = predicted(city.town, city.folder / "model.safetensors", city.folder / "map.tif")
    found_HW = segment(Model(str(city.folder / "model_qgis.onnx")), city.town.layer_HWC, overlap_px=0)
    whole = complete(SIDE)
    assert (predicted_HW[whole] == found_HW[whole]).mean() >= 0.999
    opened_HW = predicted(city.town, city.folder / "model_qgis.onnx", city.folder / "opened.tif")
    assert (predicted_HW == opened_HW).mean() >= 0.999  # our own program opens the file too
    shares = np.bincount(found_HW[whole].ravel(), minlength=6) / found_HW[whole].size
    assert (shares > 0.02).sum() >= 3, "a map of one class would prove nothing"


def test_tiles_that_overlap_are_what_the_network_gives_for_each_of_them(city):
    model = Model(str(city.folder / "model_qgis.onnx"))
    town = city.town
    found_HW = segment(model, town.layer_HWC)
    margin = int(SIDE * 0.16) // 2
    step, holes = SIDE - 2 * margin, town.layer_HWC[..., 3] < -500
    dsm_HW = np.where(holes, np.float32(np.nan), town.dsm_HW)
    heights_HW = scaled(dsm_HW, city.facts.heights, city.facts.gsd_m)
    beyond = ((margin, SIDE), (margin, SIDE))
    image = np.pad(np.moveaxis(town.image_HWC, -1, 0).astype(np.float32), ((0, 0), *beyond), constant_values=np.nan)
    heights = np.pad(heights_HW, beyond, constant_values=np.nan)[None]
    tops, lefts = range(0, HEIGHT, step), range(0, WIDTH, step)
    cuts = [np.s_[:, top : top + SIDE, left : left + SIDE] for top in tops for left in lefts]
    probabilities = expected(
        city.network, city.facts, np.stack([image[cut] for cut in cuts]), np.stack([heights[cut] for cut in cuts])
    )
    classes = probabilities.argmax(1)[:, margin : margin + step, margin : margin + step]
    rows = classes.reshape(len(tops), len(lefts), step, step).swapaxes(1, 2)
    expected_HW = rows.reshape(len(tops) * step, len(lefts) * step)[:HEIGHT, :WIDTH]
    assert (found_HW == expected_HW).mean() >= 0.999  # also at the edges: padding is "not measured", not black


def test_the_graph_gives_the_probabilities_of_the_network_for_every_combination_of_sensors(city):
    image, heights = noise(city.facts, 3)
    image[1], heights[2] = np.nan, np.nan
    layer = layer_of(image, heights * 10, city.facts)  # metres above ground
    session = Model(str(city.folder / "model_qgis.onnx"))._session
    (found,) = session.run(None, {"layer": layer})
    np.testing.assert_allclose(found, expected(city.network, city.facts, image, heights), atol=2e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("nodata", [np.nan, np.inf, -np.inf, -9999.0, -32767.0, 3.4e38, -3.4e38, 9000.0, -500.0])
def test_a_height_that_no_place_has_is_not_measured(city, nodata):
    image, heights = noise(city.facts, 1)
    holes = np.random.default_rng(1).random(heights.shape) < 0.3
    metres = np.where(holes, np.float32(nodata), heights * 10)
    answer = answered(city.network, city.facts, np.concatenate([image, metres], 1))
    holed = np.where(holes, np.float32(np.nan), heights)
    np.testing.assert_allclose(answer, expected(city.network, city.facts, image, holed), atol=2e-5)


@pytest.mark.parametrize("sides", ["right", "bottom", "left and top", "all"])
@pytest.mark.parametrize("dsm", [0.0, -9999.0])
def test_padding_is_not_measured_on_every_side(city, sides, dsm):
    image, heights = noise(city.facts, 1)
    inside = {
        "right": np.s_[..., :20],
        "bottom": np.s_[..., :20, :],
        "left and top": np.s_[..., 9:, 5:],
        "all": np.s_[..., 9:30, 5:20],
    }[sides]
    beyond = np.ones_like(heights, dtype=bool)
    beyond[inside] = False
    layer = np.concatenate([np.where(beyond, 0, image), np.where(beyond, dsm, heights * 10)], 1).astype(np.float32)
    image, heights = (np.where(beyond, np.float32(np.nan), x) for x in (image, heights))
    answer = answered(city.network, city.facts, layer)
    np.testing.assert_allclose(answer, expected(city.network, city.facts, image, heights), atol=2e-5)


def test_black_pixels_and_flat_ground_within_the_raster_are_measured(city):
    image, heights = noise(city.facts, 1)
    image[..., 4:30, 1:31], heights[..., 4:30, 1:31] = 0, 0  # both at once, in almost complete rows
    image[..., :2, :] = 0  # black rows with heights
    heights[..., 30:, :] = 0  # flat rows with an image
    answer = answered(city.network, city.facts, np.concatenate([image, heights * 10], 1))
    np.testing.assert_allclose(answer, expected(city.network, city.facts, image, heights), atol=2e-5)


def test_a_tile_completely_beyond_the_raster_gives_finite_probabilities(city):
    answer = answered(city.network, city.facts, np.zeros((1, 4, SIDE, SIDE), np.float32))
    np.testing.assert_allclose(answer.sum(1), 1, atol=1e-5)


def test_absolute_heights_are_taken_in_metres(city):
    facts = replace(city.facts, heights=RANGE)
    image, heights = noise(facts)
    layer = np.concatenate([image, heights * 10 + 30], 1)
    np.testing.assert_allclose(
        answered(city.network, facts, layer), expected(city.network, facts, image, heights), atol=5e-5
    )


@pytest.mark.parametrize("factor", ["times 1/255", "divided by 255"])
def test_every_pixel_value_survives_the_division(city, factor):
    """Sixteen bits with a range of their own: the graph sees the whole numbers that the store would hold."""
    facts = replace(city.facts, image_range=(100.0, 4100.0))
    stored = np.random.default_rng(2).integers(0, 5000, (1, 3, SIDE, SIDE)).astype(np.float32)
    image = np.rint((stored - 100) / 4000 * 255).clip(0, 255).astype(np.float32)
    _, heights = noise(facts, 1)
    layer = np.concatenate([stored, heights * 10], 1)
    layer = layer * np.float32(1 / 255) if factor == "times 1/255" else layer / np.float32(255)
    with torch.inference_mode():
        rgb, _ = LayerServable(city.network, facts).inputs(
            torch.from_numpy(layer[:, :3]) * 255, torch.from_numpy(layer[:, 3:]) * 255
        )
    whole = rgb.numpy() * np.array(facts.image_std)[:, None, None] + np.array(facts.image_mean)[:, None, None]
    ties = np.isclose((stored - 100) / 4000 * 255 % 1, 0.5, atol=1e-4)
    assert np.abs(whole * 255 - image)[~ties].max() < 1e-3


@pytest.mark.parametrize(("modalities", "names"), [(("rgb",), ["red", "green", "blue"]), (("dsm",), ["dsm"])])
def test_a_network_of_one_sensor_takes_a_layer_of_that_sensor_only(modalities, names):
    network = toy("vit_tiny_patch16_224", modalities=modalities)
    facts = toy_facts(network.config)
    assert list(channels(facts)) == names
    image, heights = noise(facts)
    layer = layer_of(image, heights * 10, facts)
    assert layer.shape == (2, len(names), SIDE, SIDE)
    with torch.inference_mode():
        answer = LayerServable(network, facts)(torch.from_numpy(layer)).numpy()
    np.testing.assert_allclose(answer, expected(network, facts, image, heights), atol=2e-5)


def test_the_example_of_the_package_gives_the_classes_of_the_file(city):
    session = onnxruntime.InferenceSession(city.folder / "model_qgis.onnx", providers=["CPUExecutionProvider"])
    facts = predict_example.facts_of(session)
    layer_CHW = np.ascontiguousarray(np.moveaxis(city.town.layer_HWC, -1, 0))
    found_HW = predict_example.predict(session, facts, layer_CHW[:3], layer_CHW[3:])
    expected_HW = segment(Model(str(city.folder / "model_qgis.onnx")), city.town.layer_HWC, overlap_px=0)
    assert found_HW.shape == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(found_HW[complete(SIDE)], expected_HW[complete(SIDE)])


@pytest.mark.parametrize(
    ("image", "dsm", "sentence"),
    [
        ((3, 8, 9), (8, 8), "image [8, 9] and DSM [8, 8] differ in size"),
        ((8, 9, 3), None, "expected [3, H, W]"),
        (None, (1, 8, 9), "expected [H, W]"),
    ],
)
def test_the_example_says_which_array_does_not_fit(image, dsm, sentence, tmp_path):
    files = {}
    for name, shape in (("image", image), ("dsm", dsm)):
        files[name] = None if shape is None else str(tmp_path / f"{name}.npy")
        if shape is not None:
            np.save(files[name], np.zeros(shape, np.uint8))
    with pytest.raises(SystemExit, match=re.escape(sentence)):
        predict_example.layers_of({"bands": ["r", "g", "b"], "window_px": 8}, files["image"], files["dsm"])


def test_the_example_takes_a_missing_sensor_as_not_measured(tmp_path):
    np.save(tmp_path / "dsm.npy", np.ones((8, 9), np.float32))
    image, dsm = predict_example.layers_of({"bands": ["r", "g"], "window_px": 8}, None, str(tmp_path / "dsm.npy"))
    assert image.shape == (2, 8, 9) and np.isnan(image).all() and dsm.shape == (1, 8, 9) and (dsm == 1).all()

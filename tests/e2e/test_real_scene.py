"""A real scene, four quarters of 25 x 25 m: images, near infrared and lidar heights go through the whole pipeline.

The images carry Lambert-93 as a local system without a code, 36 % of the heights are missing, and the value 0 of the
labels means "no return", so the data set says `crs: EPSG:2154` and `ignore: [0, 1]`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.windows import Window

from components.common.data.store import Store
from components.common.inference.modelfile import load_model
from tests.e2e.conftest import ROOT, TINY, copy_project, merged
from tests.e2e.own_data import EXACT, OwnData, metres_of

SCENE = ROOT.parent / "shared/real/ign"
pytestmark = pytest.mark.skipif(not SCENE.is_dir(), reason=f"{SCENE} is not there: the scene is not published")

SIDE = 126
QUARTERS = {"nw": (0, 0), "ne": (0, SIDE), "sw": (SIDE, 0), "se": (SIDE, SIDE)}
SPLIT = {"train": ["nw", "ne"], "val": ["sw"], "test": ["se"]}
CLASSES = {"ground": 2, "low vegetation": 3, "medium vegetation": 4, "high vegetation": 5, "building": 6}
NOT_LABELLED = [0, 1]
FACTS = {
    "gsd_m": 0.2,
    "crs": "EPSG:2154",
    "acknowledgement": "IGN, BD ORTHO and LiDAR HD, open licence of Etalab",
    "labels": "values",
    "classes": [
        {"name": name, "rgb": [40 * value, 255 - 40 * value, 90], "in_means": True, "value": value}
        for name, value in CLASSES.items()
    ],
    "class_shares": None,
    "eroded": None,
}
THREE = ("red", "green", "blue")
FOUR = (*THREE, "near infrared")


def source(name: str) -> np.ndarray:
    with rasterio.open(SCENE / f"{name}.tif") as file:
        return file.read()


def quarter(array: np.ndarray, tile: str) -> np.ndarray:
    row, column = QUARTERS[tile]
    return array[..., row : row + SIDE, column : column + SIDE]


def cut(name: str, target: Path, tile: str) -> None:
    """A quarter of a file of the scene, with all that the file says of itself."""
    row, column = QUARTERS[tile]
    with rasterio.open(SCENE / f"{name}.tif") as file:
        window = Window(column, row, SIDE, SIDE)
        profile = {"driver": "GTiff", "count": file.count, "dtype": file.dtypes[0], "crs": file.crs}
        place = {"width": SIDE, "height": SIDE, "transform": file.window_transform(window), "nodata": file.nodata}
        target.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(target, "w", **profile, **place) as out:
            out.write(file.read(window=window))


def virtual(target: Path, tile: str) -> None:
    """A quarter of four bands: red, green and blue of one file, near infrared of another, by relative paths."""
    row, column = QUARTERS[tile]
    with rasterio.open(SCENE / "rgb.tif") as file:
        place = file.window_transform(Window(column, row, SIDE, SIDE)).to_gdal()
        wkt = file.crs.to_wkt().replace('"', "&quot;")
    window = f'xOff="{column}" yOff="{row}" xSize="{SIDE}" ySize="{SIDE}"'
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><NoDataValue>255</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">../{name}.tif</SourceFilename><SourceBand>{number}</SourceBand>'
        f'<SrcRect {window}/><DstRect xOff="0" yOff="0" xSize="{SIDE}" ySize="{SIDE}"/></SimpleSource></VRTRasterBand>'
        for band, (name, number) in enumerate([("rgb", 1), ("rgb", 2), ("rgb", 3), ("irc", 1)], start=1)
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><SRS>{wkt}</SRS>'
        f"<GeoTransform>{', '.join(map(repr, place))}</GeoTransform>{bands}</VRTDataset>"
    )


def three_bands(folder: Path) -> OwnData:
    """Every layer of every quarter in a file of its own."""
    for tile in QUARTERS:
        for name in ("rgb", "dsm", "label"):
            cut(name, folder / f"data/{name}/{tile}.tif", tile)
    return scene(folder, "rgb/{tile}.tif", THREE, "dsm/{tile}.tif", "label/{tile}.tif")


def four_bands(folder: Path) -> OwnData:
    """Images are virtual; one file of heights and one of labels for all quarters."""
    (folder / "data").mkdir(parents=True)
    for name in ("rgb", "irc", "dsm", "label"):
        (folder / f"data/{name}.tif").write_bytes((SCENE / f"{name}.tif").read_bytes())
    for tile in QUARTERS:
        virtual(folder / f"data/images/{tile}.vrt", tile)
    return scene(folder, "images/{tile}.vrt", FOUR, "dsm.tif", "label.tif")


def scene(folder: Path, image: str, bands: tuple[str, ...], dsm: str, label: str) -> OwnData:
    facts = FACTS | {
        "image": {
            "ours": {"files": image, "bands": list(bands), "range": [0, 255]}
            | {"mean": [0.4] * len(bands), "std": [0.2] * len(bands)}
        },
        "dsm": {"ours": {"files": dsm, "unit_m": 1.0, "relative_to": "datum"}},
        "label": {"files": label, "ignore": NOT_LABELLED},
    }
    return OwnData(folder, facts, SPLIT, {"preprocess": {"heights": EXACT}})


WAYS = {3: three_bands, 4: four_bands}


@pytest.fixture(scope="module", params=WAYS)
def imported(request, tmp_path_factory):
    """Number of bands, and how acquire, check and preprocess ended."""
    ended = WAYS[request.param](tmp_path_factory.mktemp("scene")).run()
    assert ended.store is not None and not ended.found(), ended.said()
    return request.param, ended


def test_the_quarters_lie_where_the_scene_says(imported):
    with rasterio.open(SCENE / "rgb.tif") as file:
        whole = file.transform
    for entry in imported[1].store.manifest.tiles:
        row, column = QUARTERS[entry.id]
        assert (entry.crs, entry.width_px, entry.height_px) == ("EPSG:2154", SIDE, SIDE)
        np.testing.assert_allclose(entry.transform[2::3], whole @ (column, row), atol=1e-6)


def test_the_bands_are_those_of_the_scene(imported):
    bands, ended = imported
    pixels = np.concatenate([source("rgb"), source("irc")[:1]])[:bands]
    for entry in ended.store.manifest.tiles:
        ours = ended.store[entry].image_HWC.transpose(2, 0, 1)
        np.testing.assert_array_equal(ours, quarter(pixels, entry.id))


def test_heights_are_those_of_the_lidar_and_missing_where_it_had_no_return(imported):
    metres = source("dsm")[0]
    truth = np.where(metres == -9999, np.nan, metres)
    low, high = [], []
    for entry in imported[1].store.manifest.tiles:
        ours = metres_of(imported[1].store, entry.id)
        np.testing.assert_allclose(ours, quarter(truth, entry.id), atol=1e-3)
        assert entry.dsm_missing_share == np.isnan(quarter(truth, entry.id)).mean()
        low.append(np.nanmin(ours))
        high.append(np.nanmax(ours))
    assert (min(low), max(high)) == (pytest.approx(20.75), pytest.approx(39.62))


def test_classes_are_those_of_the_returns_and_no_return_is_ignored(imported):
    bands, ended = imported
    values, pixels = source("label")[0], np.concatenate([source("rgb"), source("irc")[:1]])[:bands]
    truth = np.full(values.shape, 255, np.uint8)
    for label, value in enumerate(CLASSES.values()):
        truth[values == value] = label
    truth[(pixels == 255).all(0)] = 255  # the images mark white as "no image"
    for entry in ended.store.manifest.tiles:
        np.testing.assert_array_equal(ended.store[entry].label_HW, quarter(truth, entry.id))
        assert entry.unknown_px == 0
    assert 0.3 < (truth == 255).mean() < 0.5


@pytest.mark.system
@pytest.mark.parametrize("bands", WAYS)
def test_the_scene_goes_through_the_whole_pipeline(tmp_path, bands):
    data = WAYS[bands](tmp_path / "scene")
    project = copy_project(tmp_path / "project")
    folder = project.root / "datasets/scene"
    folder.mkdir()
    (folder / "dataset.yaml").write_text(yaml.safe_dump(data.facts, sort_keys=False))
    (folder / "quarters.yaml").write_text(yaml.safe_dump(data.split))
    ours = {"source": "folder", "dataset": "scene", "split": "quarters", "path": str(data.files)}
    project.change_params(merged(TINY, {"data": ours, "runtime": {"tracking": "none"}}))
    for step in ("acquire", "check", "preprocess", "train", "evaluate", "export"):
        done = project.step(step)
        assert done.returncode == 0, f"{step}: {done.stderr}"
    store = Store(project.root / "data/store")
    assert [entry.id for entry in store.manifest.subset("test")] == ["se"]
    above = np.concatenate([metres_of(store, tile)[store[entry].label_HW == 4] for tile, entry in by_id(store).items()])
    assert 2 < np.nanmedian(above) < 15, "roofs stand a storey or two above the ground"
    network, facts = load_model(project.root / "models/best.safetensors")
    assert facts.bands == (THREE, FOUR)[bands - 3]
    if bands == 4:  # with three bands, the backbone's own patch embedding is used
        assert network.encoder.image_patch_embedding.in_channels == 4
    evaluation = json.loads((project.root / "reports/evaluation.json").read_text())
    assert evaluation["protocol"]["dataset"] == "scene"
    assert (project.root / "package/model.onnx").stat().st_size > 1000


def by_id(store: Store) -> dict:
    return {entry.id: entry for entry in store.manifest.tiles}

"""A package in environments that have nothing of ours: ONNX Runtime and NumPy, old and new, or torch and NumPy only."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from components.export.step import run as export
from tests.components.conftest import Trained, export_config, trained  # noqa: F401
from tests.components.export import deepness
from tests.components.export.sample_town import Town, complete, make_town, predicted

pytestmark = pytest.mark.system

SIDE = 32
OLD, NEW = ("onnxruntime==1.17.3", "numpy<2"), ("onnxruntime", "numpy")
AGREEMENT = {"float32": 0.999, "float16": 0.995, "int8": 0.97}  # of a toy network, whose classes are close everywhere
LOAD_PT2 = """
import sys
folder, program, image, dsm, output = sys.argv[1:]
sys.path.insert(0, folder)
import numpy as np
import torch
run = torch.export.load(program).module()
with torch.no_grad():
    logits, *_ = run(*(torch.from_numpy(np.load(file)) for file in (image, dsm)))
np.save(output, logits.numpy())
print(sorted({name.partition(".")[0] for name in sys.modules} & {"components", "model", "timm", "safetensors"}))
"""


@pytest.fixture(scope="module")
def package(trained: Trained, tmp_path_factory) -> Path:  # noqa: F811
    """The package of a toy model with every format."""
    folder = tmp_path_factory.mktemp("exported") / "package"
    config = export_config(
        formats=("onnx", "onnx-float16", "onnx-int8", "qgis", "pt2"),
        max_changed=0.5,  # in a toy network all classes are close, and one of its few pixels is 0.03 %
        max_changed_reduced=3.0,
    )
    export(config, trained.weights, trained.evaluation, trained.store, folder)
    return folder


@pytest.fixture(scope="module")
def town(trained: Trained, tmp_path_factory) -> Town:  # noqa: F811
    return make_town(tmp_path_factory.mktemp("town"), trained.facts)


@pytest.fixture(scope="module")
def expected_HW(town: Town, package: Path) -> np.ndarray:
    return predicted(town, package, town.image.with_name("map.tif"))


def environment(folder: Path, requirements: tuple[str, ...]) -> Path:
    """Python of a new virtual environment that has these packages only, not even those that they name."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    installed = subprocess.run([*pip, *requirements], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"pip cannot install {', '.join(requirements)}: {installed.stderr.strip().splitlines()[-1]}")
    return python


@pytest.fixture(scope="module")
def new_python(tmp_path_factory) -> Path:
    return environment(tmp_path_factory.mktemp("new"), NEW)


def output_of(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd)
    assert not done.returncode, done.stderr
    return done.stdout


def test_qgis_deepness_with_its_old_runtime_agrees_with_predict(package, town, expected_HW, tmp_path):
    python = environment(tmp_path / "old", OLD)
    np.save(tmp_path / "layer.npy", town.layer_HWC)
    script = shutil.copy(deepness.__file__, tmp_path)
    command = (python, "-I", script, package / "model_qgis.onnx", "layer.npy", "classes.npy", "0")
    assert output_of(*command, cwd=tmp_path).startswith("1.17.3 1.")
    found_HW = np.load(tmp_path / "classes.npy")
    assert (found_HW == expected_HW)[complete(SIDE)].mean() >= 0.999


def test_qgis_deepness_with_the_newest_runtime_agrees_with_predict(package, town, expected_HW, new_python, tmp_path):
    np.save(tmp_path / "layer.npy", town.layer_HWC)
    script = shutil.copy(deepness.__file__, tmp_path)
    output_of(new_python, "-I", script, package / "model_qgis.onnx", "layer.npy", "classes.npy", "0", cwd=tmp_path)
    found_HW = np.load(tmp_path / "classes.npy")
    assert (found_HW == expected_HW)[complete(SIDE)].mean() >= 0.999


def test_the_example_runs_every_onnx_file_with_onnx_runtime_and_numpy(package, town, expected_HW, new_python, tmp_path):
    formats = json.loads((package / "export.json").read_text())["formats"]
    assert {entry["status"] for entry in formats.values()} == {"exported"}, formats
    np.save(tmp_path / "image.npy", np.moveaxis(town.layer_HWC[..., :3], -1, 0))
    np.save(tmp_path / "dsm.npy", town.layer_HWC[..., 3])
    arguments = ("--image", "image.npy", "--dsm", "dsm.npy", "--out", "classes.npy")
    for entry in formats.values():
        if entry["runtime"] != "onnxruntime":
            continue
        printed = output_of(
            new_python, "-I", package / "predict_example.py", "--model", package / entry["file"], *arguments,
            cwd=tmp_path,
        )  # fmt: skip
        assert printed.startswith("classes: 230 x 250 px\n")
        assert sum(float(share) for share in re.findall(r": ([\d.]+) %", printed)) == pytest.approx(100, abs=0.1)
        found_HW = np.load(tmp_path / "classes.npy")
        same = (found_HW == expected_HW)[complete(SIDE)].mean()
        assert same >= AGREEMENT[entry["precision"]], entry["file"]
    alone = output_of(new_python, "-I", package / "predict_example.py", cwd=tmp_path)
    assert alone.startswith("classes: 32 x 32 px\n")
    np.save(tmp_path / "wide.npy", np.zeros((3, 20, 50), np.float32))
    lacking = output_of(new_python, "-I", package / "predict_example.py", "--image", "wide.npy", cwd=tmp_path)
    assert lacking.startswith("classes: 20 x 50 px\n")


def test_the_torch_program_runs_with_torch_and_numpy_only(package, trained, town, tmp_path):  # noqa: F811
    folder = only(tmp_path / "site", "torch", "numpy")
    here = np.s_[128:160, 160:192]
    image = np.moveaxis(town.layer_HWC[here][..., :3], -1, 0)[None]
    dsm = town.layer_HWC[here][..., 3][None, None]
    np.save(tmp_path / "image.npy", np.ascontiguousarray(image))
    np.save(tmp_path / "dsm.npy", np.ascontiguousarray(dsm))
    command = (
        sys.executable,
        "-I",
        "-S",
        "-c",
        LOAD_PT2,
        folder,
        package / "model.pt2",
        "image.npy",
        "dsm.npy",
        "out.npy",
    )
    assert output_of(*command, cwd=tmp_path).strip() == "[]"
    logits = np.load(tmp_path / "out.npy")
    assert logits.shape == (1, len(trained.facts.classes), SIDE, SIDE)
    answer = deepness.Model(str(package / "model_qgis.onnx")).probabilities(town.layer_HWC[here])
    exponents = np.exp(logits[0] - logits[0].max(0))
    np.testing.assert_allclose(exponents / exponents.sum(0), answer, atol=1e-4)


def only(folder: Path, *names: str) -> Path:
    """A folder with links to some installed packages and to all that they need."""
    folder.mkdir()
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        try:
            found = distribution(name)
        except PackageNotFoundError:  # needed on other machines only
            continue
        if name in seen:
            continue
        seen.add(name)
        waiting += [re.split(r"[^\w.-]", need)[0] for need in found.requires or () if "extra ==" not in need]
        for top in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (folder / top).exists():
                (folder / top).symlink_to(found.locate_file(top))
    return folder

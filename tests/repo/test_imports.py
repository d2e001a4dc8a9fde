from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.repo.import_graph import ROOT, closure, imported

MAY_IMPORT = {
    "model": {"model"},
    "components": {"components", "model"},
    "pipeline": {"pipeline", "components", "model"},
}
TRAINER = ("components/common/cluster.py", "components/common/trainjob.py")
FENCED = {  # library -> the only places that may import it
    "kfp": ("pipeline/", "components/*/component.py"),
    "kfp_server_api": ("pipeline/submission/",),
    "mlflow": ("components/common/tracking.py", "components/common/tracking_store.py", "components/register/"),
    "dvc": ("components/acquire/remote.py",),
    "fsspec": ("components/acquire/remote.py",),
    **dict.fromkeys(("kubernetes", "kubeflow", "kubeflow_trainer_api"), TRAINER),
    "docker": ("pipeline/containers.py",),
    "typer": ("pipeline/",),
    "rasterio": (
        *("components/common/rasters.py", "components/common/grids.py", "pipeline/bench/"),
        *("components/acquire/", "components/check/", "components/preprocess/"),
    ),
}
BARE_GPU_MACHINE = {"torch", "timm", "numpy", "pyarrow", "yaml", "safetensors"}


def modules():
    return sorted(path.relative_to(ROOT) for top in MAY_IMPORT for path in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=str)
def test_imports_point_down(path):
    upward = {name.split(".")[0] for name in imported(path)} & (MAY_IMPORT.keys() - MAY_IMPORT[path.parts[0]])
    assert not upward, f"{path} imports {sorted(upward)}: the direction is pipeline -> components -> model"


@pytest.mark.parametrize("path", [p for p in modules() if p.parts[0] == "components"], ids=str)
def test_no_step_imports_another_step(path):
    steps = {name.split(".")[1] for name in imported(path) if name.startswith("components.")}
    assert steps <= {"common", path.parts[1]}, f"{path} imports {steps}: steps meet in files only"


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_library_is_known_only_where_it_belongs(path):
    for library in {name.split(".")[0] for name in imported(path)} & FENCED.keys():
        places = FENCED[library]
        assert any(str(path).startswith(p) or path.match(p) for p in places), f"{path} imports {library}"


def test_training_needs_nothing_that_a_bare_gpu_machine_lacks():
    names = set()
    for path in closure(Path("components/train/__main__.py"), at_import_time=True):
        names |= {name.split(".")[0] for name in imported(path, at_import_time=True)}
    outside = names - set(sys.stdlib_module_names) - MAY_IMPORT.keys()
    assert outside <= BARE_GPU_MACHINE, f"training imports {sorted(outside - BARE_GPU_MACHINE)}"

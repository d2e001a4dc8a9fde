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
TRAINER = ("components/common/kubernetes/client.py", "components/common/kubernetes/trainjob.py")
FENCED = {  # library -> the only places that may import it
    "kfp": ("pipeline/", "components/*/component.py"),
    "kfp_server_api": ("pipeline/submission/",),
    "mlflow": ("components/common/tracking/", "components/register/"),
    "dvc": ("components/acquire/remote.py",),
    "fsspec": ("components/acquire/remote.py",),
    **dict.fromkeys(("kubernetes", "kubeflow", "kubeflow_trainer_api"), TRAINER),
    "docker": ("pipeline/containers.py",),
    "typer": ("pipeline/",),
    **dict.fromkeys(("fastapi", "starlette", "prometheus_client"), ("components/serve/",)),
    "uvicorn": ("pipeline/commands/serve.py",),
    "rasterio": (
        *("components/common/readers/", "components/common/rasterfiles/", "components/acquire/", "components/check/"),
        *("components/preprocess/", "components/predict/", "components/serve/", "pipeline/bench/"),
    ),
}
PACKAGES = {  # package of components/common -> the packages that it may import; all may import the top level
    "data": set(),
    "rasterfiles": {"data"},
    "readers": {"rasterfiles", "data"},
    "inference": {"data"},
    "scoring": {"inference", "data"},
    "drift": {"inference", "scoring", "data"},
    "uncertainty": {"inference", "scoring", "data"},
    "tracking": set(),
    "trust": {"tracking"},
    "exported": {"inference", "data"},
    "predictors": {"exported", "inference", "scoring", "data", "tracking", "trust"},
    "entrypoints": set(),
    "kubernetes": {"entrypoints"},
}
MOST_MODULES = 10
BUILT_ON = {"serve": {"predict"}, "watch": {"predict"}}
"""Packages that run what a step runs, for a service and for a look at scenes."""
BARE_GPU_MACHINE = {"torch", "timm", "numpy", "pyarrow", "pydantic", "ruamel", "safetensors"}


def modules():
    return sorted(path.relative_to(ROOT) for top in MAY_IMPORT for path in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=str)
def test_imports_point_down(path):
    upward = {name.split(".")[0] for name in imported(path)} & (MAY_IMPORT.keys() - MAY_IMPORT[path.parts[0]])
    assert not upward, f"{path} imports {sorted(upward)}: the direction is pipeline -> components -> model"


@pytest.mark.parametrize("path", [p for p in modules() if p.parts[0] == "components"], ids=str)
def test_no_step_imports_another_step(path):
    steps = {name.split(".")[1] for name in imported(path) if name.startswith("components.")}
    may = {"common", path.parts[1]} | BUILT_ON.get(path.parts[1], set())
    assert steps <= may, f"{path} imports {steps}: steps meet in files only"


def common_package(name):
    """Package of components/common that a module or file belongs to; "" for its top level, None for anything else."""
    parts = name.removesuffix(".py").replace("/", ".").split(".")
    if parts[:2] != ["components", "common"] or len(parts) < 3:
        return None
    return parts[2] if parts[2] in PACKAGES else ""


def test_the_packages_of_common_are_the_documented_ones():
    found = {path.name for path in (ROOT / "components/common").iterdir() if (path / "__init__.py").is_file()}
    assert found == PACKAGES.keys()
    documented = (ROOT / "docs/architecture.md").read_text()
    assert all(f"`{name}`" in documented for name in PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_of_common_imports_only_packages_below_it(package):
    for path in (ROOT / "components/common" / package).glob("*.py"):
        used = {common_package(name) for name in imported(path.relative_to(ROOT))} - {None, "", package}
        assert used <= PACKAGES[package], f"{path.name} imports {sorted(used - PACKAGES[package])}"


def test_the_top_level_of_common_imports_no_package():
    for path in (ROOT / "components/common").glob("*.py"):
        used = {common_package(name) for name in imported(path.relative_to(ROOT))} - {None, ""}
        assert not used, f"{path.name} imports {sorted(used)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_of_common_has_at_most_ten_modules(package):
    names = [path.name for path in (ROOT / "components/common" / package).glob("*.py") if path.name != "__init__.py"]
    assert 0 < len(names) <= MOST_MODULES


def test_no_module_is_part_of_an_import_cycle():
    def reaches(path):
        names = imported(path, at_import_time=True)
        files = {Path(*name.split(".")).with_suffix(".py") for name in names}
        return {file for file in files if (ROOT / file).is_file()}

    graph = {path: reaches(path) - {path} for path in modules()}
    while free := {path for path, used in graph.items() if not used & graph.keys()}:
        graph = {path: used for path, used in graph.items() if path not in free}
    assert not graph, f"these modules import each other: {sorted(map(str, graph))}"


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

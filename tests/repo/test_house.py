"""What newcomers and users see is one truth told in several files; here the files are compared."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from pathlib import Path

import pytest
import yaml

from components.common.params import section
from tests.repo.import_graph import closure

ROOT = Path(__file__).parents[2]
STEPS = ("acquire", "check", "preprocess", "train", "evaluate", "export", "register", "predict")
NO_STEP = "weights"  # a stage of DVC alone, which lets train depend on a file that a parameter may name
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
SECTIONS = {
    "data": "components.common.data.config.DataConfig",
    "sample": "components.acquire.step.SampleConfig",
    "check": "components.check.step.CheckConfig",
    "preprocess": "components.preprocess.step.PreprocessConfig",
    "model": "components.train.config.ModelParams",
    "train": "components.train.config.TrainConfig",
    "runtime": "components.train.config.RuntimeConfig",
    "evaluate": "components.evaluate.config.EvaluateConfig",
    "export": "components.export.config.ExportConfig",
    "register": "components.register.config.RegisterConfig",
    "trust": "components.common.trust.config.TrustConfig",
    "predict": "components.predict.config.PredictConfig",
    "serve": "components.serve.config.ServeConfig",
    "watch": "components.watch.config.WatchConfig",
}
OUTPUTS = {out if isinstance(out, str) else next(iter(out)) for s in DVC["stages"].values() for out in s["outs"]}
OPTIONAL = {
    *("errors", "files", "params", "param_errors", "yaml_files", "metric_names", "pool", "progress", "templates"),
    *("data/config", "data/datasets", "data/layerinfo"),
    *("entrypoints/dvc", "entrypoints/failures", "entrypoints/kubeflow"),
    *("scoring/panels", "tracking/outbox", "tracking/provenance", "tracking/run", "tracking/server"),
    *("tracking/registered_models", "tracking/packages", "tracking/addresses", "tracking/logged_format"),
    *("tracking/answers", "tracking/sqlite_store"),
    *("trust/config", "trust/keys", "trust/signatures", "trust/signature_check", "predictors/trusted_model"),
}
"""Modules of components/common that move, name and show results, but do not shape them in every step that has them."""


def config_class(name):
    module, cls = SECTIONS[name].rsplit(".", 1)
    return getattr(importlib.import_module(module), cls)


def test_steps_packages_and_stages_are_the_same_words():
    packages = {path.parent.name for path in (ROOT / "components").glob("*/step.py")}
    assert packages == set(DVC["stages"]) - {NO_STEP} == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_every_step_has_the_same_files(step):
    names = {path.name for path in (ROOT / "components" / step).iterdir()}
    assert {"__init__.py", "__main__.py", "component.py", "step.py"} <= names


def test_every_section_of_the_params_is_read_by_one_class():
    assert PARAMS.keys() == SECTIONS.keys()


@pytest.mark.parametrize("name", SECTIONS)
def test_the_params_file_names_every_key(name):
    config = section(ROOT / "params.yaml", name, config_class(name))
    assert PARAMS[name].keys() == {f.name for f in dataclasses.fields(config)}


def test_every_line_of_the_params_file_has_a_comment():
    lines = (ROOT / "params.yaml").read_text().splitlines()
    bare = [
        line for line in lines if re.match(r"\s*\w+:", line) and "# " not in line and not line.rstrip().endswith(":")
    ]
    assert not bare


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_depends_on_the_code_that_its_step_imports_and_on_no_other(step):
    reached = {str(path) for path in closure(Path(f"components/{step}/__main__.py"))}
    used = {path for path in reached if path.startswith("components/common/") and not path.endswith("__init__.py")}
    needed = used - {f"components/common/{name}.py" for name in OPTIONAL}
    own = {f"components/{step}"} | ({"model"} if any(path.startswith("model/") for path in reached) else set())
    code = {
        dep for dep in DVC["stages"][step]["deps"] if dep.startswith(("components", "model")) and dep not in OUTPUTS
    }
    packages = {dep for dep in code if dep.startswith("components/common/") and not dep.endswith(".py")}
    assert own <= code <= own | packages | used
    assert needed <= code | {path for path in used if str(Path(path).parent) in packages}
    for package in packages:
        names = {f"{package}/{p.name}" for p in (ROOT / package).glob("*.py") if p.name != "__init__.py"}
        assert 2 * len(names & used) > len(names), f"{step} uses less than half of {package}: name its modules"


@pytest.mark.parametrize("step", STEPS)
def test_the_door_for_kubeflow_re_runs_no_stage(step):
    path = f"components/{step}/component.py"
    assert (ROOT / path).is_file()
    listed = [line for line in (ROOT / ".dvcignore").read_text().splitlines() if not line.startswith("#")]
    assert any(Path(path).match(pattern) for pattern in listed)
    assert Path(path) not in closure(Path(f"components/{step}/__main__.py"))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "components").rglob("*.py")) + sorted((ROOT / "model").glob("*.py")), ids=str
)
def test_a_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_the_lock_has_hashes_and_names_no_host():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock and "index-url" not in lock
    pinned = re.findall(r"^[\w.\[\]-]+==", lock, flags=re.M)
    assert len(pinned) > 100
    for block in re.split(r"^(?=[\w.\[\]-]+==)", lock, flags=re.M)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]


SHARED_NAMES = {"__init__", "__main__", "step", "component", "config", "params", "report"}
"""Names of modules that several packages have, with one meaning."""


def test_no_two_modules_share_a_name_with_different_meanings():
    stems = [path.stem for top in ("components", "model", "pipeline") for path in (ROOT / top).rglob("*.py")]
    assert {stem for stem in stems if stems.count(stem) > 1} <= SHARED_NAMES

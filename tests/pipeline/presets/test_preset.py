"""Every preset is valid, is accepted by Kubeflow and DVC, and builds the network that the README counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from components.common.data import datasets
from components.common.errors import ParamsError
from components.common.params import dotted, from_mapping
from components.common.yaml_files import parse_yaml, read_yaml
from model.catalogue import pretrained_backbones
from model.mobanet import count_parameters, on_meta
from pipeline.form import SECTIONS, defaults, sections
from pipeline.presets.preset import FOLDER, SHIPPED, names, nearest, preset
from tests.e2e.conftest import Project, copy_project

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
OWN_DATA = (ROOT / "docs/your_own_data.md").read_text()
CASES = pytest.mark.parametrize("name", names())
SAMPLES = ("sample", "sample-25")
RELEASED = ("potsdam-vitl", "vaihingen-vitl")
STATED = {"train.masking.paired"}  # shipped values that a preset states, because its batch size depends on them


def values(name: str) -> dict:
    return dict(parse_yaml(preset(name).text, name))


def config(name: str, section: str):
    return from_mapping(SECTIONS[section], values(name)[section], section)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A copy of the project with the data set of docs/your_own_data.md. Empty outputs exist, because DVC reads them."""
    made = copy_project(tmp_path_factory.mktemp("presets") / "project")
    for name, text in re.findall(r"`(datasets/[\w./]+)`[^`]*?:\n\n```yaml\n(.*?)```", OWN_DATA, re.S):
        (made.root / name).parent.mkdir(exist_ok=True)
        (made.root / name).write_text(text)
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for out in stage["outs"]:
            path = made.root / (out if isinstance(out, str) else next(iter(out)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch() if path.suffix else path.mkdir()
    return made


def test_the_presets_are_the_documented_ones():
    assert names() == [
        *("one-small-gpu", "own-data", "potsdam-dinov3", "potsdam-vitl", "sample", "sample-25", "vaihingen-vitl"),
    ]
    page = (ROOT / "docs/parameters.md").read_text()
    for name in names():
        assert f"| `{name}` | {preset(name).needs} | {preset(name).about} |" in page


def test_the_project_is_delivered_with_the_preset_sample():
    assert preset("sample").text == SHIPPED.read_text()
    assert (ROOT / "params.yaml").read_text() == SHIPPED.read_text(), (
        "params.yaml and pipeline/presets/params.yaml differ: copy the one that you edited over the other"
    )


@CASES
def test_a_preset_lists_only_values_that_differ_from_the_shipped_ones(name):
    shipped, changed = dict(dotted(read_yaml(SHIPPED))), dict(dotted(read_yaml(FOLDER / f"{name}.yaml")["params"]))
    assert {key for key, value in changed.items() if shipped.get(key) == value} <= STATED


@CASES
def test_every_value_of_a_preset_is_in_its_params_file_and_all_others_are_as_shipped(name):
    shipped, changed = dict(dotted(read_yaml(SHIPPED))), dict(dotted(read_yaml(FOLDER / f"{name}.yaml")["params"]))
    if name not in SAMPLES:
        del shipped["model.backbone_args.patch_size"]  # backbone_args: {}
    assert dict(dotted(values(name))) == shipped | changed


@CASES
def test_a_preset_keeps_all_comments_and_the_order_of_keys(name):
    given, shipped = preset(name).text.splitlines(), SHIPPED.read_text().splitlines()
    assert [line.partition(":")[0] for line in given] == [line.partition(":")[0] for line in shipped]
    assert [line.partition(" # ")[2] for line in given] == [line.partition(" # ")[2] for line in shipped]


@CASES
def test_the_keys_to_edit_exist(name):
    assert set(preset(name).edit) <= dict(dotted(values(name))).keys()
    assert bool(preset(name).edit) == (name not in SAMPLES)


@CASES
def test_every_section_of_a_preset_is_valid_and_kubeflow_accepts_it(name, tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text(preset(name).text)
    form = defaults(params)
    assert sections(form.form, form.text).keys() == SECTIONS.keys()
    assert (form.form["data_source"], form.form["train_steps"]) == (
        values(name)["data"]["source"],
        values(name)["train"]["steps"],
    )


@CASES
def test_dvc_would_run_every_step_with_a_preset(name, project):
    (project.root / "params.yaml").write_text(preset(name).text)
    done = project.call("dvc", "repro", "--dry")
    assert done.returncode == 0, done.stderr
    for step in ("acquire", "check", "preprocess", "train", "evaluate", "export", "register", "predict"):
        assert f"-m components.{step}\n" in done.stdout


@CASES
def test_the_network_of_a_preset_has_the_weights_that_the_readme_counts(name):
    model, data = config(name, "model"), config(name, "data")
    facts = datasets.dataset("sample" if name == "own-data" else data.dataset, data.image)
    network = on_meta(model.network(len(facts.classes), len(facts.image.bands)))
    count = count_parameters(network)["network"]
    if name not in SAMPLES:
        row = f"| `{model.backbone}` | {count.total / 1e6:.1f} M | {count.trainable / 1e6:.1f} M |"
        assert row in README
    train = config(name, "train")
    assert (train.crop_px, network.patch_size) in {(128, 16), (256, 14), (256, 16)}  # padded by 10 px with 14


@CASES
def test_windows_and_tiles_of_a_preset_exist(name):
    train, evaluate, data = config(name, "train"), config(name, "evaluate"), config(name, "data")
    assert evaluate.stride_px <= (evaluate.window_px or train.crop_px)
    assert train.validation.stride_px <= train.crop_px
    if name != "own-data":
        split = datasets.split(data.dataset, data.split)
        assert split.tiles


@CASES
def test_weights_of_a_preset_exist_and_its_file_names_their_licence(name):
    model = config(name, "model")
    if model.weights == "hub":
        licences = {entry.licence for entry in pretrained_backbones(f"{model.backbone}*")}
        text = (FOLDER / f"{name}.yaml").read_text().lower()
        assert licences and all(licence.lower() in text for licence in licences)


@pytest.mark.parametrize("name", RELEASED)
def test_a_preset_with_the_released_recipe_hides_rectangles_with_0_and_has_no_copies(name):
    train, model = config(name, "train"), config(name, "model")
    assert "recipe of the released code" in preset(name).about
    assert (model.missing, model.batch_norm) == ("zero", "shared")
    assert (train.masking.share, train.masking.full_share, train.masking.paired) == (0.25, 0.0, 0.0)
    assert (train.batch_size, train.learning_rate) == (24, 2e-4)


@pytest.mark.parametrize("name", [name for name in names() if name not in SAMPLES + RELEASED])
def test_a_preset_with_copies_has_half_the_batch_and_learning_rate(name):
    train, model = config(name, "train"), config(name, "model")
    assert (model.missing, model.batch_norm, train.masking.paired) == ("excluded", "per-condition", 2.0)
    crops = 6 if name == "one-small-gpu" else 12
    assert (train.batch_size, train.learning_rate) == (crops, pytest.approx(2e-4 * crops / 24))


def test_an_unknown_preset_is_one_sentence_that_lists_the_names():
    with pytest.raises(ParamsError, match="there is no preset 'potsdam'; use one of one-small-gpu, own-data, "):
        preset("potsdam")


def test_differences_are_the_changed_missing_and_additional_keys():
    given = values("sample")
    given["train"]["steps"] = 301
    given["model"]["backbone_args"] = {}
    given["check"]["accept"] = {"dsm-constant": "all"}
    removed = given.pop("trust")
    assert preset("sample").differences(given) == {
        "model.backbone_args.patch_size": ("(missing)", 16),
        "train.steps": (301, 600),
        "trust.require_signature": ("(missing)", removed["require_signature"]),
        "trust.public_key": ("(missing)", removed["public_key"]),
        "check.accept.dsm-constant": ("all", "(missing)"),
    }


@CASES
def test_the_nearest_preset_of_slightly_changed_parameters_is_their_own(name):
    given = values(name)
    given["train"]["seed"] += 1
    given["data"]["path"] = "elsewhere"
    assert nearest(given).name == name

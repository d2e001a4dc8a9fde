"""pipeline/form.py: splitting params.yaml into form and text, merging them, and rejecting wrong values."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
import yaml

from components.common.errors import ParamsError
from components.common.params import SECTIONS as SECTION_NAMES
from components.common.params import section
from pipeline.form import FORM, SECTIONS, check_memory, defaults, pod_gpus, sections
from pipeline.tasks import begin

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def given():
    return defaults(PARAMS)


def test_what_is_taken_apart_and_put_together_is_the_params_file(given):
    found = {name: json.loads(text) for name, text in sections(given.form, given.text).items()}
    assert found == yaml.safe_load(PARAMS.read_text())


def test_the_sections_are_those_of_the_params_file_and_fit_their_classes():
    assert SECTIONS.keys() == yaml.safe_load(PARAMS.read_text()).keys()
    for name, cls in SECTIONS.items():
        assert isinstance(section(PARAMS, name, cls), cls)


def test_the_first_task_asks_for_every_field_of_the_form_and_answers_with_every_section():
    asked = inspect.signature(begin.python_func)
    of_kubeflow = {"params", "train_nodes", "train_gpus", "train_memory", "evaluate_memory", "run", "workspace"}
    assert asked.parameters.keys() - of_kubeflow == FORM.keys()
    assert asked.return_annotation._fields == (*SECTIONS, "pod_gpus")


@pytest.mark.parametrize(("nodes", "gpus", "asked"), [(1, 0, 0), (1, 4, 4), (2, 0, 0), (2, 4, 0)])
def test_a_pod_that_launches_others_holds_no_gpu(nodes, gpus, asked):
    assert pod_gpus(nodes, gpus, batch_size=16) == asked


@pytest.mark.parametrize(
    ("nodes", "gpus", "sentence"),
    [
        (0, 1, "train_nodes is 0 and train_gpus 1; expected 1 or more, and 0 or more"),
        (2, -1, "train_nodes is 2 and train_gpus -1; expected 1 or more, and 0 or more"),
        (
            3,
            0,
            "train_batch_size is 8; expected a multiple of 3, the number of processes that train_nodes and",
        ),
        (2, 4, r"train_batch_size is 8; expected a multiple of 8, .*, and 16 or more"),
        (2, 8, "train_batch_size is 8; expected a multiple of 16, the number of processes that"),
    ],
)
def test_nodes_that_could_not_train_are_refused_by_the_first_task(nodes, gpus, sentence):
    with pytest.raises(ParamsError, match=f"^{sentence}"):
        pod_gpus(nodes, gpus, batch_size=8)


def test_a_change_in_the_form_reaches_its_section_and_no_other(given):
    before = sections(given.form, given.text)
    after = sections(given.form | {"train_steps": 70}, given.text)
    assert json.loads(after["train"])["steps"] == 70
    assert {name for name in before if before[name] != after[name]} == {"train"}


@pytest.mark.parametrize(
    ("form", "old", "new", "sentence"),
    [
        ({"train_steps": 0}, "", "", "params: train.steps is 0; expected a whole number from 1 to 10000000"),
        ({"data_path": "/x"}, "", "", "params: data.path is '/x'; expected null with the sample"),
        ({}, "opset: 20", "opset: 20, opsett: 1", "params: export.opsett is unknown"),
        (
            {},
            "{crop_px",
            "{seed: 3, crop_px",
            "params: train.seed is set twice; remove it here, because train_seed in the form",
        ),
        ({}, "register:", "registry:", "params: the section register is missing"),
        ({}, "export:", "more: {}, export:", "params: the section more is unknown"),
        ({}, "{", "", "params:1: not valid YAML"),
    ],
)
def test_what_a_step_would_refuse_is_refused_before_the_first_step(given, form, old, new, sentence):
    with pytest.raises(ParamsError, match="^" + sentence.replace(".", r"\.")):
        sections(given.form | form, given.text.replace(old, new, 1) if old else given.text)


def test_a_params_file_that_does_not_fit_names_itself(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.read_text().replace("steps: 600", "steps: many"))
    with pytest.raises(ParamsError, match=r"params\.yaml: train\.steps is 'many'"):
        defaults(path)


@pytest.mark.parametrize("quantity", ["64G", "512Mi", "1000000000"])
def test_memory_is_a_quantity_of_kubernetes(quantity):
    check_memory(train_memory=quantity)


@pytest.mark.parametrize("quantity", ["64 GB", "lots", "", "-1G", "0", "64g"])
def test_what_kubernetes_would_refuse_when_the_pod_is_due_is_refused_at_once(quantity):
    with pytest.raises(ParamsError, match="train_memory is .*expected a Kubernetes quantity"):
        check_memory(evaluate_memory="1G", train_memory=quantity)


def test_the_page_lists_every_field_of_the_form():
    page = (PARAMS.parent / "docs/kubeflow.md").read_text()
    listed = page.partition("The form contains")[2].partition("The parameter")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == FORM.keys()


def test_every_step_knows_the_names_of_all_sections():
    assert tuple(SECTIONS) == SECTION_NAMES

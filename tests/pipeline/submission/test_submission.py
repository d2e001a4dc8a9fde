"""pipeline/submission/submission.py: what is rejected before anything is sent, and what is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from components.common.errors import ParamsError
from pipeline.form import LIMIT
from pipeline.graph import compiled
from pipeline.graphs import GRAPHS
from pipeline.resources import PREDICTION_RESOURCES
from pipeline.submission.submission import plan

ROOT = Path(__file__).parents[3]


def test_every_parameter_is_sent_with_the_type_that_the_graph_gives_it(a_plan):
    values = a_plan("train_steps=120", "register_promote=false", "data_path=", "model_weights=s3://b/k=v").values
    assert (values["train_steps"], values["register_promote"], values["data_path"]) == (120, False, "")
    assert values["model_weights"] == "s3://b/k=v"
    assert type(values["train_seed"]) is int and values["train_seed"] == 1, "a default too is no 1.0"


def test_every_parameter_of_the_graph_is_sent(a_plan, graph):
    assert a_plan().values.keys() == next(yaml.safe_load_all(graph))["root"]["inputDefinitions"]["parameters"].keys()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["train_steps=many"], "--set train_steps is 'many'; expected a whole number"),
        (["train_steps=1.5"], "--set train_steps is '1.5'; expected a whole number"),
        (["register_promote=1"], "--set register_promote is '1'; expected true or false"),
        (["steps=3"], r"--set is 'steps=3'; expected NAME=VALUE, where NAME is one of .*train_steps"),
        (["train_steps"], "--set is 'train_steps'; expected NAME=VALUE"),
        (["train_seed=1", "train_seed=2"], "--set gives train_seed twice"),
        (["train_steps=0"], "train.steps is 0"),
        (["train_memory=64 GB"], "train_memory is .64 GB.; expected a Kubernetes quantity"),
        (["train_nodes=3"], "train_batch_size is 8; expected a multiple of 3"),
        (["params={}"], "the section data is missing"),
        ([f"params={'x' * (LIMIT + 1)}"], f"has {LIMIT + 1} characters; shorten it to {LIMIT}"),
    ],
)
def test_a_wrong_parameter_is_one_sentence(changes, sentence, a_plan):
    with pytest.raises(ParamsError, match=sentence):
        a_plan(*changes)


@pytest.fixture(scope="module")
def prediction():
    """The prediction graph, compiled."""
    return compiled(GRAPHS["predict"].build(ROOT / "params.yaml", "mobanet:test", PREDICTION_RESOURCES))


MAP = ("image=s3://city/images", "output=s3://city/maps")


def test_a_submission_of_the_prediction_graph_has_its_pipeline_and_its_values(prediction):
    planned = plan(GRAPHS["predict"], prediction, [*MAP, "parts=4"], experiment="maps")
    assert (planned.pipeline, planned.version[:16]) == ("mobanet-predict", "mobanet-predict-")
    assert (planned.values["parts"], planned.values["image"]) == (4, "s3://city/images")
    assert planned.name.startswith("mobanet-predict 2")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([], "output is empty; set it, for example to s3://BUCKET/PREFIX"),
        (["output=maps"], "image and dsm are empty; set at least one of them"),
        ([*MAP, "model="], "model is empty; set it, for example to models:/NAME@ALIAS"),
        ([*MAP, "parts=0"], "parts is 0; expected a number from 1 to 1000"),
        ([*MAP, "extras=confidence, seams"], "extras names 'seams'; expected some of confidence, entropy"),
        ([*MAP, "acquired=June"], "acquired is 'June'; expected a date or time"),
        ([*MAP, "memory=16 GB"], "memory is '16 GB'; expected a Kubernetes quantity"),
        ([*MAP, "gpus=2"], "gpus is 2; expected 0 or 1"),
        ([*MAP, "params={overlap: 2}"], "predict"),
        ([*MAP, "scenes=2"], "NAME is one of .*image"),
    ],
)
def test_a_wrong_parameter_of_the_prediction_graph_is_one_sentence(changes, sentence, prediction):
    with pytest.raises(ParamsError, match=sentence):
        plan(GRAPHS["predict"], prediction, changes, experiment="maps")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cron": "30 2 * * *"}, "expected six fields, seconds first"),
        ({"every": "0h"}, "--every is '0h'; expected a number >= 1 and s, m, h or d"),
        ({"every": "12"}, "--every is '12'"),
        ({"every": "1h", "cron": "0 0 2 * * *"}, "both set"),
    ],
)
def test_a_schedule_that_would_not_do_what_it_says_is_refused(options, sentence, a_plan):
    with pytest.raises(ParamsError, match=sentence):
        a_plan(**options)


def test_a_schedule_is_a_cron_line_or_a_number_of_seconds(a_plan):
    assert a_plan(cron="0 30 2 * * *").schedule.cron == "0 30 2 * * *"
    assert a_plan(every="12h").schedule.every_s == 12 * 3600
    assert a_plan().schedule is None


def test_the_version_is_named_by_the_content_of_the_graph_alone(a_plan, graph):
    assert a_plan().version == a_plan("train_steps=120", experiment="other", name="x").version
    assert plan(GRAPHS["train"], graph + "\n", (), experiment="sample").version != a_plan().version


def test_two_submissions_have_different_keys(a_plan):
    assert a_plan(name="same").key != a_plan(name="same").key

"""components/train/divergence.py, and trainings in which a value becomes NaN or infinite."""

from __future__ import annotations

import csv
import math
import random

import pytest
import torch

from components.common.errors import NonFiniteError
from components.common.inference.modelfile import InitialWeights, load_model
from components.train import step
from components.train.checkpoints.checkpoint import Progress
from components.train.divergence import RecentSteps, fault, stopped
from components.train.optim import StepFigures
from components.train.ranks.distributed import single_rank
from components.train.step import run
from tests.components.train.conftest import TRAIN
from tests.components.train.injections import KINDS, Injection, newest_checkpoint, outcome, outcomes

RANKS = single_rank(torch.device("cpu"))
LOG_EVERY = 3


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Folder of the training that nothing disturbs; `train` fills it once."""
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture
def train(tmp_path, toy_store, train_config, model_params, runtime):
    """Train in a folder of `tmp_path`; the same call again is the same command again."""

    def call(name, **changes):
        folder, config = tmp_path / name, train_config(**{"steps": 5} | changes)
        intervals = runtime(log_every_steps=LOG_EVERY, checkpoint_every_steps=None)
        return run(config, model_params(), intervals, toy_store, folder / "models", folder / "checkpoints")

    return call


def results(folder):
    weights = load_model(folder / "models/best.safetensors")[0].state_dict()
    return weights, [(folder / "models" / name).read_text() for name in ("training.csv", "validation.csv")]


def assert_same(one, other):
    (weights, tables), (others, other_tables) = results(one), results(other)
    assert [name for name in weights if not torch.equal(weights[name], others[name])] == []
    assert tables == other_tables


@pytest.mark.parametrize(("kind", "step", "value"), [
    ("loss", 1, math.nan),
    ("gradient", 2, math.inf),
    ("weight", 3, math.inf),
    ("statistic", 5, math.nan),
])  # fmt: skip
def test_a_value_that_is_not_finite_stops_the_run_and_the_same_command_continues_it(
    train, tmp_path, undisturbed, kind, step, value
):
    injection = Injection(kind, step, value)
    with injection.active():
        code, sentence = outcome(lambda: train("broken"))
    assert code == 3
    assert step <= injection.seen[-1] < step + LOG_EVERY
    assert "\n" not in sentence and f"training stopped at step {injection.seen[-1]}: " in sentence
    newest, tensors = newest_checkpoint(tmp_path / "broken/checkpoints")
    assert newest < step and all(tensor.isfinite().all() for tensor in tensors.values())
    assert sentence.endswith(f"; the newest checkpoint (step {newest}) is finite")
    assert not (tmp_path / "broken/models").exists()
    train("broken")
    if not (undisturbed / "models").exists():
        train(undisturbed)
    assert_same(tmp_path / "broken", undisturbed)


@pytest.mark.parametrize("kind", KINDS)
def test_all_ranks_stop_at_the_same_step_wherever_the_value_was(train, kind):
    injection = Injection(kind, 2, rank=int(kind != "statistic"))  # on CPUs, the statistics of rank 0 are used
    first, second = outcomes(2, injection, lambda: train("a", batch_size=4))
    assert first == second, first
    assert first[0] == 3 and first[2] == [1, 2, 3]


def test_logits_that_are_not_finite_stop_the_validation_although_all_weights_are_finite(train, tmp_path, caplog):
    """Without the check, NaN counts as a class: the step is scored and may be selected."""
    with caplog.at_level("INFO"), Injection("logit", 4).active():
        code, sentence = outcome(lambda: train("a"))
    assert code == 3 and "\n" not in sentence
    found = "in the validation, the network gives logits that are NaN or infinite for tile 4_10 (rgb+dsm)"
    assert sentence.startswith(f"training stopped at step 4: {found} (last finite gradient norm: ")
    assert "the newest checkpoint (step 4) has this network; remove the checkpoints to start again" in sentence
    assert "best so far" not in caplog.text and "validation mIoU" not in caplog.text
    newest, tensors = newest_checkpoint(tmp_path / "a/checkpoints")
    assert newest == 4 and all(tensor.isfinite().all() for tensor in tensors.values())
    assert not list((tmp_path / "a/checkpoints").glob("candidate-*")) and not (tmp_path / "a/models").exists()
    assert outcome(lambda: train("a")) == (3, sentence)  # the resumed run validates first


def test_all_ranks_stop_together_when_one_of_them_gets_such_logits(train):
    first, second = outcomes(2, Injection("logit", 4, rank=1), lambda: train("a", batch_size=4))
    assert first == second, first
    assert first[0] == 3 and first[2] == [1, 2, 3, 4]
    assert "for tile 4_11 (rgb+dsm)" in first[1]  # the second job, which is the first of rank 1


@pytest.mark.parametrize("cause", [math.nan, 3e38])
def test_initial_weights_whose_outputs_are_not_finite_are_named_before_the_first_step(
    train, tmp_path, monkeypatch, cause
):
    def load(network, *args):
        for weight in network.decoder.parameters():
            weight.data.fill_(cause)
        return InitialWeights("none")

    monkeypatch.setattr(step, "load_initial_weights", load)
    code, sentence = outcome(lambda: train("a"))
    assert code == 3
    assert "the initial weights give a loss that is NaN or infinite" in sentence
    assert "model.weights and model.init" in sentence and "gradient" not in sentence
    assert not (tmp_path / "a/checkpoints").exists()


def test_a_huge_learning_rate_ends_in_a_sentence_that_says_what_to_try(train):
    with pytest.raises(NonFiniteError) as stopped:
        train("a", learning_rate=1e18)
    sentence = str(stopped.value)
    assert "lower train.learning_rate, set train.max_gradient_norm, or check model.weights" in sentence
    assert "precision" not in sentence  # it is float32 already


def test_the_sentence_names_the_first_step_and_the_norm_before_it():
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    recent = RecentSteps(RANKS, [[1.0, 4.0]])
    for loss, norm in ((2.0, 5.0), (3.0, math.inf), (math.nan, math.nan)):
        recent.add(StepFigures(torch.tensor(loss), torch.tensor(norm)))
    progress = Progress(step=14, since_row=recent.read(), gradient_norm=3.0)
    assert progress.since_row[:3] == [[1.0, 4.0], [2.0, 5.0], [3.0, math.inf]]
    assert fault(progress, network, optimizer, RANKS) == "the gradient norm of step 13 is inf"
    assert progress.gradient_norm == 5.0


def test_weights_statistics_and_optimiser_state_are_named():
    network = torch.nn.BatchNorm1d(2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    progress = Progress(step=1, since_row=[[1.0, 1.0]])
    assert fault(progress, network, optimizer, RANKS) is None
    for tensor, name in (
        (optimizer.state[network.bias]["exp_avg_sq"], "optimiser state exp_avg_sq of bias"),
        (network.running_var, "statistic running_var"),
        (network.weight.data, "weight weight"),
    ):
        tensor[0] = math.inf
        assert fault(progress, network, optimizer, RANKS) == f"{name} is not finite after step 1"


@pytest.mark.parametrize(("changes", "words"), [
    ({}, "set train.max_gradient_norm, or check"),
    ({"max_gradient_norm": 1.0}, "lower train.max_gradient_norm, or check"),
    ({"precision": "bf16"}, "set train.max_gradient_norm, set train.precision: float32, or check"),
    ({"weight_decay": 1e6}, "set train.max_gradient_norm, lower train.weight_decay, which is 1e+06, or check"),
    ({"masking": TRAIN["masking"] | {"distillation": 9.0}}, "set train.max_gradient_norm, or check"),  # no copies
    ({"masking": TRAIN["masking"] | {"paired": 2.0, "distillation": 9.0}}, "lower train.masking.distillation, which"),
    ({"masking": TRAIN["masking"] | {"paired": 2.0, "paired_weight": 2.0}}, "set train.max_gradient_norm, or check"),
    ({"aux_weight": 50.0}, "lower train.aux_weight, which is 50, or check model.weights, model.init and the value"),
])  # fmt: skip
def test_the_advice_fits_the_parameters(train_config, changes, words):
    error = stopped("the loss of step 3 is nan", Progress(step=5), train_config(**changes), None)
    assert words in str(error)
    assert "(last finite gradient norm: none)" in str(error) and str(error).endswith("there is no checkpoint")


def test_the_largest_gradient_norm_since_the_last_row_is_in_the_table(train, tmp_path):
    injection, norms = Injection("loss", 2, value=50.0), []
    with injection.active():
        train("a", max_gradient_norm=0.5)
    rows = list(csv.DictReader((tmp_path / "a/models/training.csv").open()))
    norms = [float(row["gradient_norm"]) for row in rows]
    assert list(rows[0]) == ["step", "loss", "gradient_norm", "learning_rate"]
    assert norms[0] > 10 * max(norms[1:]) > 0


TRIALS = 20


@pytest.mark.system
def test_runs_that_break_at_twenty_random_steps_stop_in_time_and_continue(train, tmp_path):
    chance, steps = random.Random(12), 12
    for trial in range(TRIALS):
        kind, value = chance.choice(KINDS), chance.choice([math.nan, math.inf, -math.inf])
        ranks, precision, step = 1 + trial % 2, ("float32", "bf16")[trial // 2 % 2], chance.randint(1, steps)
        rank = 0 if kind == "statistic" else chance.randrange(ranks)
        broken, whole = f"broken-{trial}", f"undisturbed-{ranks}-{precision}"
        changes = {"steps": steps, "batch_size": 4, "precision": precision}
        found = outcomes(ranks, Injection(kind, step, value, rank), lambda: train(broken, **changes))  # noqa: B023
        what = f"{kind} {value} at step {step} of rank {rank} of {ranks}, {precision}: {found}"
        assert found == [found[0]] * ranks and found[0][0] == 3, what
        assert step <= found[0][2][-1] < step + LOG_EVERY, what
        newest, tensors = newest_checkpoint(tmp_path / broken / "checkpoints")
        assert newest < step and all(tensor.isfinite().all() for tensor in tensors.values()), what
        for name in {broken, whole} - {path.parent.name for path in tmp_path.glob("*/models")}:
            again = outcomes(ranks, Injection("none", 0), lambda: train(name, **changes))  # noqa: B023
            assert [code for code, *_ in again] == [0] * ranks, what
        assert_same(tmp_path / broken, tmp_path / whole)

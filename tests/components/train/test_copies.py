"""Copies of crops with one sensor: which crops, in which steps, and what is in them."""

from __future__ import annotations

import pytest
import torch

from components.common.errors import ParamsError
from components.train import optim
from components.train.copies import filled, has_copies, make_copies, places, ramp, require_copies_per_rank
from components.train.step import run
from tests.components.train.conftest import TRAIN


@pytest.fixture
def config(train_config):
    def make(batch=8, steps=100, **masking):
        given = {"share": 0.0, "paired": 1.0} | masking
        return train_config(batch_size=batch, steps=steps, masking=TRAIN["masking"] | given)

    return make


def test_few_copies_are_of_different_crops_and_many_leave_no_crop_without_one():
    assert places(4, 8) == ([0, 2, 4, 6], [1, 3, 5, 7])
    assert places(8, 8) == (list(range(8)), list(range(8)))
    assert places(0, 8) == ([], [])
    for batch in range(2, 25):
        for copies in range(batch + 1):
            image, heights = places(copies, batch)
            assert len(image) == len(heights) == copies
            assert image == sorted(set(image)) and heights == sorted(set(heights))
            assert set(image + heights) <= set(range(batch))
            assert len(set(image) | set(heights)) == min(2 * copies, batch)


def test_every_rank_gets_equal_numbers_of_both():
    for batch in range(2, 25):
        for ranks in (r for r in range(1, batch + 1) if batch % r == 0):
            for copies in range(0, batch + 1, ranks):
                for chosen in places(copies, batch):
                    own = [sum(crop // (batch // ranks) == rank for crop in chosen) for rank in range(ranks)]
                    assert own == [copies // ranks] * ranks, (batch, ranks, copies)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ((0.0, 0.0), [1.0] * 8),
        ((0.5, 0.0), [0, 0, 0, 0, 1, 1, 1, 1]),
        ((0.25, 0.5), [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]),  # the mean of the line over each step
        ((0.0, 1.0), [(2 * step + 1) / 16 for step in range(8)]),
        ((1.0, 0.0), [0.0] * 8),
        ((0.3125, 0.0), [0, 0, 0.5, 1, 1, 1, 1, 1]),
    ],
)
def test_shares_rise_along_the_schedule(config, schedule, expected):
    conf = config(steps=8, schedule=schedule)
    assert [ramp(step, conf) for step in range(1, 9)] == pytest.approx(expected)


@pytest.mark.parametrize("schedule", [(0.0, 0.0), (0.1, 0.0), (0.2, 0.5), (0.0, 1.0), (0.13, 0.29), (1.0, 0.0)])
def test_the_steps_with_copies_are_as_many_as_the_shares_say(config, schedule):
    conf = config(steps=1000, schedule=schedule)
    with_copies = [has_copies(step, conf) for step in range(1, 1001)]
    shares = [ramp(step, conf) for step in range(1, 1001)]
    for end in range(1, 1001):
        assert -1 < sum(with_copies[:end]) - sum(shares[:end]) < 1
    full = round(1000 * sum(schedule)) + 1
    assert all(with_copies[full:]) and set(shares[full:]) <= {1.0}


def crops(batch=8, side=16):
    generator = torch.Generator().manual_seed(0)
    rgb, dsm = (torch.randn(batch, bands, side, side, generator=generator) for bands in (3, 1))
    return rgb, dsm, torch.randint(0, 6, (batch, side, side), generator=generator)


ALL = torch.ones(8, dtype=torch.bool)


@pytest.mark.parametrize("paired", [0.5, 1.0, 1.5, 2.0])
def test_copies_hold_the_values_and_labels_of_their_crops(config, paired):
    rgb, dsm, target = crops()
    copies = make_copies(rgb, dsm, target, ALL, ALL, config(paired=paired))
    for found, values, chosen in zip(copies, (rgb, dsm), places(round(4 * paired), 8), strict=True):
        assert len(chosen) == 4 * paired
        assert torch.equal(found.values_NCHW, values[chosen]) and torch.equal(found.target_NHW, target[chosen])
        assert found.places_N is None if paired == 2 else found.places_N.tolist() == chosen


def test_a_copy_without_its_sensor_has_no_label(config):
    rgb, dsm, target = crops()
    copies = make_copies(rgb, dsm, target, torch.arange(8) != 2, torch.arange(8) != 5, config(paired=2.0))
    for found, absent in zip(copies, (2, 5), strict=True):
        assert {crop for crop in range(8) if (found.target_NHW[crop] == 255).all()} == {absent}
        assert torch.equal(found.target_NHW[torch.arange(8) != absent], target[torch.arange(8) != absent])


def test_no_copies_are_none(config):
    assert make_copies(*crops(), ALL, ALL, config(paired=0.0)) is None


@pytest.mark.parametrize("paired", [0.5, 1.0, 1.5, 2.0])
def test_the_copies_of_two_ranks_put_together_are_those_of_one(config, paired):
    given, conf = (*crops(), ALL, torch.arange(8) != 5), config(paired=paired)
    whole = make_copies(*given, conf)
    parts = [make_copies(*(x[4 * rank :][:4] for x in given), conf, rank, 2) for rank in (0, 1)]
    for one, *of_ranks in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([part.values_NCHW for part in of_ranks]), one.values_NCHW)
        assert torch.equal(torch.cat([part.target_NHW for part in of_ranks]), one.target_NHW)
        if one.places_N is not None:
            assert [4 * rank + x for rank in (0, 1) for x in of_ranks[rank].places_N.tolist()] == one.places_N.tolist()


@pytest.mark.parametrize(("paired", "batch", "ranks"), [(0.0, 8, 8), (2.0, 8, 4), (1.0, 8, 2), (0.5, 8, 1)])
def test_equal_parts_of_two_copies_or_more_are_accepted(config, paired, batch, ranks):
    require_copies_per_rank(config(batch=batch, paired=paired), ranks)


@pytest.mark.parametrize(("paired", "batch", "ranks", "copies"), [(1.0, 8, 4, 4), (0.75, 8, 2, 3), (1.5, 8, 4, 6)])
def test_unequal_parts_or_too_few_copies_per_rank_are_one_sentence(config, paired, batch, ranks, copies):
    with pytest.raises(ParamsError) as error:
        require_copies_per_rank(config(batch=batch, paired=paired), ranks)
    assert str(error.value) == (
        f"train.masking.paired is {paired:g}, which makes {copies} copies of each sensor in a batch of {batch}; "
        f"expected a multiple of the {ranks} ranks, and at least two copies per rank, because BatchNorm needs two"
    )


def test_a_batch_with_fewer_than_two_copies_of_a_sensor_is_one_sentence(config):
    sentence = (
        "train.masking.paired is 0.3, which makes 1 copies of each sensor in a batch of 8; expected 0, or at least "
        "0.5, because BatchNorm needs two"
    )
    with pytest.raises(ParamsError, match=sentence):
        config(paired=0.3)


@pytest.mark.parametrize(("modalities", "count"), [(("rgb", "dsm"), 2), (("rgb",), 0), (("dsm",), 0)])
def test_a_training_has_copies_from_the_scheduled_step_on_and_only_with_two_modalities(
    train_config, model_params, runtime, toy_store, tmp_path, monkeypatch, modalities, count
):
    seen, mean = [], optim.mean_loss
    monkeypatch.setattr(optim, "mean_loss", lambda *args: seen.append(args[3]) or mean(*args))
    masking = TRAIN["masking"] | {"share": 0.0, "paired": 2.0, "schedule": [0.5, 0.0], "distillation": 0.5}
    model = model_params(modalities=modalities, missing="excluded", batch_norm="per-condition")
    run(
        train_config(masking=masking, steps=4),
        model,
        runtime(),
        toy_store,
        tmp_path / "models",
        tmp_path / "checkpoints",
    )
    assert seen == [0, 0, count, count]


def test_a_crop_without_the_sensor_is_replaced_by_one_that_has_it():
    values_BCHW = torch.arange(5.0).reshape(5, 1, 1, 1)
    present_B = torch.tensor([False, True, False, True, False])
    assert filled(values_BCHW, present_B).flatten().tolist() == [1, 1, 1, 3, 3]
    assert torch.equal(filled(values_BCHW, torch.ones(5, dtype=torch.bool)), values_BCHW)
    assert torch.equal(filled(values_BCHW, torch.zeros(5, dtype=torch.bool)), torch.zeros(5, 1, 1, 1))

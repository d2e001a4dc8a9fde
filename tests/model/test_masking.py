from __future__ import annotations

import math

import pytest
import torch

from model import MaskingConfig, mask_modalities


def config(**changes):
    return MaskingConfig(**{"share": 0.5, "full_share": 0.0, "area": (0.1, 0.3), "aspect": (0.5, 2.0)} | changes)


def hide(rgb, dsm, conf, generator, **more):
    """Image and DSM with 0 in place of what is hidden."""
    return tuple(x.nan_to_num(0.0) for x in mask_modalities(rgb, dsm, conf, generator, **more))


def masked(conf, seed=0, batch=8, side=40, **more):
    rgb, dsm = torch.ones(batch, 3, side, side), torch.ones(batch, 1, side, side)
    return hide(rgb, dsm, conf, torch.Generator().manual_seed(seed), **more)


def test_hidden_values_are_nan_and_all_others_stay():
    torch.manual_seed(0)
    given = torch.randn(8, 3, 40, 40), torch.randn(8, 1, 40, 40)
    found = mask_modalities(*given, config(), torch.Generator().manual_seed(0))
    for before, after in zip(given, found, strict=True):
        hidden = after.isnan()
        assert 0 < hidden.sum() < hidden.numel() and torch.equal(before[~hidden], after[~hidden])


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_with_one_modality_is_not_masked_and_the_others_are_masked_as_before(seed):
    paired = torch.arange(8) % 3 > 0
    both = masked(config(share=1.0, full_share=0.5), seed)
    for before, found in zip(both, masked(config(share=1.0, full_share=0.5), seed, paired_B=paired), strict=True):
        assert torch.equal(found[paired], before[paired])
        assert (found[~paired] == 1).all()


@pytest.mark.parametrize("changes", [{}, {"cpia": "adapter"}, {"dgfm": False}])
def test_with_zero_the_network_sees_0_where_something_is_hidden(toy_network, changes):
    network = toy_network(missing="zero", **changes)
    torch.manual_seed(0)
    rgb, dsm = mask_modalities(
        torch.randn(4, 3, 32, 32), torch.randn(4, 1, 32, 32), config(share=1.0), torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        assert torch.equal(network(rgb, dsm), network(rgb.nan_to_num(0.0), dsm.nan_to_num(0.0)))


@pytest.mark.parametrize("seed", range(20))
def test_half_of_the_chosen_lose_image_half_dsm_never_both(seed):
    rgb, dsm = masked(config(), seed)
    lost_rgb, lost_dsm = (rgb == 0).flatten(1).any(1), (dsm == 0).flatten(1).any(1)
    assert (lost_rgb.sum().item(), lost_dsm.sum().item()) == (2, 2)
    assert not (lost_rgb & lost_dsm).any()


@pytest.mark.parametrize("seed", range(20))
def test_a_rectangle_has_the_asked_area_and_aspect_in_all_bands(seed):
    rgb, _ = masked(config(), seed, side=200)
    for sample in rgb[(rgb == 0).flatten(1).any(1)]:
        hidden = (sample == 0).all(0)
        assert torch.equal(hidden, (sample == 0).any(0))
        rows, columns = hidden.any(1).sum().item(), hidden.any(0).sum().item()
        assert rows * columns == hidden.sum().item()
        assert 0.095 <= rows * columns / 200**2 <= 0.305
        assert 0.48 <= rows / columns <= 2.1


def test_full_masking_hides_the_whole_modality():
    rgb, dsm = masked(config(full_share=1.0))
    assert {s.sum().item() for s in rgb} == {0.0, 3 * 1600.0}
    assert {s.sum().item() for s in dsm} == {0.0, 1600.0}


def test_block_and_full_mix():
    sums = [s.sum().item() for seed in range(30) for s in masked(config(full_share=0.5), seed)[1]]
    assert 10 < sum(s == 0 for s in sums) < 50
    assert 10 < sum(0 < s < 1600 for s in sums) < 50


def test_a_share_of_zero_changes_nothing():
    rgb, dsm = masked(config(share=0.0))
    assert rgb.min() == dsm.min() == 1


def test_the_inputs_themselves_stay_as_they_are():
    rgb, dsm = torch.ones(8, 3, 16, 16), torch.ones(8, 1, 16, 16)
    mask_modalities(rgb, dsm, config(full_share=1.0), torch.Generator().manual_seed(0))
    assert rgb.min() == dsm.min() == 1


def counts(conf, batch, steps):
    """For every step, how many samples lose something of the image, and of the DSM; never both of one sample."""
    for step in range(steps):
        rgb, dsm = (x.flatten(1).amin(1) == 0 for x in masked(conf, 10**9 + step, batch, side=2))
        assert not (rgb & dsm).any()
        yield rgb.sum().item(), dsm.sum().item()


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("batch", range(1, 10))
def test_a_share_holds_in_expectation_for_every_batch_size_in_both_modalities(share, batch):
    of_steps = torch.tensor(list(counts(config(share=share), batch, 400)), dtype=torch.float64)
    expected = batch * share
    assert {math.floor(expected), math.ceil(expected)} >= set(of_steps.sum(1).tolist())
    assert of_steps.sum(1).mean().item() == pytest.approx(expected, abs=0.1)  # 4 standard deviations of the mean
    assert of_steps.mean(0).tolist() == pytest.approx([expected / 2, expected / 2], abs=0.1)


@pytest.mark.parametrize(("share", "batch"), [(0.25, 24), (0.25, 8), (0.5, 8), (1.0, 2)])
def test_an_even_whole_number_of_masked_samples_is_the_same_at_every_step(share, batch):
    assert set(counts(config(share=share), batch, 50)) == {(batch * share / 2, batch * share / 2)}


@pytest.mark.parametrize(("share", "batch"), [(0.5, 8), (0.25, 4), (0.1, 4), (0.9, 12), (1.0, 20)])
def test_the_parts_of_four_ranks_put_together_are_the_batch_of_one(share, batch):
    rgb, dsm = torch.ones(batch, 3, 16, 16), torch.ones(batch, 1, 16, 16)
    own, hidden = batch // 4, 0

    def part(seed, rank, world_size):
        generator = torch.Generator().manual_seed(seed)
        size = batch // world_size
        return hide(rgb[:size], dsm[:size], config(share=share), generator, rank=rank, world_size=world_size)

    for seed in range(8):
        whole = part(seed, 0, 1)
        for one, of_ranks in zip(whole, zip(*(part(seed, rank, 4) for rank in range(4)), strict=True), strict=True):
            assert all(len(x) == own for x in of_ranks)
            assert torch.equal(torch.cat(of_ranks), one)
            hidden += int((one == 0).any())
    assert hidden > 1


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"share": 1.5}, "share"),
        ({"full_share": -1}, "full_share"),
        ({"area": (0.5, 0.2)}, "area"),
        ({"aspect": (0, 1)}, "aspect"),
        ({"paired": 2.5}, "paired"),
        ({"paired_weight": 0}, "paired_weight"),
        ({"distillation": -1}, "distillation"),
    ],
)
def test_a_wrong_value_is_refused_by_name(changes, name):
    with pytest.raises(ValueError, match=rf"\n( +Value error, )?{name}\b"):
        config(**changes)


def test_a_schedule_that_never_ends_is_refused():
    with pytest.raises(ValueError, match=r"schedule is \[0.75, 0.5\]; expected two numbers with a sum of 1 or less"):
        config(schedule=(0.75, 0.5))


def test_a_part_of_the_share_masks_that_part():
    assert config(share=0.5).at(0.5).share == 0.25
    assert config(share=0.5).at(1.0) == config(share=0.5)


@pytest.mark.parametrize(
    ("paired", "batch", "copies"), [(0.0, 8, 0), (1.0, 8, 4), (2.0, 8, 8), (0.5, 24, 6), (0.7, 8, 3), (1 / 3, 24, 4)]
)
def test_copies_of_a_sensor_are_half_of_those_of_a_crop(paired, batch, copies):
    assert config(paired=paired).copies(batch) == copies

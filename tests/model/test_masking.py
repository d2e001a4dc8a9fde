from __future__ import annotations

import math

import pytest
import torch

from model import MaskingConfig, mask_modalities


def config(**changes):
    return MaskingConfig(**{"share": 0.5, "full_share": 0.0, "area": (0.1, 0.3), "aspect": (0.5, 2.0)} | changes)


def masked(conf, seed=0, batch=8, side=40):
    rgb, dsm = torch.ones(batch, 3, side, side), torch.ones(batch, 1, side, side)
    return mask_modalities(rgb, dsm, conf, torch.Generator().manual_seed(seed))


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
        return mask_modalities(rgb[:size], dsm[:size], config(share=share), generator, rank=rank, world_size=world_size)

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
    ],
)
def test_a_wrong_value_is_refused_by_name(changes, name):
    with pytest.raises(ValueError, match=rf"\n( +Value error, )?{name}\b"):
        config(**changes)

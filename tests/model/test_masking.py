from __future__ import annotations

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


def test_the_parts_of_ranks_side_by_side_are_the_batch_of_one():
    rgb, dsm = torch.ones(8, 3, 16, 16), torch.ones(8, 1, 16, 16)
    whole = mask_modalities(rgb, dsm, config(), torch.Generator().manual_seed(4))
    parts = [
        mask_modalities(rgb[:2], dsm[:2], config(), torch.Generator().manual_seed(4), rank=rank, world_size=4)
        for rank in range(4)
    ]
    assert (whole[0] == 0).any() and (whole[1] == 0).any()
    for one, of_ranks in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(torch.cat(of_ranks), one)


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
    with pytest.raises(ValueError, match=f"^{name} is "):
        config(**changes)

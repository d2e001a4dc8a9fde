from __future__ import annotations

import pytest
import torch
from torch import nn

from model.dropout import Dropout, share_batch


def dropped(x, seed=0, rank=0, world_size=1, **options):
    layer = Dropout(0.25, **options).train()
    share_batch(nn.Sequential(layer), rank, world_size)
    torch.manual_seed(seed)
    return layer(x)


def test_a_quarter_becomes_zero_and_the_rest_grows_so_that_the_mean_stays():
    found = dropped(torch.ones(64, 64, 8, 8))
    assert found.unique().tolist() == pytest.approx([0, 4 / 3])
    assert found.mean().item() == pytest.approx(1, abs=0.01)


def test_whole_maps_are_dropped_or_kept():
    found = dropped(torch.ones(64, 64, 8, 8), whole_maps=True)
    assert torch.equal(found.amin((2, 3)), found.amax((2, 3)))
    assert (found == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(("options", "dim"), [({}, 0), ({"whole_maps": True}, 0), ({"batch_dim": 1}, 1)])
def test_the_parts_of_ranks_side_by_side_are_the_batch_of_one(options, dim):
    x = torch.ones(4, 4, 3, 3)
    parts = [dropped(part, 5, rank, 2, **options) for rank, part in enumerate(x.chunk(2, dim))]
    assert torch.equal(torch.cat(parts, dim), dropped(x, 5, **options))


def test_in_evaluation_nothing_changes():
    x = torch.randn(2, 3)
    assert torch.equal(Dropout(0.5).eval()(x), x)

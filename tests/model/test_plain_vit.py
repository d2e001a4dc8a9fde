from __future__ import annotations

import torch
import torch.nn.functional as F

from model.plain_vit import resample_positions


def test_positions_of_the_trained_grid_are_untouched():
    positions = torch.randn(1, 16, 8)
    assert resample_positions(positions, (4, 4), (4, 4)) is positions


def test_positions_of_a_non_square_grid_follow_the_dinov2_rule():
    positions = torch.randn(1, 16, 8)
    grid = positions.reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
    scale = ((6 + 0.1) / 4, (9 + 0.1) / 4)
    expected = F.interpolate(grid, scale_factor=scale, mode="bicubic").permute(0, 2, 3, 1).reshape(1, 54, 8)
    torch.testing.assert_close(resample_positions(positions, (4, 4), (6, 9)), expected)

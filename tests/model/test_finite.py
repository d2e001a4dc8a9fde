from __future__ import annotations

import math

import pytest
import torch

from model.finite import first_non_finite


def test_finite_tensors_of_any_kind_have_no_name():
    tensors = {
        "largest": torch.full((3,), torch.finfo(torch.float32).max),  # its L2 norm would be infinite
        "bf16": torch.ones(2, 2, dtype=torch.bfloat16),
        "scalar": torch.tensor(-1.0),
        "count": torch.tensor(5),
        "empty": torch.empty(0),
    }
    assert first_non_finite(tensors) is None
    assert first_non_finite({}) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_value_among_many_names_its_tensor(value, dtype):
    tensors = {name: torch.randn(100, dtype=dtype) for name in "abc"} | {"n": torch.tensor(1)}
    tensors["b"][77] = value
    assert first_non_finite(tensors) == "b"


def test_ranks_agree_on_the_name():
    tensors = {name: torch.zeros(2) for name in "abc"}
    assert first_non_finite(tensors, all_reduce=lambda flags: flags + torch.tensor([0, 1, 0])) == "b"

from __future__ import annotations

import os

import pytest
import torch


@pytest.mark.skipif("ATEN_CPU_CAPABILITY" not in os.environ, reason="no instruction set is asked for (make test-cpus)")
def test_torch_uses_the_instruction_set_that_the_environment_asks_for():
    assert torch.backends.cpu.get_cpu_capability() == os.environ["ATEN_CPU_CAPABILITY"].upper()

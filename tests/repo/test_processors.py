"""Makefile and .ci/run: CI runs the numeric tests with the kernels of several instruction sets."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SETS = [
    {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
]
"""`make test` runs them with the kernels of this processor."""


def runs_of_pytest():
    """Environment and paths of every run of pytest in `make test-cpus`."""
    shown = subprocess.run(["make", "-n", "test-cpus"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for line in shown.replace("\\\n", " ").splitlines():
        if "/pytest " in line:
            yield dict(re.findall(r"(\w+)=(\w+)", line.split("/pytest ")[0])), re.findall(r"tests/\S+", line)


def test_numeric_tests_run_under_two_further_instruction_sets_with_the_same_files():
    environments, paths = zip(*runs_of_pytest(), strict=True)
    assert [{name: value for name, value in e.items() if name != "OMP_NUM_THREADS"} for e in environments] == SETS
    assert paths[0] == paths[1]
    assert {
        "tests/model",
        "tests/components/export/test_parity.py",
        "tests/components/train/ranks/test_distributed.py",
    } <= set(paths[0])
    assert all((ROOT / path).exists() for path in paths[0])


def test_ci_runs_them():
    assert re.search(r"^make .*\btest test-cpus\b", (ROOT / ".ci/run").read_text(), re.MULTILINE)

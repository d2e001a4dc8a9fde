"""Compile graphs quickly: kfp looks at the stack for every setting of a task, and the stack of a test is deep."""

from __future__ import annotations

import inspect
from functools import partial
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session", autouse=True)
def stack_without_source():
    """kfp reads one name of the stack. Without this, `inspect` also looks for the source of every frame."""
    from kfp.dsl import pipeline_task

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_task, "inspect", SimpleNamespace(stack=partial(inspect.stack, 0)))
        yield

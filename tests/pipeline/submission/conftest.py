from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.form import defaults
from pipeline.graph import build, compiled
from pipeline.graphs import GRAPHS
from pipeline.resources import RESOURCES
from pipeline.submission import api
from pipeline.submission.submission import plan
from tests.pipeline.submission.world import serving

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def graph():
    return compiled(build(defaults(ROOT / "params.yaml"), "mobanet:test", RESOURCES))


@pytest.fixture
def a_plan(graph):
    """Function that creates plans for that graph."""

    def make(*changes, **options):
        return plan(GRAPHS["train"], graph, changes, **{"experiment": "sample"} | options)

    return make


@pytest.fixture
def world(monkeypatch):
    """A server with short pauses between retries."""
    for name in ("KFP_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH", "KF_PIPELINES_UI_ENDPOINT", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(api, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(api, "LONGEST_PAUSE_S", 0.05)
    with serving() as made:
        yield made

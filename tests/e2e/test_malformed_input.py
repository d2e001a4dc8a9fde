"""Hundreds of malformed inputs: each ends in a finding or a one-line error, never in a traceback or a wrong store.

`pytest -s tests/e2e/test_malformed_input.py` prints how each kind of damage ended. A case is repeated by its category
and number, which are its seed: `run_case(make_base(folder), "tags", 7)`.
"""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context

import pytest

from tests.malformed import Outcome, make_base, run_case
from tests.mutations.cases import ARCHIVES, FACTS, RECORDS, TILES

CASES = {category: count for table in (TILES, RECORDS, FACTS, ARCHIVES) for category, (_, count) in table.items()}
LIMIT_S = 60
"""A case takes a fraction of a second; one that takes this long hangs."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("malformed"))


class Worker:
    """A process of its own, so that a crash or a hang of a library is seen as such; a new one after either."""

    def __init__(self):
        self.start()

    def start(self):
        self.others = set(active_children())
        quiet = {"initializer": logging.disable, "initargs": (logging.CRITICAL,)}
        self.pool = ProcessPoolExecutor(1, get_context("spawn"), **quiet)

    def end(self):
        for process in set(active_children()) - self.others:
            process.kill()
        self.pool.shutdown(cancel_futures=True)

    def run(self, *arguments):
        try:
            return self.pool.submit(run_case, *arguments).result(LIMIT_S)
        except (TimeoutError, BrokenProcessPool) as error:
            self.end()
            self.start()
            return Outcome("WRONG", f"crashed, or hung for {LIMIT_S} s ({type(error).__name__})")
        except Exception as error:
            return Outcome("WRONG", f"{type(error).__name__}: {error}")


@pytest.fixture(scope="module")
def worker():
    worker = Worker()
    yield worker
    worker.end()


def test_there_are_enough_cases():
    assert sum(CASES.values()) >= 300


@pytest.mark.parametrize("category", CASES)
def test_damage_ends_in_a_finding_or_one_line(base, worker, category):
    outcomes = {number: worker.run(base, category, number) for number in range(CASES[category])}
    counts = Counter(outcome.how for outcome in outcomes.values())
    print(f"{category:20s}", ", ".join(f"{count} {how}" for how, count in sorted(counts.items())))
    wrong = [f"{category} {number}: {one.detail}" for number, one in outcomes.items() if one.how == "WRONG"]
    assert not wrong, "\n".join(wrong)

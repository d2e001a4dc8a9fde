"""components/common/drift/null_distribution.py and verdicts.py: alarms at the stated level, and only then."""

from __future__ import annotations

import numpy as np
import pytest

from components.common.drift import null_distribution
from components.common.drift.null_distribution import distances, limits
from components.common.drift.verdicts import Tolerance, share_pairs, verdicts
from tests.components.common.drift.synthetic import city, reference_of

AREAS, EACH, LEVEL = 8, 6, 0.05
REPEATS = 150
MOST_ALARMS = 16
"""150 runs at the level 5 % give more than 16 alarms with a probability below 0.1 %."""


def alarms(tilt, draws=600):
    """In how many of the repeats new areas of the same kind of city give an alarm, with no other limits."""
    rng, count = np.random.default_rng(5), 0
    for repeat in range(REPEATS):
        reference = reference_of(city(rng, AREAS, EACH), AREAS, EACH)
        found = verdicts(reference, city(rng, 8, 5, tilt=tilt), 8, Tolerance(0.0, 0.0, LEVEL, repeat))
        count += any(verdict.drifted for verdict in found)
    return count


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(null_distribution, "DRAWS", 600)


def test_areas_of_the_same_kind_give_an_alarm_about_as_often_as_stated():
    assert alarms(tilt=0.0) <= MOST_ALARMS


def test_a_shift_of_one_quantity_is_found_and_named():
    rng = np.random.default_rng(1)
    reference = reference_of(city(rng, AREAS, EACH), AREAS, EACH)
    found = verdicts(reference, city(rng, 3, 10, tilt=1.5), 3, Tolerance(0.1, 0.05, LEVEL, 1))
    assert {(one.name, one.measure) for one in found if one.drifted} == {("band", "psi"), ("band", "ks")}


def test_every_quantity_has_an_index_and_only_ordered_ones_have_a_ks_distance():
    reference = reference_of(city(np.random.default_rng(1), 2, 3), 2, 3)
    counts = {name: one.counts_NB for name, one in reference.histograms.items()}
    assert list(distances(reference, counts, counts)) == [
        *(("classes", "psi"), ("band", "psi"), ("band", "ks"), ("height", "psi"), ("height", "ks")),
    ]


def test_a_distance_up_to_the_limit_of_the_params_is_never_drift():
    rng = np.random.default_rng(1)
    reference = reference_of(city(rng, AREAS, EACH), AREAS, EACH)
    found = verdicts(reference, city(rng, 3, 10, tilt=1.5), 3, Tolerance(100.0, 1.0, LEVEL, 1))
    assert not any(one.drifted for one in found) and {one.limit for one in found} == {100.0, 1.0}


def test_limits_grow_with_fewer_areas_and_a_rarer_alarm_and_repeat_with_the_seed():
    reference = reference_of(city(np.random.default_rng(3), AREAS, EACH), AREAS, EACH)
    usual = limits(reference, 40, 4, 0.05, 1)
    assert limits(reference, 40, 4, 0.05, 1) == usual
    assert all(limits(reference, 40, 1, 0.05, 1)[key] > usual[key] for key in usual)
    assert all(limits(reference, 40, 4, 0.005, 1)[key] > usual[key] for key in usual)


def test_a_reference_of_one_area_still_gives_limits():
    reference = reference_of(city(np.random.default_rng(3), 1, 20), 1, 20)
    assert min(limits(reference, 40, 1, 0.05, 1).values()) > 0


def test_what_production_lacks_has_no_distance_and_is_no_drift():
    rng = np.random.default_rng(1)
    reference = reference_of(city(rng, 2, 6), 2, 6)
    fine = city(rng, 2, 6) | {"height": np.zeros((12, 8), np.int64)}
    found = {(one.name, one.measure): one for one in verdicts(reference, fine, 2, Tolerance(0.0, 0.0, 0.01, 1))}
    assert np.isnan(found["height", "psi"].distance) and not found["height", "psi"].drifted
    assert share_pairs(reference, fine)["height"][1] == [0.0] * 8

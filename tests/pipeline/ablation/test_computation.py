from __future__ import annotations

import numpy as np
import pytest

from components.common.data.store import Store
from pipeline.ablation.computation import mean_share, passes
from pipeline.ablation.studies import BUILT_IN, jobs, read_study
from tests.pipeline.ablation.conftest import ROOT


@pytest.fixture
def counted(toy_store, tmp_path):
    """Study -> variant -> passes per crop and step."""

    def count(name):
        found = jobs(read_study(BUILT_IN, name), ROOT / "params.yaml", (1,), Store(toy_store), tmp_path)
        return {job.variant: passes(job.train, job.model) / (job.train.steps * job.train.batch_size) for job in found}

    return count


def test_a_copy_costs_the_stream_of_its_sensor(counted):
    assert counted("single") == {
        **{"reference recipe": 2, "masks, half full": 2, "two copies, weight 1": 4, "two copies, weight 2": 4},
        **{"image alone": 1, "DSM alone": 1},
    }


def test_a_copy_costs_both_streams_where_the_absent_sensor_is_0_and_less_while_their_share_grows(counted):
    found = counted("parts")
    assert (found["as shipped"], found["one copy"]) == (4, 3)
    assert found["absent sensor is 0"] == 6
    assert found["copies grow until half time"] == 3.5


def test_the_study_of_equal_computation_has_it(toy_store, tmp_path):
    found = jobs(read_study(BUILT_IN, "compute"), ROOT / "params.yaml", (1,), Store(toy_store), tmp_path)
    assert len({passes(job.train, job.model) for job in found}) == 1


@pytest.mark.parametrize("schedule", [(0.0, 0.0), (0.0, 1.0), (0.25, 0.5), (0.5, 1.0), (1.0, 0.0), (0.3, 0.0)])
def test_the_mean_share_is_that_of_every_moment(schedule):
    start, rise = schedule
    moments = (np.arange(100_000) + 0.5) / 100_000
    shares = np.clip((moments - start) / rise, 0, 1) if rise else (moments >= start).astype(float)
    assert mean_share(start, rise) == pytest.approx(shares.mean(), abs=1e-4)

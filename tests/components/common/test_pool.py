import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from components.common.errors import DataError
from components.common.pool import cores, pooled
from components.common.rasterfiles.rasters import open_raster


def width_of(path):
    with open_raster(path, path.parent) as file:
        return file.header.width_px


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_come_in_the_order_of_the_jobs(workers):
    assert list(pooled(math.factorial, range(12), workers)) == [math.factorial(n) for n in range(12)]


def test_no_jobs_give_no_results():
    assert list(pooled(math.factorial, [], 2)) == []


def test_a_workers_error_arrives_as_itself_and_ends_the_others():
    start = time.monotonic()
    with pytest.raises(ValueError, match="non-negative"):
        list(pooled(time.sleep, [-1, 30, 30], 2))
    assert time.monotonic() - start < 20
    assert multiprocessing.active_children() == []


def test_our_own_error_crosses_the_processes_with_its_sentence(tmp_path):
    with pytest.raises(DataError, match="one.tif: no such file"):
        list(pooled(width_of, [tmp_path / "one.tif", tmp_path / "two.tif"], 2))


def test_a_killed_worker_is_an_error_that_names_the_remedy():
    with pytest.raises(DataError, match="one of 2 processes was killed.*preprocess.workers"):
        list(pooled(os._exit, [9, 9], 2))


def alive_in_group(group):
    alive = [p.pid for p in psutil.process_iter(["status"]) if p.info["status"] != psutil.STATUS_ZOMBIE]
    return [pid for pid in alive if psutil.pid_exists(pid) and os.getpgid(pid) == group]


def eventually(holds, seconds=5.0):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture
def at_work(tmp_path):
    """A process with one busy worker (a one-minute job) and one idle one, in its own process group as on a terminal."""
    (tmp_path / "work.py").write_text(
        "import signal, sys, time\n"
        "from components.common.entrypoints.dvc import exit_code\n"
        "from components.common.pool import cores, pooled\n"
        "def work():\n"
        "    for n, _ in enumerate(pooled(time.sleep, [0, 0, 60], 2)):\n"
        "        print('at work', n, flush=True)\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background shell leaves it ignored
        "    sys.exit(exit_code(work))\n"
    )
    child = subprocess.Popen(
        [sys.executable, tmp_path / "work.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert [child.stdout.readline() for _ in range(2)] == ["at work 0\n", "at work 1\n"]
    yield child
    if alive_in_group(child.pid):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def test_ctrl_c_ends_all_processes_at_once_and_quietly(at_work):
    os.killpg(at_work.pid, signal.SIGINT)
    _, errors = at_work.communicate(timeout=15)
    assert (at_work.returncode, errors) == (130, "interrupted; run the same command again to continue\n")
    assert eventually(lambda: not alive_in_group(at_work.pid))


def test_workers_do_not_outlive_a_killed_parent(at_work):
    at_work.kill()
    assert eventually(lambda: not alive_in_group(at_work.pid))


def test_workers_leave_ctrl_c_to_their_parent(at_work):
    workers = psutil.Process(at_work.pid).children()
    assert len(workers) >= 2
    for worker in workers:
        worker.send_signal(signal.SIGINT)
    assert not eventually(lambda: at_work.poll() is not None, seconds=1.0)


@pytest.mark.parametrize(
    ("quota", "expected"), [("50000 100000\n", 1), ("100000 100000\n", 1), ("max 100000\n", None), (None, None)]
)
def test_a_container_counts_the_cores_of_its_quota(tmp_path, quota, expected):
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(quota)
    assert cores(file) == (expected or len(os.sched_getaffinity(0)))

"""What a training lives through: SIGTERM, a full disk, a tracking server that goes away, hosts that are cut off."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import psutil
import pytest
import torch

from tests.e2e.toy_training import ToyTraining, torchrun
from tests.ranks import free_port

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> ToyTraining:
    """A training and its undisturbed results on one rank and on two."""
    toy = ToyTraining(tmp_path_factory.mktemp("toy"))
    assert toy.run("whole") == 0, toy.log("whole")
    assert toy.run("whole-2", torchrun(2)) == 0, toy.log("whole-2")
    return toy


def test_sigterm_saves_the_step_and_exits_with_75(toy) -> None:
    process = toy.start("terminated")
    toy.wait_for_step("terminated", 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 75
    assert "stopped after step" in toy.log("terminated") and "Traceback" not in toy.log("terminated")
    assert toy.run("terminated") == 0
    toy.assert_same("terminated", "whole")


def test_sigterm_to_torchrun_ends_every_rank_and_the_job_goes_on(toy) -> None:
    process = toy.start("terminated-2", torchrun(2))
    toy.wait_for_step("terminated-2", 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) != 0
    assert "stopped after step" in toy.log("terminated-2")
    assert toy.run("terminated-2", torchrun(2)) == 0
    toy.assert_same("terminated-2", "whole-2")


def test_one_rank_goes_on_where_two_stopped_and_two_where_one_did(toy) -> None:
    for run, first, second in (("two-one", 2, 1), ("one-two", 1, 2)):
        process = toy.start(run, torchrun(first))
        toy.wait_for_step(run, 3)
        kill_all(process)
        assert toy.run(run, torchrun(second)) == 0, toy.log(run)
        assert "resuming from step" in toy.log(run)
        steps = [int(row["step"]) for row in toy.history(run)["training.csv"]]
        assert steps == list(range(1, 13))


def kill_all(process: subprocess.Popen) -> None:
    """SIGKILL to a process and whatever it has started: torchrun's ranks outlive it otherwise."""
    for started in [*psutil.Process(process.pid).children(recursive=True), process]:
        started.kill()
    process.wait()


def test_a_second_training_in_the_same_folder_is_refused(toy) -> None:
    first = toy.start("twice")
    toy.wait_for_step("twice", 1)
    first.send_signal(signal.SIGSTOP)
    assert toy.run("twice") == 2
    assert "twice/checkpoints: another process is training in this folder; wait until it ends" in toy.log("twice")
    first.send_signal(signal.SIGCONT)
    assert first.wait(timeout=60) == 0
    toy.assert_same("twice", "whole")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_costs_checkpoints_and_not_the_run(toy) -> None:
    checkpoints = toy.folder / "full/checkpoints"
    checkpoints.mkdir(parents=True)
    mount = f'mount -t tmpfs -o size=25m tmpfs {checkpoints} && exec {sys.executable} "$@"'
    assert toy.run("full", ["unshare", "--mount", "sh", "-c", mount, "sh"]) == 0, toy.log("full")
    assert "not written (No space left on device); earlier files are kept" in toy.log("full")
    toy.assert_same("full", "whole")


@contextmanager
def tracking_server(folder: Path, port: int) -> Iterator[None]:
    """A real MLflow server, killed without a word when the block ends."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "files")]
    log = (folder / "server.log").open("a")
    server = subprocess.Popen([*command, *stores], stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + 90
        while subprocess.run(["curl", "-sf", f"http://127.0.0.1:{port}/health"], capture_output=True).returncode:
            assert time.monotonic() < until and server.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_a_tracking_server_that_goes_away_and_comes_back_has_every_step_once(tmp_path) -> None:
    toy = ToyTraining(tmp_path, {"runtime": {"tracking": "mlflow"}, "train": {"steps": 60}})
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with tracking_server(tmp_path, port):
        process = toy.start("run", MLFLOW_TRACKING_URI=address)
        toy.wait_for_step("run", 15)
        process.kill()
        process.wait()
    process = toy.start("run", MLFLOW_TRACKING_URI=address)  # resumed while nobody answers
    toy.wait_for_step("run", 30)
    process.send_signal(signal.SIGSTOP)
    with tracking_server(tmp_path, port):
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=300) == 0, toy.log("run")
        client = mlflow.MlflowClient(address)
        (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
        for metric, steps in (("train/loss", range(1, 61)), ("val/expected_miou", range(6, 61, 6))):
            assert [point.step for point in client.get_metric_history(run.info.run_id, metric)] == list(steps)
        assert run.info.status == "FINISHED" and run.data.params["train.steps"] == "60"
    assert "The run continues, and MLflow gets the data" in toy.log("run")


class Hosts:
    """Two machines on one: network namespaces with a cable between them."""

    NAMES, ADDRESSES = ("mobanet-a", "mobanet-b"), ("10.77.0.1", "10.77.0.2")

    def __enter__(self) -> Hosts:
        for name in self.NAMES:
            self._ip("netns", "add", name)
        ends = ["cable", "netns", self.NAMES[0], "type", "veth", "peer", "cable", "netns", self.NAMES[1]]
        self._ip("link", "add", *ends)
        for name, address in zip(self.NAMES, self.ADDRESSES, strict=True):
            self._ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                self._ip("-n", name, "link", "set", device, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.NAMES:
            self._ip("netns", "delete", name)

    def cable(self, state: str) -> None:
        """Pull the cable at host b ("down"), or plug it in ("up")."""
        self._ip("-n", self.NAMES[1], "link", "set", "cable", state)

    def start(self, toy: ToyTraining, run: str) -> list[subprocess.Popen]:
        """One rank on each host; checkpoints are on host a alone."""
        processes = []
        for node, name in enumerate(self.NAMES):
            meeting = ["--nnodes=2", f"--node-rank={node}", f"--master-addr={self.ADDRESSES[0]}", "--master-port=29500"]
            launcher = ["ip", "netns", "exec", name, *torchrun(1, *meeting)]
            processes.append(toy.start(f"{run}-{node}", launcher, GLOO_SOCKET_IFNAME="cable"))
        return processes

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="makes network namespaces")
def test_a_host_that_is_cut_off_ends_the_job_within_a_minute_and_the_next_one_finishes_it(tmp_path, toy) -> None:
    slow = ToyTraining(tmp_path, {"train": {"steps": 60, "validation": {"every_steps": 30}}})
    assert slow.run("whole", torchrun(2)) == 0, slow.log("whole")
    with Hosts() as hosts:
        processes = hosts.start(slow, "cut")
        slow.wait_for_step("cut-0", 5)
        hosts.cable("down")
        cut = time.monotonic()
        for process in processes:
            assert process.wait(timeout=90) != 0
        took_s = time.monotonic() - cut
        hosts.cable("up")
        assert "has not responded for 30 s" in slow.log("cut-0") + slow.log("cut-1")
        assert took_s < 60, f"{took_s:.0f} s"
        for process in hosts.start(slow, "cut"):
            assert process.wait(timeout=180) == 0, slow.log("cut-0")
    assert "resuming from step" in slow.log("cut-0")
    assert not (tmp_path / "cut-1/models").exists() and not (tmp_path / "cut-1/checkpoints").exists()
    assert torch.equal(*(slow.result(run)["decoder.classifier.1.weight"] for run in ("cut-0", "whole")))
    slow.assert_same("cut-0", "whole")

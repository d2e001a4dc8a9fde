"""How a training ends that loses a loader process or another rank: exit code, sentence and traceback."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil

import pytest

from components.common.data.store import Store
from components.common.entrypoints.dvc import exit_code
from components.common.errors import StoreError
from components.train.crops import Crops, batches
from components.train.ranks.distributed import open_ranks
from tests.ranks import on_ranks


def with_a_killed_worker(store, config):
    """Read batches from a worker process and kill it."""
    tiles = Store(store)
    for _ in batches(Crops(tiles, tiles.manifest.subset("train"), config), config, 1, 1):
        multiprocessing.active_children()[0].kill()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_killed_loader_worker_means_run_the_same_command_again(
    toy_store, train_config, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MOBANET_LOGS", str(tmp_path))
    assert exit_code(lambda: with_a_killed_worker(toy_store, train_config())) == 75
    (line,), (log,) = capsys.readouterr().err.splitlines(), tmp_path.iterdir()
    assert line.startswith("error: train: a loader process was killed, most likely because memory ran out")
    assert "run the same command again to continue; if it happens again, lower runtime.workers" in line
    assert line.endswith(f"the traceback is in {log}") and "is killed by signal: Killed" in log.read_text()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_error_of_a_loader_worker_keeps_its_sentence(toy_store, train_config, tmp_path):
    store = Store(shutil.copytree(toy_store, tmp_path / "store"))
    crops = Crops(store, store.manifest.subset("train"), train_config())
    store._mapped.clear()  # the worker maps the tiles, and finds a damaged one
    for tile in store.manifest.tiles:
        (store.path / tile.file).write_bytes(b"")
    with pytest.raises(StoreError, match=r"^[^\n]*not a readable tile[^\n]*; run the preprocess step again$"):
        list(batches(crops, train_config(), 1, 1))


def test_a_lost_rank_is_a_sentence_of_the_other_rank(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MOBANET_LOGS", str(tmp_path))

    def work():
        with open_ranks("cpu") as ranks:
            ranks.any(False)
            if ranks.rank == 1:
                os._exit(9)
            while True:
                ranks.any(False)

    assert on_ranks(2, work) == [75, 9]
    (log,) = tmp_path.iterdir()
    assert "Traceback" in log.read_text()
    words = r"error: train rank 0: the connection to another rank is broken or timed out \(\w.*\); see the log of that"
    assert re.search(words, capfd.readouterr().err)

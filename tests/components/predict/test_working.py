from __future__ import annotations

import errno
import json
import os
import random
import signal
import time
from dataclasses import replace

import numpy as np
import pytest

from components.common.errors import ParamsError
from components.predict.outputs import maps, working
from components.predict.outputs.map_layers import layers_of
from components.predict.outputs.maps import draft_maps
from components.predict.outputs.working import Tally, Working, folder_of
from tests.components.predict import drawn_maps as known

FACTS = known.facts()
BLOCKS = known.blocks_of(FACTS)


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    known.write_map(folder / "map.tif", FACTS)
    return known.contents(folder)


def write_rows(work, block, start, stop):
    band = known.drawn(slice(start, stop), block.columns)
    work.write(block, band.rows, layers_of(band, FACTS.layers), Tally.of(band))


def test_an_interrupted_command_continues_after_the_last_row_that_was_recorded(tmp_path, expected):
    output = tmp_path / "map.tif"
    with pytest.raises(Stopped), Working.open(output, FACTS, BLOCKS) as work:
        write_rows(work, BLOCKS[0], 0, 70)
        write_rows(work, BLOCKS[1], 0, 30)
        raise Stopped
    assert not output.exists()
    with Working.open(output, FACTS, BLOCKS) as work:
        assert [work.first_row(block) for block in BLOCKS] == [70, 30, 0]
        known.fill(work, BLOCKS, FACTS)
        draft_maps(work).place()
    assert known.contents(tmp_path) == expected


def test_rows_without_a_journal_line_are_computed_again(tmp_path, expected):
    output = tmp_path / "map.tif"
    with Working.open(output, FACTS, BLOCKS) as work:
        write_rows(work, BLOCKS[0], 0, 20)
        work.commit()
        write_rows(work, BLOCKS[0], 20, 40)
        work._pending = None  # as if the process had been killed
    with Working.open(output, FACTS, BLOCKS) as work:
        assert work.first_row(BLOCKS[0]) == 20
        assert work.counts == Tally.of(known.drawn(slice(0, 20), BLOCKS[0].columns))
        known.fill(work, BLOCKS, FACTS)
        draft_maps(work).place()
    assert known.contents(tmp_path) == expected


def test_a_folder_in_which_nothing_is_finished_does_not_stop_another_command(tmp_path):
    output, other = tmp_path / "map.tif", replace(FACTS, inputs="another image")
    with pytest.raises(Stopped), Working.open(output, FACTS, BLOCKS):
        raise Stopped
    with pytest.raises(Stopped), Working.open(output, other, BLOCKS) as work:
        write_rows(work, BLOCKS[0], 0, 20)
        raise Stopped
    with pytest.raises(ParamsError, match="unfinished work with other inputs"), Working.open(output, FACTS, BLOCKS):
        pass


def test_kills_at_random_moments_leave_the_same_bytes(tmp_path, expected, monkeypatch):
    output, rows = tmp_path / "map.tif", 2
    monkeypatch.setattr(working, "COMMIT_S", 0.0)
    ready = {
        (block.limits, start): (band, layers_of(band, FACTS.layers), Tally.of(band))
        for block in BLOCKS
        for start in range(0, 70, rows)
        for band in [known.drawn(slice(start, start + rows), block.columns)]
    }
    choose = random.Random(5)
    for _ in range(6):
        child = os.fork()
        if child == 0:
            with Working.open(output, FACTS, BLOCKS) as work:
                for block in BLOCKS:
                    for start in range(work.first_row(block), 70, rows):
                        time.sleep(0.002)
                        band, layers, counts = ready[block.limits, start]
                        work.write(block, band.rows, layers, counts)
            os._exit(0)
        time.sleep(choose.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert not output.exists()
    monkeypatch.undo()
    with Working.open(output, FACTS, BLOCKS) as work:
        assert 0 < work.first_row(BLOCKS[0])
        known.fill(work, BLOCKS, FACTS)
        draft_maps(work).place()
    assert known.contents(tmp_path) == expected


@pytest.mark.parametrize("moment", range(0, 13, 3))
def test_a_crash_between_two_renames_is_repaired_by_the_same_command(tmp_path, expected, monkeypatch, moment):
    output, rename, renamed = tmp_path / "map.tif", maps._rename, []

    def stop(draft, target):
        if len(renamed) == moment:
            raise Stopped
        renamed.append(target)
        rename(draft, target)

    monkeypatch.setattr(maps, "_rename", stop)
    with pytest.raises(Stopped):
        known.write_map(output, FACTS)
    assert not output.exists()
    monkeypatch.setattr(maps, "_rename", rename)
    known.write_map(output, FACTS)
    assert known.contents(tmp_path) == expected


@pytest.mark.parametrize("torn", [b'{"block": [0, 70, 0', b"\0\0\0\0", b'{"block": [0, 70, 0, 20], "until"\n{}\n'])
def test_a_torn_end_of_the_journal_is_ignored(tmp_path, torn):
    output = tmp_path / "map.tif"
    with Working.open(output, FACTS, BLOCKS) as work:
        write_rows(work, BLOCKS[0], 0, 20)
    with (folder_of(output) / "journal.jsonl").open("ab") as journal:
        journal.write(torn)
    with Working.open(output, FACTS, BLOCKS) as work:
        assert work.first_row(BLOCKS[0]) == 20
        write_rows(work, BLOCKS[0], 20, 30)
    with Working.open(output, FACTS, BLOCKS) as work:
        assert work.first_row(BLOCKS[0]) == 30


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_sha256": "b" * 64}, "model"),
        ({"inputs": "0" * 64}, "inputs"),
        ({"settings": {"window_px": 32, "stride_px": 16, "batch_size": 4}}, "settings"),
        ({"region": known.Region(slice(0, 70), slice(0, 52))}, "region, block_px"),
        ({"layers": ("classes",)}, "layers"),
    ],
)
def test_other_work_on_the_same_output_is_an_error_that_names_the_difference(tmp_path, changes, named):
    output = tmp_path / "map.tif"
    with Working.open(output, FACTS, BLOCKS) as work:
        write_rows(work, BLOCKS[0], 0, 20)
    other = known.facts(**changes)
    with pytest.raises(ParamsError, match=f"with other {named}; use the same command .* add --restart"):
        Working.open(output, other, known.blocks_of(other)).__enter__()
    with Working.open(output, FACTS, BLOCKS) as work:
        assert work.first_row(BLOCKS[0]) == 20  # the error costs no work
    with Working.open(output, FACTS, BLOCKS, restart="if changed") as work:
        assert work.first_row(BLOCKS[0]) == 20
    with Working.open(output, other, known.blocks_of(other), restart="if changed") as work:
        assert work.first_row(known.blocks_of(other)[0]) == 0


def test_a_restart_discards_the_same_work_too(tmp_path):
    output = tmp_path / "map.tif"
    with Working.open(output, FACTS, BLOCKS) as work:
        write_rows(work, BLOCKS[0], 0, 20)
    with Working.open(output, FACTS, BLOCKS, restart="yes") as work:
        assert work.first_row(BLOCKS[0]) == 0


def test_other_widths_of_blocks_are_named_by_their_parameter(tmp_path):
    output = tmp_path / "map.tif"
    with Working.open(output, FACTS, BLOCKS) as work:
        write_rows(work, BLOCKS[0], 0, 20)
    with pytest.raises(ParamsError, match="other block_px"):
        Working.open(output, FACTS, known.blocks_of(FACTS, 30)).__enter__()


def test_lost_raw_files_mean_starting_over(tmp_path):
    output = tmp_path / "map.tif"
    with Working.open(output, FACTS, BLOCKS) as work:
        write_rows(work, BLOCKS[0], 0, 20)
        raw = work.raw("entropy")
    raw.unlink()
    with Working.open(output, FACTS, BLOCKS) as work:
        assert work.first_row(BLOCKS[0]) == 0 and work.counts == Tally()


def test_two_commands_cannot_write_one_map_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(working, "LOCK_S", 0.1)
    with Working.open(tmp_path / "map.tif", FACTS, BLOCKS):
        with pytest.raises(ParamsError, match="another command is writing this map"):
            Working.open(tmp_path / "map.tif", FACTS, BLOCKS).__enter__()
        with Working.open(tmp_path / "other.tif", FACTS, BLOCKS):
            pass


def test_a_full_disk_keeps_what_was_recorded(tmp_path, expected, monkeypatch):
    output, write = tmp_path / "map.tif", os.pwrite

    def full(file, data, offset):
        if offset > 2000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[:7], offset)  # some systems write a part of the data first

    with Working.open(output, FACTS, BLOCKS) as work:
        write_rows(work, BLOCKS[0], 0, 10)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"), Working.open(output, FACTS, BLOCKS) as work:
        known.fill(work, BLOCKS, FACTS)
    monkeypatch.undo()
    with Working.open(output, FACTS, BLOCKS) as work:
        assert work.first_row(BLOCKS[0]) >= 10
        known.fill(work, BLOCKS, FACTS)
        draft_maps(work).place()
    assert known.contents(tmp_path) == expected


def test_rows_must_follow_on_those_before(tmp_path):
    with pytest.raises(ValueError, match="expected rows from 10"), Working.open(tmp_path / "m.tif", FACTS, BLOCKS) as w:
        write_rows(w, BLOCKS[0], 0, 10)
        write_rows(w, BLOCKS[0], 11, 20)


def test_a_map_with_unfinished_blocks_is_not_published(tmp_path):
    with pytest.raises(ValueError, match="not finished"), Working.open(tmp_path / "map.tif", FACTS, BLOCKS) as work:
        write_rows(work, BLOCKS[0], 0, 70)
        draft_maps(work)


def test_the_journal_states_what_is_computed(tmp_path):
    with Working.open(tmp_path / "map.tif", FACTS, BLOCKS):
        first = (folder_of(tmp_path / "map.tif") / "journal.jsonl").read_text().splitlines()[0]
    identity = json.loads(first)["identity"]
    assert identity["model"] == ["models:/mobanet/3", "3", "a" * 64]
    assert identity["settings"] == FACTS.settings


def test_pixels_are_read_back_in_bands(tmp_path, monkeypatch):
    monkeypatch.setattr(working, "READ_PX", 53 * 8)
    with Working.open(tmp_path / "map.tif", FACTS, BLOCKS) as work:
        known.fill(work, BLOCKS, FACTS)
        bands = list(work.read("classes"))
    assert [rows.stop for rows, _ in bands] == [8, 16, 24, 32, 40, 48, 56, 64, 70]
    complete = layers_of(known.drawn(slice(0, 70), slice(0, 53)), ("classes",))["classes"][0]
    assert np.array_equal(np.concatenate([pixels for _, pixels in bands]), complete)


def test_an_input_file_that_was_edited_since_is_other_work(tmp_path):
    output = tmp_path / "map.tif"
    with Working.open(output, FACTS, BLOCKS, [[10, 1]]) as work:
        write_rows(work, BLOCKS[0], 0, 20)
    with pytest.raises(ParamsError, match="with other input files"):
        Working.open(output, FACTS, BLOCKS, [[10, 2]]).__enter__()
    with Working.open(output, FACTS, BLOCKS, [[10, 1]]) as work:
        assert work.first_row(BLOCKS[0]) == 20

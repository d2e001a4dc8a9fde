from __future__ import annotations

import dataclasses

import pytest

from components.check import scan
from components.check.findings import CODES
from tests.repo.import_graph import ROOT


@pytest.mark.parametrize("rows", [16, 18, 64])
def test_the_facts_do_not_depend_on_the_rows_read_at_once(package, checked, monkeypatch, rows):
    folder = package(dsm_short={"2_11": 3}, dsm_nan=("2_10",), unknown_px={"2_12": 700}, dsm_coarse=("3_10",))
    whole = checked(folder).subject.tiles
    monkeypatch.setattr(scan, "_rows_at_once", lambda width_px: rows)
    parts = checked(folder).subject.tiles
    for tile, facts in whole.items():
        for name in ("pixels", "label", "eroded", "files", "troubles"):
            assert getattr(parts[tile], name) == getattr(facts, name)
        assert parts[tile].image == facts.image
        means, others = (part.dsm.class_medians_m for part in (facts, parts[tile]))
        assert others == pytest.approx(means, abs=1e-3)
        assert dataclasses.replace(parts[tile].dsm, class_medians_m=means) == facts.dsm


def test_a_mosaic_of_all_tiles_is_read_once(own_data, checked):
    tiles = checked(own_data(mosaic=True), dataset="mine").subject.tiles
    assert tiles["a"].dsm is not None and tiles["b"].dsm is None
    assert tiles["b"].files["dsm"].width_px == tiles["a"].files["dsm"].width_px


def test_every_code_is_shown_by_a_test():
    tests = "".join(path.read_text() for path in (ROOT / "tests/components/check").glob("test_*.py"))
    assert [code for code in CODES if f'"{code}"' not in tests] == []

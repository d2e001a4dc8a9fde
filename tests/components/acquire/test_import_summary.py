from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from components.acquire.import_summary import summary
from components.common.data import datasets
from components.common.data.datasets import KINDS
from components.common.data.rawtree import RawTree

POTSDAM = datasets.dataset("potsdam")


def test_tiles_are_counted_by_kind_and_what_is_missing_is_named() -> None:
    tiles = {"2_10": dict.fromkeys(KINDS, "x"), "2_11": dict.fromkeys(("image", "label"), "x")}
    known = ["2_10", "2_11", *(f"9_{number}" for number in range(8))]
    assert summary(RawTree(Path("x"), "isprs", POTSDAM, tiles), known).splitlines() == [
        "image   2 of 10 tiles",
        "dsm     1 of 10 tiles",
        "label   2 of 10 tiles",
        "eroded  1 of 10 tiles",
        "incomplete: 2_11 (no dsm, no eroded)",
        "missing: 9_0, 9_1, 9_2, 9_3, 9_4, 9_5 and 2 more",
    ]


def test_a_whole_tree_has_nothing_missing_and_labels_that_are_made_are_not_missed() -> None:
    tree = RawTree(Path("x"), "folder", replace(POTSDAM, eroded=None), {"a": dict.fromkeys(KINDS[:3], "x")})
    assert summary(tree, ["a"]).splitlines() == ["image   1 of 1 tiles", "dsm     1 of 1 tiles", "label   1 of 1 tiles"]

"""components/common/data/rawtree.py: the facts of the raw tiles come back equal, and the file is strict JSON."""

import json
import math
from dataclasses import replace

from components.common.data import datasets
from components.common.data.rawtree import RECORD, RawTree, read_raw_tree, write_raw_tree


def test_a_tree_with_nan_as_a_mark_comes_back_from_strict_json(tmp_path):
    dataset = datasets.dataset("sample")
    dataset = replace(dataset, dsm=replace(dataset.dsm, nodata=(-9999.0, math.nan)))
    tree = RawTree(tmp_path, "sample", dataset, {"2_10": {"dsm": "a.tif"}})
    write_raw_tree(tree)
    content = json.loads((tmp_path / RECORD).read_text(), parse_constant=lambda name: 1 / 0)
    assert content["dataset"]["dsm"]["nodata"] == [-9999.0, "NaN"]
    found = read_raw_tree(tmp_path)
    low, mark = found.dataset.dsm.nodata
    assert low == -9999.0 and math.isnan(mark)
    assert replace(found.dataset, dsm=dataset.dsm) == dataset and found.tiles == tree.tiles

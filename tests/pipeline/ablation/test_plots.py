from __future__ import annotations

import numpy as np
from PIL import Image

from pipeline.ablation.plots import write_plots

TWO = {"first": [(80.0, 70.0), (82.0, 70.0)], "costs $ and 50 %": [(70.0, 75.0), (70.0, 75.0)]}


def test_every_picture_is_there_and_not_empty(made_up, tmp_path):
    paths = write_plots(made_up(TWO), tmp_path)
    assert [path.name for path in paths] == ["fusion.png", "contributions.png", "failure.png", "gates.png"]
    for path in paths:
        assert np.asarray(Image.open(path)).std() > 5


def test_without_gates_there_is_no_picture_of_them(made_up, tmp_path):
    assert "gates.png" not in {path.name for path in write_plots(made_up(TWO, gates=False), tmp_path)}


def test_a_variant_of_one_modality_is_left_out_where_it_has_no_figure(made_up, tmp_path):
    for single in ({"first"}, set(TWO)):
        assert len(write_plots(made_up(TWO, single=single), tmp_path)) == 4

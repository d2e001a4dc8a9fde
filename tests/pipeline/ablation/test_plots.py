from __future__ import annotations

import numpy as np
from PIL import Image

from pipeline.ablation.plots import PLOTS, write_plots

TWO = {"first": [(80.0, 70.0), (82.0, 70.0)], "costs $ and 50 %": [(70.0, 75.0), (70.0, 75.0)]}
ALONE = {"image alone": "rgb", "DSM alone": "dsm"}


def test_every_picture_is_there_and_not_empty(made_up, tmp_path):
    paths = write_plots(made_up(TWO), tmp_path)
    assert [path.name for path in paths] == [
        "fusion.png",
        "sensors.png",
        "contributions.png",
        "failure.png",
        "gates.png",
    ]
    for path in paths:
        assert np.asarray(Image.open(path)).std() > 5


def test_without_gates_there_is_no_picture_of_them(made_up, tmp_path):
    assert "gates.png" not in {path.name for path in write_plots(made_up(TWO, gates=False), tmp_path)}


def test_networks_of_one_sensor_are_lines_in_the_picture_of_the_sensors(made_up):
    """Their lines are the only vertical ones."""
    results = made_up(TWO | {"image alone": [(57.0, 57.0)], "DSM alone": [(49.0, 49.0), (51.0, 51.0)]}, single=ALONE)
    figure = PLOTS["sensors"](results)
    lines = sorted(line.get_xdata()[0] for line in figure.axes[0].get_lines())
    assert lines == [50.0, 57.0]
    bars = {round(bar.get_width(), 1) for bar in figure.axes[0].patches}
    assert bars == {81.0, 70.0, 40.0, 30.0}


def test_networks_of_one_sensor_are_left_out_of_the_other_pictures(made_up, tmp_path):
    results = made_up({"image alone": [(90.0, 90.0)]} | TWO, single=ALONE)
    assert len(write_plots(results, tmp_path)) == 5
    _, labels = PLOTS["fusion"](results).axes[0].get_legend_handles_labels()
    assert labels == list(TWO)
    assert write_plots(made_up({"image alone": [(90.0, 90.0)]}, single=ALONE), tmp_path) == []

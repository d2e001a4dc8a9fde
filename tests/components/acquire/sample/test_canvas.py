from __future__ import annotations

import math

import numpy as np
import pytest

from components.acquire.sample.canvas import GSD_M, LABELS, Canvas, Frame


def fill(canvas: Canvas, half_m: float, height: float, label: str) -> None:
    patch = canvas.patch(Frame(0, 0, 0), half_m, half_m)
    assert patch is not None
    canvas.lay(patch, np.ones(patch.u_HW.shape, bool), (0.1 * height,) * 3, label=label, height=height)


@pytest.mark.parametrize("order", [("roof", "crown"), ("crown", "roof")])
def test_the_highest_thing_stays_whatever_is_painted_first(order) -> None:
    things = {"roof": (1.0, 5.0, "building"), "crown": (0.5, 8.0, "tree")}
    canvas = Canvas(64, 0)
    for name in order:
        fill(canvas, *things[name])
    assert canvas.label_HW[32, 32] == LABELS["tree"]
    assert canvas.label_HW[32, 32 - 15] == LABELS["building"]
    assert canvas.height_HW[32, 32] == 8.0
    assert canvas.colour_HW3[32, 32, 0] == pytest.approx(0.8)


def test_a_patch_sees_the_axes_of_its_frame() -> None:
    canvas = Canvas(100, 0)
    patch = canvas.patch(Frame(1.0, -0.5, math.pi / 2), 0.5, 0.5)  # u points down, v to the left
    assert patch is not None
    row, col = 50 - round(0.5 / GSD_M), 50 + round(1.0 / GSD_M)
    at = (row - patch.rows.start, col - patch.cols.start)
    assert (patch.u_HW[at], patch.v_HW[at]) == pytest.approx((GSD_M / 2, -GSD_M / 2), abs=1e-5)
    assert patch.u_HW[at[0] + 4, at[1]] - patch.u_HW[at] == pytest.approx(4 * GSD_M, abs=1e-5)
    assert patch.v_HW[at[0], at[1] + 4] - patch.v_HW[at] == pytest.approx(-4 * GSD_M, abs=1e-5)


def test_what_lies_off_the_canvas_has_no_patch() -> None:
    assert Canvas(100, 0).patch(Frame(50.0, 0.0, 0.0), 1.0, 1.0) is None


def test_a_place_is_free_only_on_low_ground_of_the_named_classes() -> None:
    canvas = Canvas(100, 0)
    place = Frame(0, 0, 0.3)
    assert canvas.is_free(place, 1.0, 0.5, on=("low_vegetation",))
    assert not canvas.is_free(place, 1.0, 0.5, on=("impervious",))
    fill(canvas, 0.2, 1.0, "low_vegetation")
    assert not canvas.is_free(place, 1.0, 0.5, on=("low_vegetation",))

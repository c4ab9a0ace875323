import numpy as np
import pytest

from flows.simulation.canvas import blank_canvas
from flows.simulation.conditions import conditions_of
from flows.simulation.presets import find_preset
from flows.simulation.psf import Stamp
from flows.simulation.truth import source_row, stamp_footprint, truth_table, visible_share
from schemas.mask import MaskPlane
from schemas.truth import TRUTH

SMALL = find_preset("ztf", shape=(100, 120))


def test_visible_share_counts_usable_pixels_on_the_image() -> None:
    mask = np.zeros((20, 20), np.uint16)
    stamp = Stamp(np.full((10, 10), 0.01), 5, 15)  # half of it beyond the right border
    assert visible_share(mask, stamp_footprint(stamp, mask.shape)) == pytest.approx(0.5)
    mask[5:10] = MaskPlane.SAT
    assert visible_share(mask, stamp_footprint(stamp, mask.shape)) == pytest.approx(0.25)
    mask[:] = MaskPlane.DETECTED | MaskPlane.STREAK  # information only
    assert visible_share(mask, stamp_footprint(stamp, mask.shape)) == pytest.approx(0.5)


def test_a_source_beyond_the_image_is_not_visible() -> None:
    outside = Stamp(np.ones((3, 3)), -10, 50)
    assert visible_share(np.zeros((20, 20), np.uint16), stamp_footprint(outside, (20, 20))) == 0


def test_table_has_the_schema_also_without_rows() -> None:
    conditions = conditions_of(SMALL, 1, 0, 0)
    canvas = blank_canvas(SMALL.shape)
    TRUTH.check(truth_table(canvas))
    row = source_row("streak", "a", conditions, (50.0, 60.0), 100.0, 9.0, (12.0, 200.0))
    canvas.truth.append((row, stamp_footprint(conditions.psf.trail(50.0, 60.0, 12.0, 20.0), SMALL.shape)))
    table = truth_table(canvas)
    TRUTH.check(table)
    (row,) = table.to_pylist()
    assert row["angle_deg"] == pytest.approx(20)
    assert (row["visit"], row["detector"]) == (conditions.visit, 0)
    assert row["box_xmax"] - row["box_xmin"] > 12 * np.cos(np.deg2rad(20))

import numpy as np
import pytest

from schemas.known_object import SS_SOURCE
from schemas.stage import Context
from stages.fit_tracklets import STAGE
from tests.support.filled import filled
from tests.support.tracklets import MJD, STEP, false_detections, linked, mover, numbered, place, source_table


def fitted(groups, visits=3):
    rows, ids = numbered(groups, visits)
    return linked(source_table(rows))[1].to_pylist(), ids


@pytest.mark.parametrize(("rate", "angle"), [(0.05, 10.0), (0.8, 130.0), (6.0, 250.0), (20.0, 359.0)])
def test_a_mover_gives_one_tracklet_with_its_motion(rate, angle):
    (row,), (ids, *_) = fitted([mover(150.0, 0.1, rate, angle, range(3)), *false_detections(3)])
    assert row["trackletId"] == ids[0]
    assert (row["nSources"], row["nVisits"]) == (3, 3)
    assert row["rate"] == pytest.approx(rate, rel=1e-5)
    assert row["positionAngle"] == pytest.approx(angle, abs=1e-2)
    assert row["arc"] == pytest.approx(rate * 2 * STEP * 3600, rel=1e-5)
    assert (row["firstMjdTai"], row["lastMjdTai"]) == (MJD, MJD + 2 * STEP)
    assert row["rms"] < 1e-3
    assert row["chi2"] < 1e-3


def test_the_position_is_that_of_the_middle():
    (row,), _ = fitted([mover(359.99, 45.0, 2.0, 90.0, range(3))])
    ((there,),) = [mover(359.99, 45.0, 2.0, 90.0, [(row["midpointMjdTai"] - MJD) / STEP])]
    assert row["midpointMjdTai"] == pytest.approx(MJD + STEP)
    assert (row["ra"], row["dec"]) == pytest.approx((there["ra"], there["dec"]), abs=1e-6)


def test_light_and_reliability_are_those_of_the_detections():
    rows = mover(150.0, 0.1, 0.5, 40.0, range(3))
    for row, magnitude, reliability in zip(rows, (20.0, None, 20.4), (0.5, 0.9, 0.7), strict=True):
        row |= {"magAB": magnitude, "reliability": reliability}
    (row,), _ = fitted([rows])
    assert row["magAB"] == pytest.approx(20.2)
    assert row["magABStd"] == pytest.approx(np.std([20.0, 20.4], ddof=1))
    assert (row["reliabilityMax"], row["reliabilityMean"]) == pytest.approx((0.9, 0.7))


@pytest.mark.parametrize(("known", "spread"), [(0, None), (1, None)])
def test_what_is_not_known_is_null(known, spread):
    rows = mover(150.0, 0.1, 0.5, 40.0, range(3))
    rows = [row | {"magAB": 20.0 if n < known else None} for n, row in enumerate(rows)]
    (row,), _ = fitted([rows])
    assert row["magAB"] == (20.0 if known else None)
    assert row["magABStd"] == spread


def test_two_detections_with_trails_are_a_tracklet_and_two_points_are_none():
    (row,), _ = fitted([mover(150.0, 0.1, 10.0, 40.0, range(2)), mover(150.5, 0.1, 0.5, 40.0, range(2))])
    assert (row["nSources"], row["rate"]) == (2, pytest.approx(10.0, rel=1e-5))
    assert row["rms"] < 1e-3


def test_residuals_are_measured_in_the_errors_that_are_stated():
    rows = mover(150.0, 0.1, 0.5, 90.0, range(4))
    rows = [row | {"dec": row["dec"] + (0.2 if n in (0, 3) else -0.2) / 3600} for n, row in enumerate(rows)]
    (row,), _ = fitted([rows], 4)
    assert row["rms"] == pytest.approx(0.2, rel=1e-2)
    assert row["chi2"] == pytest.approx(4 * 0.2**2 / 0.1**2, rel=1e-2)


def test_nothing_moves_among_stars():
    stars = [[place(150 + n / 10, 0.0, visit) for visit in range(3)] for n in range(5)]
    assert fitted(stars)[0] == []


@pytest.mark.parametrize(("names", "called"), [(["A", "A"], "A"), (["A"], ""), (["A", "B"], ""), ([], "")])
def test_a_tracklet_has_the_name_of_most_of_its_detections(names, called):
    rows, (ids,) = numbered([mover(150.0, 0.1, 0.8, 130.0, range(3))])
    table = source_table(rows)
    known = filled(SS_SOURCE.schema, len(names), diaSourceId=ids[: len(names)], designation=names)
    inputs = {"dia_source": table, "tracklet_source": linked(table)[0]}
    (row,) = STAGE(inputs | {"ss_source": known}, Context()).rows.to_pylist()
    assert row["designation"] == called

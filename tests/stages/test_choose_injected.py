import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.trails.geometry import DetectedSegment
from schemas.dataset import DatasetError
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.injection import INJECTED, INJECTION, MOST
from schemas.stage import Context
from stages.choose_injected import STAGE
from tests.support.exposure import exposure_info
from tests.support.filled import filled_rows

EXPOSURE = exposure_info((1000, 1000), visit=7, detector=3, fwhm_px=2.2, noise=5.0)


def rows(form, *known):
    return filled_rows(form.schema, known)


def streak(x, y, length=0.0, angle=0.0, **known):
    return {"x": x, "y": y, "length": length, "angle": angle, "clearance": 50.0, "snr": 8.0} | known


def detection(x, y, length=0.0, angle=0.0):
    return {"x": x, "y": y, "trailLengthPx": length, "trailAnglePx": angle, "snr": 9.0}


def chosen(streaks, detections, exposure=EXPOSURE):
    inputs = {"injected": rows(INJECTED, *streaks), "dia_source": rows(DIA_SOURCE, *detections)}
    return STAGE(inputs, Context(exposure)).rows


places = st.floats(0, 400)
lines = st.tuples(places, places, st.floats(0, 120), st.floats(0, 179))


@given(st.lists(lines, max_size=6), st.lists(lines, max_size=6))
def test_what_is_chosen_comes_near_no_detection(streaks, detections):
    left = chosen([streak(*one) for one in streaks], [detection(*one) for one in detections])["x"].to_pylist()
    for one in streaks:
        own = DetectedSegment(*one, 0.0).points(0.5)
        apart = min(
            (
                np.hypot(*(own[:, None] - DetectedSegment(*other, 0.0).points(0.5)).transpose(2, 0, 1)).min()
                for other in detections
            ),
            default=np.inf,
        )
        # Points 4 px apart stand for a streak; those here are 0.5 px apart.
        if apart > 52:
            assert one[0] in left
        if apart < 48 and [two[0] for two in streaks].count(one[0]) == 1:
            assert one[0] not in left


def test_rows_are_in_order_with_ids_below_zero_and_as_they_were_put_in():
    streaks = [streak(x, 10.0, 5.0, recovered=True, measuredSnr=x / 100) for x in (100.0, 300.0, 500.0)]
    table = chosen(streaks, [detection(290.0, 20.0)])
    assert table.schema.equals(INJECTION.schema)
    assert table["x"].to_pylist() == [100.0, 500.0]
    assert table["measuredSnr"].to_pylist() == [1.0, 5.0]
    assert [-1 - one for one in table["injectionId"].to_pylist()] == [(7 << 21) | (3 << 12) | i for i in range(2)]


def test_distance_counts_along_the_whole_of_both_lines():
    across = [streak(500.0, 500.0, 120.0, 90.0)]
    assert len(chosen(across, [detection(500.0, 609.0)])) == 0
    assert len(chosen(across, [detection(500.0, 611.0)])) == 1
    assert len(chosen(across, [detection(570.0, 500.0, 60.0, 0.0)])) == 0


def test_each_has_its_own_clearance():
    beside = [streak(100.0, 100.0, clearance=9.0), streak(100.0, 300.0, clearance=11.0)]
    assert chosen(beside, [detection(110.0, 100.0), detection(110.0, 300.0)])["y"].to_pylist() == [100.0]


def test_nothing_comes_of_nothing_and_too_many_are_refused():
    assert chosen([], [detection(1.0, 1.0)]).equals(INJECTION.empty())
    with pytest.raises(Misconfigured, match="holds 4096 at most"):
        chosen([streak(0.0, 0.0)] * (MOST + 1), [])


def test_says_what_it_needs():
    with pytest.raises(DatasetError, match="needs an exposure"):
        chosen([], [], None)

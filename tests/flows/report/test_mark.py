from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.report.detection import detections
from flows.report.mark import place


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(-10, 4000), st.floats(-10, 4000), st.floats(0, 180), st.integers(-50, 50), st.integers(-50, 50))
def test_pixels_upwards_become_a_drawing_downwards(kit, x, y, angle, x0, y0):
    (one,) = detections(kit.table(kit.rows(kit.info(), 1, 7)))
    mark = place(replace(one, x=x, y=y, angle=angle), (x0, y0), 100, 5)
    # The first pixel is [0, 1) across, and the last stretch [99, 100) from the top.
    assert (mark.x, mark.y) == pytest.approx((x - x0 + 0.5, 100 - (y - y0) - 0.5))
    assert mark.angle == -angle
    assert mark.label[0] > mark.x
    assert mark.label[1] < mark.y

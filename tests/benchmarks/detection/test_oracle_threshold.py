import numpy as np
import pytest

from benchmarks.detection.oracle_threshold import SIDE, THRESHOLDS, fit, peaks
from kernels.trails.matched_filter import false_alarms


def test_fit_recovers_the_law_behind_the_counts():
    area = 1e11
    counts = area * 0.004 * THRESHOLDS**3.5 * np.exp(-(THRESHOLDS**2) / 2)
    density, power = fit(counts, area)
    assert power == pytest.approx(3.5, abs=0.02)
    assert density * 5**power == pytest.approx(0.004 * 5**3.5, rel=0.01)


def test_one_field_has_as_many_peaks_as_the_recorded_law_says():
    heights = peaks([12345], 2.45, 0.6)
    expected = false_alarms(float(THRESHOLDS[0]), SIDE**2)
    assert abs(len(heights) - expected) < 4 * np.sqrt(expected)
    assert heights.max() < 7

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.report.histograms import LENGTH_EDGES, SNR_EDGES, length_histogram, snr_histogram


def told(chart):
    """(lower edge, class, count) of each bar."""
    found = []
    for rect in ElementTree.fromstring(chart).iter("rect"):
        span, count = re.fullmatch(r"(\S+) to .*: ([\d,]+)", rect.find("title").text).groups()
        found.append((float(span), rect.get("class"), int(count.replace(",", ""))))
    return found


@given(st.lists(st.tuples(st.floats(-5, 1e6), st.floats(0, 1)), max_size=50))
def test_every_detection_is_counted_once(pairs):
    value, reliability = (np.array(pairs, float).reshape(-1, 2)).T
    for chart in (snr_histogram(value, reliability), length_histogram(value, reliability)):
        assert sum(count for _, _, count in told(chart)) == len(pairs)


@pytest.mark.parametrize(("chart", "edges"), [(snr_histogram, SNR_EDGES), (length_histogram, LENGTH_EDGES)])
def test_bins_and_classes(chart, edges):
    value = np.array([0.0, edges[0], edges[3], edges[4] - 0.001, edges[-1], 1e9])
    reliability = np.array([0.95, 0.9, 0.7, 0.69999, 0.5, 0.0])
    assert sorted(told(chart(value, reliability))) == sorted(
        [
            (0.0, "grade-a", 1),
            (edges[0], "grade-a", 1),
            (edges[3], "grade-b", 1),
            (edges[3], "grade-c", 1),
            (edges[-1], "grade-c", 1),
            (edges[-1], "grade-d", 1),
        ]
    )


def test_the_number_is_read_aloud():
    chart = snr_histogram(np.array([5.0]), np.array([1.0]))
    assert ElementTree.fromstring(chart).get("aria-label") == "Histogram of 1 detection by signal to noise"

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.results.page.headline import LENGTH_EDGES, SNR_EDGES, counts, figures, lead, length_histogram, snr_histogram
from flows.results.page.night import read_night
from flows.results.quality.measure import depth
from schemas.summary import ExposureCounts


@pytest.fixture
def infos(kit):
    return [kit.info(visit=visit, zero_point=zero) for visit, zero in ((101, 26.0), (102, 26.5), (103, None))]


def test_lead_says_who_what_and_when(kit, tmp_path, infos):
    kit.night(tmp_path, visits=3)
    night = read_night(tmp_path, kit.NIGHT, None)
    assert lead(night, infos) == ("ZTF", "r", "3 visits of 1 detector", "2026-11-03 07:12 to 07:15 UTC")
    assert lead(night, infos[:1])[-1] == "2026-11-03 07:12 UTC"
    over_midnight = [infos[0], kit.info(midpoint_mjd_tai=61348.1)]
    assert lead(night, over_midnight)[-1] == "2026-11-03 07:12 to 2026-11-04 02:23 UTC"
    assert lead(night, []) == ("No exposure was published.",)


def test_figures_of_a_night(kit, tmp_path, infos):
    kit.night(tmp_path, visits=3, each=8)
    kit.quarantine(tmp_path)
    night = read_night(tmp_path, kit.NIGHT, kit.summary(4, 1))
    told = {figure.name: (figure.value, figure.note) for figure in figures(night, infos)}
    reliable = sum(value >= 0.9 for value in night.sources["reliability"].to_pylist())
    assert told["Exposures published"] == ("3", "1 quarantined")
    assert told["Windows searched"] == ("9,000", "120 too masked to score")
    assert told["Detections"] == ("24", f"{reliable} of reliability 0.9 or more")
    middle = (depth(infos[0]) + depth(infos[1])) / 2
    assert told["Median depth"] == (f"{middle:.2f} mag", "point source, 5σ; 2 exposures")
    assert told["Wall time"] == ("14 s", "634 windows a second")


def test_no_figure_is_made_up(kit, tmp_path):
    told = {figure.name for figure in figures(read_night(tmp_path, kit.NIGHT, None), [])}
    assert told == {"Exposures published", "Windows searched", "Detections"}


def test_a_rerun_does_not_divide_old_windows_by_new_time(kit, tmp_path, infos):
    kit.night(tmp_path, visits=3)
    idle = kit.summary(3, 0).model_copy(update={"windows": 0})
    told = {figure.name: figure.note for figure in figures(read_night(tmp_path, kit.NIGHT, idle), infos)}
    assert told["Wall time"] == ""


def test_counts_add_up():
    told = counts(ExposureCounts(seen=10, done=6, skipped=0, quarantined=3, failed=1))
    widths = [float(rect.get("width")) for rect in ElementTree.fromstring(told.bar).iter("rect")]
    assert widths == pytest.approx([600, 300, 100])
    assert [(name, value) for name, _, value in told.parts] == [
        ("done", "6"),
        ("skipped", "0"),
        ("quarantined", "3"),
        ("failed", "1"),
    ]
    assert told.total == "= 10 seen by this run"


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

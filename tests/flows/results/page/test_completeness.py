from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.results.evaluation.evaluate import Detections, Image, Truth, evaluate
from flows.results.evaluation.recovery import recoveries
from flows.results.evaluation.truth_table import read_truth
from flows.results.page.completeness import completeness_of, recovered, section
from flows.results.page.night import read_night
from flows.results.page.page import Drawing, render_page, write_report
from schemas.recovery import Limit, MagnitudeLimit, RecoveredShare, Recovery
from schemas.truth import TRUTH
from tests.flows.results.evaluation.test_recovery import injection

SNR = np.array([4.0, 6.0, 6.5, 8.0, 9.0, 12.0, 20.0, 30.0])


def truth():
    n = len(SNR)
    x, full = 100.0 * np.arange(1, n + 1), np.ones(n)
    kind, one = np.full(n, "streak"), np.ones(n, np.int64)
    return Truth(kind, one, one, x, x, SNR, 10 * full, 45 * full, full, 2 * full, 3 * full)


def searched(found, false):
    """Detections on the streaks ``found``, each 0.3 px off and 1 px too long, and false ones of given reliability."""
    x = np.concatenate([100.0 * (np.array(found) + 1) + 0.3, 5000.0 + 100 * np.arange(len(false))])
    n = len(x)
    score = np.array([0.9] * len(found) + list(false))
    snr = np.concatenate([SNR[found], np.full(len(false), 5.5)])
    return Detections(x, x - 0.3 * (np.arange(n) < len(found)), score, snr, np.full(n, 11.0), np.full(n, 44.0))


def bars(chart):
    return {rect.find("title").text: rect for rect in ElementTree.fromstring(chart).iter("rect")}


@pytest.fixture
def told():
    oracle = np.array([3.0, 6.0, 6.5, 8.0, 9.0, 12.0, 20.0, 30.0])
    there = truth()
    images = [
        Image(searched([2, 4, 5, 6, 7], [0.35, 0.32, 0.85]), there, oracle, 9e6),
        Image(searched([3, 4, 5, 6, 7], [0.95]), there, oracle, 9e6),
    ]
    return section(evaluate(images))


def test_figures(told):
    figures = {figure.name: (figure.value, figure.note) for figure in told.figures}
    # S/N >= 7: 9 of 10 were found; Clopper & Pearson's interval of that is 0.555 to 0.997.
    assert figures["Completeness, S/N ≥ 7"][0] == "0.90"
    assert figures["Completeness, S/N ≥ 7"][1].startswith("0.55 to 1.00; oracle 1.00")
    assert figures["Completeness, S/N ≥ 10"][0] == "1.00"
    assert figures["False streaks per image"] == ("2.00", "2 images")
    assert figures["Purity"] == ("0.71", "16 streaks in the truth")


def test_false_streaks_by_reliability_and_signal(told):
    charts = dict(told.charts)
    by_reliability = bars(charts["False streaks against reliability"])
    assert set(by_reliability) == {
        "0.3 to 0.4, false per image: 1",
        "0.8 to 0.9, false per image: 0.5",
        "0.9 to 1, false per image: 0.5",
    }
    assert list(bars(charts["False streaks against S/N"])) == ["5 to 7, false per image: 2"]


def test_completeness_beside_the_oracle(told):
    root = ElementTree.fromstring(dict(told.charts)["Completeness against S/N"])
    points = {style: [c for c in root.iter("circle") if style in c.get("class")] for style in ("ours", "oracle")}
    assert len(points["ours"]) == len(points["oracle"]) == 6
    heights = [float(circle.get("cy")) for circle in points["ours"]]
    assert heights[0] > heights[1] > heights[2] > heights[3]  # from the bottom up
    assert len([line for line in root.iter("line") if "interval" in line.get("class")]) == 6
    assert "3 to 5: 0.00 of 2; 5 to 7: 0.25 of 4; 7 to 10: 0.75 of 4" in root.get("aria-label")


def test_the_numbers_behind_the_chart(told):
    assert told.lines[2][:4] == ("7 to 10", "4", "3", "0.75")
    assert told.lines[0] == ("3 to 5", "2", "0", "0.00", "0.00 to 0.84", "0.00")


def test_accuracy(told):
    assert told.accuracy == (
        "Median errors of the 6 streaks found with S/N ≥ 10 and length ≥ 8 px: position 0.30 px, length 1.00 px, "
        "angle 1.00°."
    )


def test_without_a_streak_and_without_a_detection():
    none = truth().take(np.zeros(len(SNR), bool))
    empty = section(evaluate([Image(searched([], []), none)]))
    assert {figure.value for figure in empty.figures} == {"–", "0.00"}
    assert empty.accuracy == ""
    assert all(ElementTree.fromstring(chart).tag == "svg" for _, chart in empty.charts)


def test_reads_catalogue_and_pixels_of_a_night(kit, tmp_path):
    info = kit.info()
    rows = kit.rows(info, 6, 8)
    kit.publish(tmp_path, info, rows, 8)
    columns = dict.fromkeys(TRUTH.schema.names, 0) | {
        "kind": "streak",
        "objectName": "",
        "visit": info.visit,
        "detector": info.detector,
        "visible": 1.0,
        "fwhm_px": 2.2,
        "beta": 3.0,
        "snr": 30.0,
    }
    streaks = [
        columns | {"x": row["x"], "y": row["y"], "length_px": row["trailLengthPx"], "angle_deg": row["trailAnglePx"]}
        for row in rows[:4]
    ]
    pq.write_table(pa.Table.from_pylist(streaks, schema=TRUTH.schema), tmp_path / "truth.parquet")
    found = completeness_of(tmp_path, read_night(tmp_path, kit.NIGHT, None), read_truth([tmp_path / "truth.parquet"]))
    figures = {figure.name: figure.value for figure in found.figures}
    assert figures["Completeness, S/N ≥ 10"] == "1.00"
    assert figures["False streaks per image"] == "2.00"


def test_nothing_was_searched(kit, tmp_path):
    assert completeness_of(tmp_path, read_night(tmp_path, kit.NIGHT, None), truth()) is None


@pytest.fixture(scope="module")
def told_of_recovery():
    table = pa.concat_tables([injection(300), injection(12, visit=102, detector=5, band="g")])
    return recoveries("20261103", table)


def test_every_limit_stands_with_its_interval_and_number_or_a_reason(told_of_recovery):
    section = recovered(told_of_recovery, 100)
    night = told_of_recovery[0]
    figures = {figure.name: (figure.value, figure.note) for figure in section.figures}
    low, high = night.snr.interval
    assert figures["S/N of half recovered"] == (f"{night.snr.value:.1f}", f"{low:.1f} to {high:.1f}; 312 streaks")
    assert figures["Limiting magnitude, g"] == ("–", "fewer than 20 streaks; 12 streaks, all lengths")
    assert figures["Limiting magnitude, r"][1].endswith("; 300 streaks, all lengths")
    for line in (*section.limits, *section.detectors):
        notes = [cell for cell in line if "streaks" in cell]
        assert notes
        assert all(" to " in note or "fewer" in note or "reaches" in note for note in notes)
    assert [line[:2] for line in section.limits][:4] == [
        ("g", "all"), ("g", "0 to 3 px"), ("g", "3 to 15 px"), ("g", "15 px and more"),
    ]  # fmt: skip


def test_charts_show_shares_with_intervals(told_of_recovery):
    for name, svg in recovered(told_of_recovery, 100).charts:
        root = ElementTree.fromstring(svg)
        space = "{http://www.w3.org/2000/svg}" if root.tag.startswith("{") else ""
        intervals = [one for one in root.iter(f"{space}line") if one.get("class") == "interval ours"]
        points = list(root.iter(f"{space}circle"))
        shares = told_of_recovery[0].by_snr if "signal" in name else told_of_recovery[0].by_length
        assert len(intervals) == len(points) == sum(one.n > 0 for one in shares)


def test_says_how_many_came_back_and_lists_no_more_detectors_than_asked(told_of_recovery):
    section = recovered(told_of_recovery, 1)
    assert section.lead.startswith("312 synthetic streaks put into copies of tiles of 2 exposures, and the copies ")
    assert f"{told_of_recovery[0].recovered} came back." in section.lead
    assert len(section.detectors) == 1
    assert len(section.shares) == len(told_of_recovery[0].by_snr) + len(told_of_recovery[0].by_length)
    assert recovered((), 5) is None


def test_the_page_shows_what_the_summary_tells(kit, tmp_path, told_of_recovery):
    kit.night(tmp_path, visits=1)
    summary = kit.summary(1, 0).model_copy(update={"injection": told_of_recovery})
    page = Drawing(tmp_path, read_night(tmp_path, kit.NIGHT, summary), kit.limits).content(None)
    assert page.recovery == recovered(told_of_recovery, kit.limits.rows)
    assert ("depth", "Depth") in page.sections
    html = render_page(page)
    assert html.count('id="depth"') == 1
    assert "synthetic streaks put into copies" in html
    other = summary.model_copy(
        update={"injection": tuple(one.model_copy(update={"night": "20261104"}) for one in told_of_recovery)}
    )
    assert Drawing(tmp_path, read_night(tmp_path, kit.NIGHT, other), kit.limits).content(None).recovery is None


def test_a_page_made_afterwards_reads_the_catalogues(kit, tmp_path):
    kit.night(tmp_path, visits=2, injections=30)
    html = write_report(tmp_path, kit.NIGHT).read_text()
    assert "60 synthetic streaks put into copies of tiles of 2 exposures" in html


def test_each_figure_stands_beside_that_of_the_oracle(told):
    """Of 10 streaks from S/N 7 on 9 were found, of the 6 from 10 on all: Clopper & Pearson, 0.025^(1/6) = 0.541."""
    notes = {figure.name: (figure.value, figure.note) for figure in told.figures}
    assert notes["Completeness, S/N ≥ 7"] == ("0.90", "0.55 to 1.00; oracle 1.00")
    assert notes["Completeness, S/N ≥ 10"] == ("1.00", "0.54 to 1.00; oracle 1.00")


def test_charts_have_the_edges_of_their_bins_and_the_numbers_in_words(told):
    charts = {name: ElementTree.fromstring(svg) for name, svg in told.charts}
    edges = [text.text for text in charts["Completeness against S/N"].iter("text")]
    assert edges[:6] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert edges[6:13] == ["3", "5", "7", "10", "15", "25", "50"]
    assert edges[13:] == ["true signal to noise", "share found"]
    tenths = [text.text for text in charts["False streaks against reliability"].iter("text")]
    assert tenths[-13:-2] == ["0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1"]
    assert "0.3 to 0.4: 1.00" in charts["False streaks against reliability"].get("aria-label")
    assert [text.text for text in charts["False streaks against S/N"].iter("text")][-3:] == [
        "∞", "measured signal to noise", "false per image",
    ]  # fmt: skip


def test_a_share_of_none_has_no_interval_and_the_oracle_none_at_all(told):
    assert [line[4] for line in told.lines][:2] == ["0.00 to 0.84", "0.01 to 0.81"]
    none = section(evaluate([Image(searched([], []), truth().take(SNR > 7))]))
    assert none.lines[0] == ("3 to 5", "0", "0", "–", "–", "–")
    notes = [figure.note for figure in none.figures if "Completeness" in figure.name]
    assert notes == ["0.00 to 0.52; oracle –", "0.00 to 0.71; oracle –"]
    root = ElementTree.fromstring(dict(none.charts)["Completeness against S/N"])
    assert {circle.get("class") for circle in root.iter("circle")} == {"point ours"}


def limit(n=40, value=7.25, interval=(6.5, 8.0)):
    return Limit(n=n, value=value, interval=interval)


def of_band(band=None, detector=None, magnitude=(), **given):
    share = RecoveredShare(lo=5, hi=7, n=4, recovered=1, interval=(0.01, 0.81))
    last = RecoveredShare(lo=7, hi=None, n=0, recovered=0, interval=(0, 1))
    values = {"night": "20261103", "exposures": 1200, "hidden": 0, "n": 2000, "recovered": 1500, "snr": limit()}
    values |= {"by_snr": (share, last), "by_length": (share, last), "band": band, "detector": detector}
    return Recovery(**(values | given), magnitude=magnitude)


CLASSES = (
    MagnitudeLimit(lo=0, hi=None, limit=limit(40, 21.234, (21.0, 21.5))),
    MagnitudeLimit(lo=0, hi=3, limit=limit(20, 21.5, (21.25, 21.75))),
    MagnitudeLimit(lo=15, hi=None, limit=Limit(n=1, reason="fewer than 20 streaks")),
)


def test_limits_shares_and_detectors_are_told_to_their_digits():
    parts = [of_band("r", magnitude=CLASSES), of_band("r", 7, magnitude=CLASSES), of_band("r", 8)]
    found = recovered([of_band(hidden=3), *parts], 9)
    assert found.lead == (
        "2,000 synthetic streaks put into copies of tiles of 1,200 exposures, and the copies searched like the tiles "
        "themselves: 1,500 came back. 3 more are mostly on unusable pixels and do not count."
    )
    assert [(figure.name, figure.value, figure.note) for figure in found.figures] == [
        ("S/N of half recovered", "7.2", "6.5 to 8.0; 40 streaks"),
        ("Limiting magnitude, r", "21.23", "21.00 to 21.50; 40 streaks, all lengths"),
    ]
    assert found.limits == (
        ("r", "all", "21.23", "21.00 to 21.50; 40 streaks"),
        ("r", "0 to 3 px", "21.50", "21.25 to 21.75; 20 streaks"),
        ("r", "15 px and more", "–", "fewer than 20 streaks; 1 streak"),
    )
    assert found.shares[:2] == (("S/N 5 to 7", "4", "1", "0.25", "0.01 to 0.81"), ("S/N 7 to ∞", "0", "0", "–", "–"))
    assert found.shares[2][0] == "length 5 to 7 px"
    counts = ("1,200", "2,000", "1,500", "7.2", "6.5 to 8.0; 40 streaks")
    assert found.detectors == (
        ("7", "r", *counts, "21.23", "21.00 to 21.50; 40 streaks"), ("8", "r", *counts, "–", "–"),
    )  # fmt: skip
    root = ElementTree.fromstring(found.charts[0][1])
    assert "5 to 7: 0.25 of 4; 7 to ∞: – of 0" in root.get("aria-label")
    assert [text.text for text in root.iter("text")][6:9] == ["5", "7", "∞"]
    assert len(list(root.iter("circle"))) == 1
    assert recovered([of_band()], 9).lead.endswith("1,500 came back.")


def test_a_share_of_one_is_at_the_top_of_its_chart(told_of_recovery):
    for name, svg in recovered(told_of_recovery, 100).charts:
        shares = told_of_recovery[0].by_snr if "signal" in name else told_of_recovery[0].by_length
        heights = [float(one.get("cy")) for one in ElementTree.fromstring(svg).iter("circle")]
        values = [one.value for one in shares if one.n]
        assert max(values) > 0.4
        np.testing.assert_allclose(heights, [232 - 218 * value for value in values], atol=0.06)

from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.results.evaluation.evaluate import Detections, Image, evaluate
from flows.results.evaluation.truth_table import Truth, read_truth
from flows.results.page.completeness import completeness_of, section
from flows.results.page.night import read_night
from schemas.truth import TRUTH

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

import numpy as np
import pyarrow as pa

from benchmarks.speed.screen import PRESETS, Outcome, Row, missing, report
from flows.results.evaluation.evaluate import Truth

NAMES = ("float32", "with the screen")


def truth(count):
    columns = {name: np.full(count, 20.0) for name in ("snr", "length", "angle", "fwhm", "beta")}
    place = np.arange(count) * 100.0
    return Truth(np.full(count, "streak"), *np.zeros((2, count), int), place, place, visible=np.ones(count), **columns)


def outcome(found, hits, cpu):
    place = np.arange(found) * 100.0
    names = ("x", "y", "reliability", "snr", "trailLengthPx", "trailAnglePx")
    sources = pa.table(dict.fromkeys(names, place) | {"trailClass": [""] * found})
    return Outcome(pa.table({"row": np.arange(hits)}), sources, cpu, cpu)


def test_rows_are_compared_to_the_last_bit_and_nan_is_itself():
    one, two = pa.table({"x": [1.0, 2.0, np.nan]}), pa.table({"x": [np.nextafter(1.0, 2), 2.0, np.nan]})
    assert missing(one, one) == 0
    assert missing(one, two) == missing(two, one) == 1


def test_the_table_tells_what_the_screen_loses_and_saves():
    exact, screened = outcome(4, 10, 1.0), outcome(3, 8, 0.25)
    row = Row(PRESETS[0], truth(5), dict(zip(NAMES, (exact, screened), strict=True)), 1000, 30)
    text = report([row, row], 2)
    lines = {cells[1].strip(): cells for cells in (line.split("|") for line in text.splitlines()) if len(cells) > 5}
    assert [cell.strip() for cell in lines["float32"][4:6]] == ["0", "0"]
    assert [cell.strip() for cell in lines["with the screen"][4:6]] == ["4", "2"]
    assert lines["float32"][6].strip().startswith("8 of 10: 0.8000")
    assert lines["with the screen"][6].strip().startswith("6 of 10: 0.6000")
    assert "left to the network: 3.00%" in text
    assert "4.0 times less" in text

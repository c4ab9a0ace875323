from io import StringIO

import pytest
from rich.console import Console

from flows.forced.forced_run import measure_night, searched, summarise
from flows.forced.forced_table import MOST, FirstRows, show, tell
from schemas.forced_source import FORCED_SOURCE
from schemas.forced_summary import ForcedSummary, Note
from tests.flows.forced.forced_support import plain_info, plain_planes, store, targets

TRAIL = (100.0, 60.0, 12.0, 0.0, 6000.0)


@pytest.fixture
def measured(tmp_path):
    planes = plain_planes(TRAIL)
    planes["mask"][200:, :] = 1
    store(tmp_path, plain_info(), planes)
    known, tables = targets(**{"[a]": (100, 60, 1200.0), "b": (150, 100), "c": (60, 250)}), []
    return summarise(known, (), measure_night(tmp_path, known, searched(tmp_path, None), 3.0), tables.append), tables


def printed(function, *arguments):
    console = Console(file=StringIO(), width=100)
    function(*arguments, console)
    return console.file.getvalue()


def test_detections_have_a_magnitude_and_the_rest_a_limit(measured):
    summary, (rows,) = measured
    lines = {line.split()[0]: line.split() for line in printed(show, summary, rows).splitlines() if line.split()}
    (first, _, third), row = rows.to_pylist(), lines["[a]"]
    assert row[1:4] == ["7-0", "r", f"{first['magAB']:.2f}"]
    assert row[-1] == f"{first['snr']:.1f}"
    assert lines["b"][3] == ">"
    assert lines["c"][3:] == ["MASKED", "NOT_MEASURED"]
    assert third["snr"] is None
    assert (
        "3 targets, 1 exposures: 1 detections, 1 upper limits, 1 not measured; 0 targets on none of them."
        in printed(show, summary, rows)
    )


def test_first_rows_are_kept_and_the_rest_counted(measured):
    _, (rows,) = measured
    first = FirstRows()
    for _ in range(MOST):
        first(rows)
    assert len(first.table) == MOST
    assert first.table.slice(0, 3).equals(rows)
    text = printed(show, ForcedSummary(targets=3, exposures=MOST, rows=3 * MOST), first.table)
    assert f"{2 * MOST} rows more" in text


def test_without_rows_there_is_no_table():
    text = printed(show, ForcedSummary(targets=1, exposures=1, not_covered=("a",)), FORCED_SOURCE.empty())
    assert text == "1 targets, 1 exposures: 0 detections, 0 upper limits, 0 not measured; 1 targets on none of them.\n"


def test_what_was_left_out_is_told_with_its_remedy():
    notes = tuple(
        Note(code="bad", where=f"list: row {k}", problem="is [b].", remedy="correct it.") for k in range(MOST + 2)
    )
    text = printed(tell, ForcedSummary(targets=1, exposures=1, left_out=notes, quarantined=notes[:1]))
    lines = text.splitlines()
    assert lines[0] == "left out: list: row 0: is [b]. To fix, correct it."
    assert lines[MOST] == "left out: 2 more, see --json."
    assert lines[-1].startswith("quarantined: list: row 0")

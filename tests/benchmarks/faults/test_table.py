from dataclasses import replace

from benchmarks.faults.fault import Outcome
from benchmarks.faults.table import HEADINGS, cells, damage, markdown

WHOLE = Outcome("fault", "how", exit_codes=(-9, 0), recovery_s=1.25, elapsed_s=7.0, evidence="it is gone")


def test_each_figure_stands_under_its_heading():
    bad = replace(WHOLE, rows_lost=3, associated_differing=4, problems=2, leftovers=("x",))
    found = dict(zip(HEADINGS, cells(bad), strict=True))
    assert found["association"] == "4"
    assert found["rows lost"] == "3"
    assert found["verify"] == "2"
    assert found["left over"] == "1"
    assert found["exit codes"] == "-9, 0"
    assert found["recovery, s"] == "1.2"


def test_a_fault_that_did_not_happen_has_no_figures():
    missed = replace(WHOLE, failure="no workers")
    assert cells(missed)[1:9] == ["?"] * 8
    assert damage(missed) == "?"


def test_the_page_names_the_evidence_and_what_is_not_0():
    bad = replace(WHOLE, rows_lost=3, problems=2)
    said = markdown([WHOLE, bad])
    assert "| fault | how | it is gone | none | -9, 0 | 1.2 | 7.0 |" in said
    assert "| rows lost: 3, verify: 2 |" in said

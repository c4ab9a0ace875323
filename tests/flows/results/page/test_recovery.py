from xml.etree import ElementTree

import pyarrow as pa
import pytest

from flows.results.evaluation.recovery import recoveries
from flows.results.page.night import read_night
from flows.results.page.page import content, render_page, write_report
from flows.results.page.recovery import recovered
from tests.flows.results.evaluation.test_recovery import injection


@pytest.fixture(scope="module")
def told():
    table = pa.concat_tables([injection(300), injection(12, visit=102, detector=5, band="g")])
    return recoveries("20261103", table)


def test_every_limit_stands_with_its_interval_and_number_or_a_reason(told):
    section = recovered(told, 100)
    night = told[0]
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


def test_charts_show_shares_with_intervals(told):
    for name, svg in recovered(told, 100).charts:
        root = ElementTree.fromstring(svg)
        space = "{http://www.w3.org/2000/svg}" if root.tag.startswith("{") else ""
        intervals = [one for one in root.iter(f"{space}line") if one.get("class") == "interval ours"]
        points = list(root.iter(f"{space}circle"))
        shares = told[0].by_snr if "signal" in name else told[0].by_length
        assert len(intervals) == len(points) == sum(one.n > 0 for one in shares)


def test_says_how_many_came_back_and_lists_no_more_detectors_than_asked(told):
    section = recovered(told, 1)
    assert section.lead.startswith("312 synthetic streaks put into copies of tiles of 2 exposures, and the copies ")
    assert f"{told[0].recovered} came back." in section.lead
    assert len(section.detectors) == 1
    assert len(section.shares) == len(told[0].by_snr) + len(told[0].by_length)
    assert recovered((), 5) is None


def test_the_page_shows_what_the_summary_tells(kit, tmp_path, told):
    kit.night(tmp_path, visits=1)
    summary = kit.summary(1, 0).model_copy(update={"injection": told})
    page = content(tmp_path, read_night(tmp_path, kit.NIGHT, summary), kit.limits, None)
    assert page.recovery == recovered(told, kit.limits.rows)
    assert ("depth", "Depth") in page.sections
    html = render_page(page)
    assert html.count('id="depth"') == 1
    assert "synthetic streaks put into copies" in html
    other = summary.model_copy(
        update={"injection": tuple(one.model_copy(update={"night": "20261104"}) for one in told)}
    )
    assert content(tmp_path, read_night(tmp_path, kit.NIGHT, other), kit.limits, None).recovery is None


def test_a_page_made_afterwards_reads_the_catalogues(kit, tmp_path):
    kit.night(tmp_path, visits=2, injections=30)
    html = write_report(tmp_path, kit.NIGHT).read_text()
    assert "60 synthetic streaks put into copies of tiles of 2 exposures" in html

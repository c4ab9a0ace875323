"""Pages as they are filled in, against the catalogues; what the server does with them: test_app.py."""

import html
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.results.page.words import grade
from flows.storage.catalog_store import CatalogStore
from flows.vetting.candidate import read_candidate
from flows.vetting.labels import Agreement
from flows.vetting.pages import Pages, _paging
from flows.vetting.selection import PAGE, JudgedRows, Selection
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.settings import AssociationSettings
from schemas.vetting import Verdict, VerdictRecord
from tests.support.vetting import BAND, KNOWN, NIGHT, VISITS, source_id

PAGES = Pages("secret<&>")
EVERYWHERE = (-1.0, -1.0)


@pytest.fixture(scope="module")
def rows(vet_night):
    """Every published row by its id."""
    keys = [ExposureKey(night=NIGHT, visit=visit, detector=3) for visit in VISITS]
    tables = (CatalogStore(vet_night).read(DIA_SOURCE, key).to_pylist() for key in keys)
    return {row["diaSourceId"]: row for table in tables for row in table}


def cells(page):
    """Cells of the rows of a list, as text."""
    body = re.search(r"<tbody>(.*)</tbody>", page, re.DOTALL)[1]
    lines = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.DOTALL) for line in lines]
    return [[html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in line] for line in found]


@given(st.integers(0, 40 * PAGE), st.integers(1, 60))
def test_pages_hold_every_row_once_and_the_last_stands_for_those_behind_it(total, page):
    found = _paging(total, page)
    chunks = [list(range(total))[first : first + PAGE] for first in range(0, total, PAGE)] or [[]]
    assert (found.total, found.pages) == (total, len(chunks))
    assert found.page == min(page, len(chunks))
    assert list(range(total))[found.first : found.last] == chunks[found.page - 1]


def test_a_line_of_the_list_says_what_the_row_does(vet_index, rows):
    order = np.arange(len(vet_index))[::-1]
    mine = frozenset({int(vet_index.row_of(source_id(102, 3)))})
    known = JudgedRows(mine=mine, anyone=mine, by_verdict={}, disputed=frozenset())
    page = PAGES.candidates(vet_index, Selection(), order, known, "Henrietta")
    lines = cells(page)
    assert len(lines) == len(rows) == 36
    for line, place in zip(lines, order.tolist(), strict=True):
        row = rows[int(line[0])]
        assert row["diaSourceId"] == int(vet_index.columns["diaSourceId"][place])
        visit, rank = row["visit"], row["diaSourceId"] & 4095
        assert float(line[2]) == pytest.approx(row["reliability"], abs=0.0051)
        assert f"grade-{grade(row['reliability'])}" in page
        assert float(line[3]) == pytest.approx(row["snr"], rel=0.06)
        assert line[6] == (str(source_id(101, 0)) if rank == 0 else "at rest" if rank == 1 else "–")
        assert line[7] == (KNOWN if (visit, rank) == (102, 3) else "–")
        assert (line[8], line[10]) == (NIGHT, BAND if visit == 101 else "r")
        seconds = round(row["midpointMjdTai"] % 1 * 86400 - 37)  # TAI is 37 s ahead of UTC
        told = sum(int(part) * unit for part, unit in zip(line[9].split(":"), (3600, 60, 1), strict=False))
        assert abs(told - seconds) < 61
        assert line[11] == ("by you" if (visit, rank) == (102, 3) else "")
    assert "36 of 36 detections; 1 judged by Henrietta" in page


def test_a_list_is_shown_page_by_page(vet_index):
    order, nobody = np.tile(np.arange(len(vet_index)), 3), JudgedRows(frozenset(), frozenset(), {}, frozenset())
    shown = []
    for number in (1, 2, 3, 99):
        page = PAGES.candidates(vet_index, Selection(page=number, sort="snr"), order, nobody, "")
        shown.append([int(line[0]) for line in cells(page)])
        pager = html.unescape(page)
        assert ('rel="prev"' in page, 'rel="next"' in page) == (number > 1, number < 3)
        assert ("/?sort=snr&page=2" in pager) == (number in (1, 3, 99))
    ids = vet_index.columns["diaSourceId"][order].tolist()
    assert shown == [ids[:PAGE], ids[PAGE : 2 * PAGE], ids[2 * PAGE :], ids[2 * PAGE :]]


def record(name, verdict, number, **change):
    return VerdictRecord(
        id=f"{number:032x}", at="2026-11-04T03:12:00+00:00", user=name, night=NIGHT, diaSourceId=source_id(101, 0),
        x=1.0, y=2.0, verdict=verdict, **change,
    )  # fmt: skip


@pytest.mark.parametrize("part", [True, False])
@pytest.mark.parametrize(
    ("said", "mine"),
    [
        ([], None),
        ([("Other", "real", False)], None),
        ([("Me", "bogus", True)], None),
        ([("Me", "real", False), ("Other", "bogus", False), ("Me", "unsure", True)], 0),
        ([("Me", "real", False), ("Me", "bogus", False), ("Other", "unsure", False)], 1),
    ],
)
def test_ones_own_verdict_is_the_last_that_was_not_blind(vet_night, vet_index, said, mine, part):
    found = read_candidate(vet_night, vet_index, vet_index.row_of(source_id(101, 0)), AssociationSettings())
    records = [record(name, Verdict(verdict), n, blind=blind) for n, (name, verdict, blind) in enumerate(said)]
    page = PAGES.candidate(found, Selection(), "Me", "ticket7", records, part=part)
    assert re.findall(r'data-record="(\w+)"', page) == ([] if mine is None else [records[mine].id])
    pressed = re.findall(r'data-verdict="(\w+)"[^>]*aria-pressed="true"', page)
    assert pressed == ([] if mine is None else [records[mine].verdict])
    assert page.count("(again)") == sum(blind for _, _, blind in said)
    assert ("<html" in page, 'data-ticket="ticket7"' in page) == (not part, True)


def test_a_detector_is_shown_with_its_candidates(vet_night, vet_index, rows):
    key = ExposureKey(night=NIGHT, visit=102, detector=3)
    page = PAGES.exposure(vet_night, vet_index, key, (12.5, 40.0), "Me")
    marks = re.findall(
        r'href="/candidate/(\d+)" data-x="([\d.]+)" data-y="([\d.]+)" data-length="([\d.]+)" data-grade="(\w)"', page
    )
    assert {int(mark[0]) for mark in marks} == {one for one, row in rows.items() if row["visit"] == 102}
    for identity, x, y, length, letter in marks:
        row = rows[int(identity)]
        assert (float(x), float(y)) == pytest.approx((row["x"], row["y"]), abs=0.0051)
        assert float(length) == pytest.approx(row["trailLengthPx"], abs=0.051)
        assert letter == grade(row["reliability"])
    assert 'data-nx="380" data-ny="420" data-x="12.5" data-y="40.0"' in page
    assert re.findall(r"<option>(\w+)</option>", page) == ["difference", "science", "template"]


@pytest.mark.parametrize("middle", [EVERYWHERE, (float("nan"), 3.0), (3.0, float("inf")), (-0.5, 3.0), (3.0, -1e-9)])
def test_a_middle_that_is_none_shows_the_whole_detector(vet_night, vet_index, middle):
    key = ExposureKey(night=NIGHT, visit=102, detector=3)
    assert 'data-x="-1.0" data-y="-1.0"' in PAGES.exposure(vet_night, vet_index, key, middle, "")
    assert 'data-x="0.0" data-y="0.0"' in PAGES.exposure(vet_night, vet_index, key, (0.0, 0.0), "")


def test_a_detector_without_tiles_is_refused(vet_night, vet_index):
    with pytest.raises(BadInput, match=r"999-3: has no tiles any more.*run the night again") as caught:
        PAGES.exposure(vet_night, vet_index, ExposureKey(night=NIGHT, visit=999, detector=3), EVERYWHERE, "")
    assert caught.value.code == "no_exposure"


def test_tracklets_lead_to_their_first_detection(vet_index):
    page = PAGES.tracklets(vet_index, 1, "Me")
    ((identity, night, known, count, *_, magnitude, rms, reliability),) = cells(page)
    assert (int(identity), night, known, count) == (source_id(101, 0), NIGHT, "–", "3")
    assert (magnitude, rms, reliability) == ("19.50", "0.10", "0.20")
    assert f'href="/candidate/{source_id(101, 0)}?tracklet={identity}' in page
    lost = vet_index.tracklets.set_column(0, "trackletId", pa.array([5], pa.int64()))
    lone = PAGES.tracklets(replace(vet_index, tracklets=lost), 1, "Me")
    assert cells(lone)[0][:4] == ["5", NIGHT, "–", "3"]
    assert "/candidate/" not in lone  # none of its detections is there


def test_agreement_is_a_table_of_each_pair():
    table = np.diag([5, 7, 0, 3, 1]) + np.eye(len(Verdict), k=2, dtype=int)
    pair = Agreement("A<b>", "B", table, 0.5, 0.125)
    page = PAGES.agreement([pair], [], 2, "Me")
    numbers = [[int(cell) for cell in line[1:]] for line in cells(page)]
    assert numbers == table.tolist()
    assert f"the same on {np.trace(table)} of {table.sum()}" in page
    assert "2 lines of the record cannot be read" in page
    assert page.count("Nothing to compare yet.") == 1
    assert "A&lt;b&gt; and B" in page


def test_what_went_wrong_and_the_secret_are_text():
    page = PAGES.error("<script>alert(1)</script>", 404)
    assert "<h1>404</h1>" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert 'content="secret&lt;&amp;&gt;"' in page
    assert "&lt;b&gt;" in PAGES.explanation(7, "<b>", "")

"""Index, selection and what comes next, against plain loops over rows."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.results.page.cards import LIMITS
from flows.results.page.found import AT_REST, POINT
from flows.results.page.night import read_night
from flows.results.page.page import Drawing
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import dataset_folder
from flows.vetting.index import CLASSES, CandidateIndex, read_index
from flows.vetting.selection import JudgedRows, Selection, parse_selection, select, sorted_verdicts
from flows.vetting.server import LOOK_S, Workplace
from flows.vetting.turn import REST, next_row
from schemas.class_table import STAR_GALAXY
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.objects import DIA_LINK, OBJECT
from schemas.tracklets import TRACKLET
from schemas.vetting import Verdict, VerdictRecord
from tests.support.vetting import KNOWN, NIGHT, VISITS, filled, source_id

NOBODY = JudgedRows(frozenset(), frozenset(), {}, frozenset())


def made_index(n, seed=0):
    """Candidates of any numbers; some have no magnitude."""
    rng = np.random.default_rng(seed)
    columns = {
        "diaSourceId": np.arange(n) * 7 + 1, "visit": rng.integers(1, 9, n), "detector": rng.integers(0, 3, n),
        "x": rng.uniform(0, 3000, n), "y": rng.uniform(0, 3000, n), "ra": rng.uniform(0, 360, n),
        "dec": rng.uniform(-90, 90, n), "midpointMjdTai": rng.uniform(61000, 61003, n), "snr": rng.uniform(3, 90, n),
        "magAB": np.where(rng.random(n) < 0.2, np.nan, rng.uniform(15, 22, n)), "trailLengthPx": rng.uniform(0, 40, n),
        "reliability": rng.random(n), "flags": np.zeros(n, int), "night": rng.choice([20260101, 20260102], n),
        "tracklet": np.where(rng.random(n) < 0.3, rng.integers(0, 9, n), -1), "stationary": rng.random(n) < 0.2,
        "band": rng.integers(0, 3, n), "known": np.where(rng.random(n) < 0.2, 1, 0),
        "klass": rng.integers(0, len(CLASSES), n), "kind": rng.integers(0, 6, n), "place": rng.integers(0, 50, n),
    }  # fmt: skip
    nothing = TRACKLET.empty().append_column("night", pa.array([], pa.string()))
    return CandidateIndex(columns, ("g", "r", "i"), ("", "Ceres"), nothing, {"20260101": (), "20260102": ()}, ())


def record(index, row, verdict="real", user="a", blind=False):
    x, y = (float(index.columns[name][row]) for name in ("x", "y"))
    night = str(int(index.columns["night"][row]))
    return VerdictRecord(
        id=f"{row:032x}", at="2026-01-01T00:00:00+00:00", user=user, night=night,
        diaSourceId=int(index.columns["diaSourceId"][row]), x=x, y=y, verdict=Verdict(verdict), blind=blind,
    )  # fmt: skip


def test_the_index_has_every_row_of_the_catalogues(vet_night):
    index = read_index(vet_night, [NIGHT])
    assert len(index) == 36
    assert index.columns["diaSourceId"].tolist() == sorted(source_id(v, n) for v in VISITS for n in range(12))
    assert index.members(source_id(101, 0)).tolist() == [index.row_of(source_id(v, 0)) for v in VISITS]
    assert index.designations == ("", KNOWN)
    assert index.columns["known"].sum() == 1
    assert index.columns["stationary"].sum() == 3
    lengths = index.columns["trailLengthPx"]
    assert {CLASSES[n] for n in index.columns["klass"][lengths == 0]} == {"point"}
    assert {CLASSES[n] for n in index.columns["klass"][lengths > 5]} == {"trail"}
    assert index.row_of(12345) is None
    assert index.row_of(2**70) is None


@pytest.mark.parametrize(("share", "kind"), [(1.0, POINT), (0.5, AT_REST)])
def test_a_point_on_a_star_is_folded_away_unless_the_star_is_the_point_itself(
    vet_night, tmp_path, monkeypatch, share, kind
):
    """On the night page and in the index alike, which a server reads again."""
    out, store = shutil.copytree(vet_night, tmp_path / "out"), CatalogStore(tmp_path / "out")
    rows = store.read(DIA_SOURCE, ExposureKey(night=NIGHT, visit=103, detector=3)).to_pylist()
    place = Workplace(out)
    monkeypatch.setattr("flows.vetting.server.LOOK_S", -1.0)
    before = place.index()
    alone = before.columns["diaSourceId"][before.columns["kind"] == POINT].tolist()
    one = next(row for row in rows if row["diaSourceId"] in alone)
    star = {"objectId": 5, "ra": one["ra"], "dec": one["dec"], "r_nExposures": 1, "r_psfFlux": one["psfFlux"] / share}
    store.publish(OBJECT, NIGHT, filled(OBJECT, [star]), "0" * 64)
    store.publish(STAR_GALAXY, NIGHT, filled(STAR_GALAXY, [{"objectId": 5, "classLabel": "star"}]), "0" * 64)
    link = {"diaSourceId": one["diaSourceId"], "objectId": 5, "separation": 0.1}
    store.publish(DIA_LINK, NIGHT, filled(DIA_LINK, [link]), "0" * 64)
    index, page = place.index(), Drawing(out, read_night(out, NIGHT, None), LIMITS).found
    assert index.columns["kind"][index.row_of(one["diaSourceId"])] == kind
    row = page.table["diaSourceId"].to_pylist().index(one["diaSourceId"])
    assert (page.kinds[row], index.damaged) == (kind, ())


def test_a_catalogue_that_cannot_be_read_is_named(vet_night, tmp_path):
    shutil.copytree(vet_night, tmp_path / "out")
    (dataset_folder(tmp_path / "out", "dia_source", NIGHT) / "102-3.parquet").write_bytes(b"junk")
    index = read_index(tmp_path / "out", [NIGHT])
    assert len(index) == 24
    assert "102-3.parquet" in index.damaged[0]


def test_of_no_nights(vet_night):
    assert len(read_index(vet_night, [])) == 0


ranges = st.one_of(st.none(), st.floats(0, 1))
selections = st.builds(
    Selection, night=st.sampled_from(["", "20260101", "20250101"]), band=st.sampled_from(["", "g", "i", "z"]),
    klass=st.sampled_from(["", *CLASSES]), reliability_min=ranges, reliability_max=ranges,
    snr_min=st.one_of(st.none(), st.floats(0, 90)), linked=st.sampled_from(["", "yes", "no"]),
    known=st.sampled_from(["", "yes", "no"]), tracklet=st.one_of(st.none(), st.integers(0, 9)),
    sort=st.sampled_from(["interest", "reliability", "snr", "length", "magnitude", "time"]), ascending=st.booleans(),
)  # fmt: skip


@settings(max_examples=60)
@given(wanted=selections)
def test_a_selection_is_what_a_loop_finds(wanted):
    index = made_index(300)
    rows = select(index, wanted, NOBODY)
    columns = index.columns
    expected = set()
    for row in range(len(index)):
        fits = [
            not wanted.night or str(columns["night"][row]) == wanted.night,
            not wanted.band or index.bands[columns["band"][row]] == wanted.band,
            not wanted.klass or CLASSES[columns["klass"][row]] == wanted.klass,
            wanted.reliability_min is None or columns["reliability"][row] >= wanted.reliability_min,
            wanted.reliability_max is None or columns["reliability"][row] <= wanted.reliability_max,
            wanted.snr_min is None or columns["snr"][row] >= wanted.snr_min,
            not wanted.linked or (columns["tracklet"][row] >= 0) == (wanted.linked == "yes"),
            not wanted.known or (columns["known"][row] > 0) == (wanted.known == "yes"),
            wanted.tracklet is None or columns["tracklet"][row] == wanted.tracklet,
        ]
        if all(fits):
            expected.add(row)
    assert set(rows.tolist()) == expected
    assert len(rows) == len(expected)
    names = {"snr": "snr", "length": "trailLengthPx", "time": "midpointMjdTai", "reliability": "reliability"}
    if wanted.sort in names:
        values = columns[names[wanted.sort]][rows]
        assert np.all(np.diff(values) >= 0) if wanted.ascending else np.all(np.diff(values) <= 0)


@settings(max_examples=60)
@given(wanted=selections)
def test_the_address_of_a_selection_gives_it_again(wanted):
    from urllib.parse import parse_qsl

    assert parse_selection(dict(parse_qsl(wanted.query))) == wanted


@pytest.mark.parametrize("ascending", [False, True])
def test_what_has_no_magnitude_comes_last(ascending):
    index = made_index(20)
    index.columns["magAB"][:] = [np.nan if 5 <= n < 9 else n for n in range(20)]
    rows = select(index, Selection(sort="magnitude", ascending=ascending), NOBODY)
    assert rows[-4:].tolist() == [5, 6, 7, 8]


def test_a_tracklet_of_a_visit_of_rubin_has_an_address():
    first = 2025_11_05_00123 << 21  # 19 digits
    assert parse_selection({"tracklet": str(first)}).tracklet == first


def test_the_most_interesting_come_first_as_on_the_page_of_the_night(vet_night, vet_index):
    rows = select(vet_index, Selection(), NOBODY)
    assert (rows[:3] == vet_index.members(source_id(101, 0))).all()
    assert vet_index.columns["stationary"][rows[-3:]].all()
    night = read_night(vet_night, NIGHT, None)
    found = Drawing(vet_night, night, LIMITS).found
    assert vet_index.columns["diaSourceId"][rows].tolist() == found.table["diaSourceId"].to_pylist()
    assert select(vet_index, Selection(ascending=True), NOBODY).tolist() == rows[::-1].tolist()


def test_a_verdict_stays_at_its_place_whatever_ids_a_later_search_gives(vet_index):
    one = record(vet_index, 5)
    assert vet_index.rows_of([one]).tolist() == [5]
    for other in (one.diaSourceId - 1, one.diaSourceId + 1, one.diaSourceId | 0xFFF):
        moved = one.model_copy(update={"diaSourceId": other, "x": one.x + 1.4, "y": one.y - 1.4})
        assert vet_index.rows_of([moved, one]).tolist() == [5, 5]
    for moved in ({"x": one.x + 3}, {"night": "20261104"}, {"diaSourceId": 3}):
        assert vet_index.rows_of([one.model_copy(update=moved)]).tolist() == [-1]


def test_the_last_verdict_of_each_counts_and_rechecks_do_not():
    index = made_index(50)
    found = sorted_verdicts(index, [
        record(index, 3, "real"), record(index, 3, "bogus"), record(index, 4, "real", "b"), record(index, 4, "bogus"),
        record(index, 3, "real", blind=True),
    ], "a")  # fmt: skip
    assert (found.mine, found.anyone, found.disputed) == ({3, 4}, {3, 4}, {4})
    assert found.by_verdict["bogus"] == {3, 4}
    assert found.by_verdict["real"] == {4}


def test_what_others_say_of_what_one_has_not_judged_selects_nothing():
    index = made_index(50)
    records = [record(index, 3, "bogus", "b"), record(index, 4, "bogus", "b"), record(index, 4, "real")]
    records.append(record(index, 3, "real", "c"))
    assert sorted_verdicts(index, records, "a").by_verdict["bogus"] == {4}
    assert sorted_verdicts(index, records, "a").disputed == {4}
    assert sorted_verdicts(index, records, "").by_verdict["bogus"] == set()


def test_next_skips_what_is_judged_and_turns_round():
    index = made_index(6)
    order = np.array([5, 3, 1, 0])
    assert next_row(index, order, 3, [], "a", 0)[0] == 1
    assert next_row(index, order, 3, [record(index, 1)], "a", 0)[0] == 0
    assert next_row(index, order, 0, [record(index, 5)], "a", 0)[0] == 3
    assert next_row(index, order, 2, [], "a", 0)[0] == 5
    assert next_row(index, order, 3, [record(index, row) for row in (5, 1, 0)], "a", 0) == (None, False)
    assert next_row(index, order, 3, [record(index, 1, user="b")], "a", 0)[0] == 1


def test_rechecks_are_a_share_and_none_comes_twice():
    index = made_index(2000)
    order, records, blind = np.arange(2000), [], []
    after = None
    for _ in range(600):
        after, again = next_row(index, order, after, records, "a", 0.1)
        if again:
            earlier = [n for n, one in enumerate(records) if one.diaSourceId == index.columns["diaSourceId"][after]]
            assert earlier
            assert len(records) - earlier[-1] > REST - 1
            blind.append(after)
        records.append(record(index, after, blind=again))
    assert len(blind) == len(set(blind))
    assert 35 <= len(blind) <= 90
    assert next_row(index, order, after, records, "a", 0.1) == next_row(index, order, after, records, "a", 0.1)


def test_new_exposures_are_seen(out, monkeypatch):
    place = Workplace(out)
    before = place.index()
    monkeypatch.setattr("flows.vetting.server.LOOK_S", -1.0)
    assert place.index() is before
    monkeypatch.setattr(place, "_now", lambda: ("changed",))
    assert place.index() is not before
    assert LOOK_S > 0


@pytest.mark.parametrize("text", ["inf", "1e999", "0x10", "٣"])
def test_numbers_are_numbers(text):
    if text == "٣":
        assert parse_selection({"snr_min": text}) == replace(Selection(), snr_min=3.0)
        with pytest.raises(BadInput, match="whole number"):
            parse_selection({"page": text})
    else:
        with pytest.raises(BadInput, match="must be a number"):
            parse_selection({"snr_min": text})

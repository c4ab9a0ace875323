"""The store by itself, on both databases: ids, replacement, both orders, what kills and damages it."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sqlalchemy as sa
from astropy_healpix import HEALPix
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.storage import association_database, association_store
from flows.storage.association_store import association_as_it_is, digest_of, off_because, opened_association
from flows.storage.association_tables import FILE, OBJECT
from flows.storage.bucket_path import located
from flows.storage.fence import Fence, behind
from kernels.sky.patches import Patch, pixels_at
from kernels.sky.positions import along_great_circle, sky_position
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.ledger import DatasetRecord
from schemas.settings import AssociationSettings
from tests.support.association import ARCSEC, SETTINGS, key, links, put, source_id
from tests.support.exposure import exposure_record


def test_the_first_detection_gives_its_id_and_later_ones_join_it(store):
    assert put(store, 5, [10.0, 10.01], [0.0, 0.0]) == (0, 2, 0)
    assert put(store, 7, [10.01, 10.0], [0.2 * ARCSEC, 0.1 * ARCSEC]) == (2, 0, 0)
    assert links(store) == {
        source_id(5, 0): source_id(5, 0), source_id(5, 1): source_id(5, 1),
        source_id(7, 0): source_id(5, 1), source_id(7, 1): source_id(5, 0),
    }  # fmt: skip
    assert store.counts() == (2, 4)
    identity, rows = store.of_object(source_id(7, 0))
    assert identity == source_id(5, 1)
    assert rows["separation"].to_pylist() == pytest.approx([0.0, 0.2])
    assert store.of_object(99) is None


@pytest.mark.parametrize("name", ["night?mode=ro", "100 % of Größe #1", "[a]&b=c;d::e"])
def test_whatever_a_folder_is_called_its_store_lies_in_it(tmp_path, name):
    out = tmp_path / name
    with opened_association(out, SETTINGS) as store:
        put(store, 5, [10.0], [0.0])
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [name, f"{name}/{FILE}"]
    with association_as_it_is(out, SETTINGS) as read:
        assert read.counts() == (1, 1)


def test_across_0_h_and_at_the_pole_objects_are_one(store):
    put(store, 1, [359.99999, 20.0], [5.0, 89.9999999])
    assert put(store, 2, [0.00001, 200.0], [5.0, 89.9999999]).known == 2


def test_a_backfill_changes_no_id_and_joins_what_is_there(store):
    put(store, 50, [10.0], [0.0], night="20260105")
    put(store, 10, [10.0], [0.1 * ARCSEC], night="20260101")
    put(store, 60, [10.0], [0.0], night="20260106")
    assert set(links(store, "20260101", "20260105", "20260106").values()) == {source_id(50)}
    assert len(store.history("20260101")) == 1  # up to that night
    assert len(store.history("20260106")) == 3


def test_a_mean_position_that_moves_keeps_the_id(store):
    for visit in range(1, 40):
        put(store, visit, [10.0], [0.4 * ARCSEC * (visit / 10)])
    assert set(links(store).values()) >= {source_id(1)}
    assert links(store)[source_id(5)] == source_id(1)


def test_an_exposure_that_moves_to_another_night_is_there_once(store):
    put(store, 1, [10.0], [0.0], night="20260101")
    put(store, 1, [10.0], [0.0], night="20260102")
    assert (store.visits("20260101"), list(store.visits("20260102"))) == ({}, [key(1, "20260102")])
    assert store.counts() == (1, 1)
    assert store.same_ids(key(1, "20260103")) == [key(1, "20260102")]
    assert store.same_ids(key(1, "20260102")) == store.same_ids(key(1, "20260103", detector=4)) == []


def test_an_object_that_tells_of_detections_and_has_none_contradicts(store):
    put(store, 1, [10.0, 11.0], [0.0, 0.0])
    put(store, 1, [11.0], [0.0], digest="e")
    assert store.contradictions() == []
    with store.change() as connection:
        connection.execute(OBJECT.update().values(nDiaSources=1))
    assert store.contradictions() == ["1 objects do not have as many detections as they say"]


@contextmanager
def fresh(tmp_path_factory):
    with opened_association(tmp_path_factory.mktemp("out"), SETTINGS) as opened:
        yield opened


a_detection = st.tuples(st.integers(0, 7), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
visits_of_a_field = st.lists(st.lists(a_detection, max_size=6, unique_by=lambda one: one[0]), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(visits_of_a_field, st.randoms(use_true_random=False))
def test_the_same_visits_again_in_any_order_change_nothing(tmp_path_factory, field, random):
    with fresh(tmp_path_factory) as store:
        given = [
            (visit, [10 + (n * 5 + east) * ARCSEC for n, east, _ in seen], [north * ARCSEC for *_, north in seen])
            for visit, seen in enumerate(field)
        ]
        for one in given:
            put(store, *one)
        before, counts = links(store), store.counts()
        assert len(set(before.values())) == len({n for seen in field for n, *_ in seen})  # as many as there are
        random.shuffle(given)
        for one in given:
            put(store, *one, digest="e")
        assert (links(store), store.counts(), store.events()) == (before, counts, [])


@settings(max_examples=25, deadline=None)
@given(visits_of_a_field, st.randoms(use_true_random=False))
def test_in_any_order_the_same_detections_are_together(tmp_path_factory, field, random):
    groups = []
    for shuffled in (False, True):
        order = list(enumerate(field))
        if shuffled:
            random.shuffle(order)
        with fresh(tmp_path_factory) as store:
            for visit, seen in order:
                put(store, visit, [10 + (n * 5 + e) * ARCSEC for n, e, _ in seen], [d * ARCSEC for *_, d in seen])
            found = links(store)
        groups.append({frozenset(one for one in found if found[one] == identity) for identity in found.values()})
        assert set(found.values()) <= set(found)  # ids of detections
    assert groups[0] == groups[1]


def test_digests_of_nights_follow_links_and_visits(store):
    put(store, 1, [10.0], [0.0])
    store.settle("20260101", "s1")
    first = store.nights()["20260101"]
    store.settle("20260101", "s1")
    assert store.nights()["20260101"] == first
    put(store, 2, [10.0], [0.0])
    store.settle("20260101", "s2")
    stamp, digest = store.nights()["20260101"]
    assert stamp == "s2"
    assert digest != first[1]
    before = links(store)
    put(store, 2, [10.0], [0.0], digest="e")
    store.settle("20260101", "s2")
    assert links(store) == before
    last = store.nights()["20260101"][1]
    assert last not in (first[1], digest)
    put(store, 3, [10.0], [0.0], night="20260102")
    store.settle("20260101", "s2")
    assert store.nights()["20260101"][1] == last  # another night is none of its own


def test_detections_are_others_once_their_known_objects_are():
    def made(**digests):
        entries = {name: DatasetRecord(path=name, digest=one, rows=1, sha256="s") for name, one in digests.items()}
        return digest_of(exposure_record(datasets=entries))

    assert made(dia_source="a", source="x") == made(dia_source="a", source="y") == "a"
    assert len({made(dia_source="a"), *(made(dia_source=one, ss_source=two) for one in "ab" for two in "cd")}) == 5


def test_writers_side_by_side_wait_for_each_other(tmp_path, given_settings):
    with opened_association(tmp_path, given_settings, rebuild=True):
        pass
    errors = []

    def write(first):
        try:
            with opened_association(tmp_path, given_settings) as store:
                for visit in range(first, first + 20, 2):
                    put(store, visit, [10.0, 10.1], [0.0, 0.0])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(first,)) for first in (1, 2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []
    with opened_association(tmp_path, given_settings) as store:
        assert store.counts() == (2, 40)


KILLED = """
import os, signal, sys
from pathlib import Path
from flows.storage import association_links
from flows.storage.association_store import opened_association
from schemas.settings import AssociationSettings
from tests.support.association import put
put_visit = association_links.ExposureLinks._put_visit
association_links.ExposureLinks._put_visit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with opened_association(Path(sys.argv[1]), AssociationSettings(store=sys.argv[2])) as store:
    put(store, 2, [10.0, 11.0], [0.0, 0.0])
"""


def test_a_process_killed_within_an_exposure_leaves_nothing_of_it(tmp_path, given_settings):
    with opened_association(tmp_path, given_settings, rebuild=True) as store:
        put(store, 1, [10.0], [0.0])
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path, given_settings.store], check=False, env=os.environ)
    assert ended.returncode == -signal.SIGKILL
    with opened_association(tmp_path, given_settings) as store:
        assert (store.counts(), list(store.visits("20260101"))) == ((1, 1), [key(1)])
        assert put(store, 2, [10.0, 11.0], [0.0, 0.0]) == (1, 1, 0)


def test_another_version_is_refused_and_can_be_made_again(tmp_path, given_settings):
    with opened_association(tmp_path, given_settings, rebuild=True) as store:
        put(store, 1, [10.0], [0.0])
        with store.change() as connection:
            connection.execute(sa.text("UPDATE association_meta SET version = 99"))
    with (
        pytest.raises(Misconfigured, match=r"schema version 99.*--rebuild") as caught,
        opened_association(tmp_path, given_settings),
    ):
        pass
    assert caught.value.code == "other_version"
    with opened_association(tmp_path, given_settings, rebuild=True) as store:
        assert store.counts() == (0, 0)


@pytest.mark.parametrize("damage", ["not SQLite", "a torn page"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path, damage):
    with opened_association(tmp_path, SETTINGS) as store:
        put(store, 1, np.linspace(10, 11, 300), np.zeros(300))
    content = (tmp_path / FILE).read_bytes()
    torn = content[:4096] + bytes(len(content) - 4096)
    (tmp_path / FILE).write_bytes(b"no database " * 1000 if damage == "not SQLite" else torn)
    with (
        pytest.raises(Misconfigured, match=r"association\.sqlite: cannot be read.*backup.*--rebuild") as caught,
        opened_association(tmp_path, SETTINGS) as store,
    ):
        store.counts()
    assert caught.value.code == "damaged_association"
    with opened_association(tmp_path, SETTINGS, rebuild=True) as store:
        assert store.counts() == (0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a lock")
def test_a_locked_file_is_waited_for_and_its_holder_named(tmp_path, monkeypatch):
    monkeypatch.setattr(association_database, "WAIT_S", 0.2)
    with opened_association(tmp_path, SETTINGS):
        pass
    code = (
        "import sqlite3, sys, time\n"
        "held = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "held.execute('BEGIN EXCLUSIVE')\nprint('locked', flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / FILE], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "locked\n"
            with (
                pytest.raises(Retryable, match=rf"another process \({holder.pid}\)"),
                opened_association(tmp_path, SETTINGS) as store,
            ):
                put(store, 1, [10.0], [0.0])
        finally:
            holder.kill()


def test_only_group_and_owner_may_read_the_file(tmp_path):
    with opened_association(tmp_path, SETTINGS):
        pass
    assert (tmp_path / FILE).stat().st_mode & 0o007 == 0


def test_the_mean_of_a_file_is_what_its_links_say(tmp_path):
    """Against SQLite itself: weighted mean, count and times."""
    rng = np.random.default_rng(2)
    with opened_association(tmp_path, SETTINGS) as store:
        decs = rng.normal(0, 0.1, 12) * ARCSEC
        for visit, dec in enumerate(decs):
            put(
                store,
                visit,
                [10.0],
                [dec],
                decErr=[(0.1 + 0.02 * visit) * ARCSEC],
                raErr=[(0.1 + 0.02 * visit) * ARCSEC],
            )
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        row = file.execute("SELECT dec, weight, nDiaSources, firstDiaSourceMjdTai, lastDiaSourceMjdTai FROM dia_object")
        dec, total, *rest = row.fetchone()
    weight = 1 / ((0.1 + 0.02 * np.arange(12)) ** 2 + 0.05**2)
    assert dec == pytest.approx(np.average(decs, weights=weight), abs=1e-10)
    assert total == pytest.approx(weight.sum())
    assert rest == [12, 61000, 61011]


def test_a_database_that_is_down_is_said_to_be():
    url = AssociationSettings(store="postgresql+psycopg://nobody@127.0.0.1:9/none")
    with (
        pytest.raises(Retryable, match=r"127\.0\.0\.1:9/none: does not answer") as caught,
        opened_association(None, url),
    ):
        pass
    assert caught.value.code == "association_down"


def test_where_there_is_no_store():
    bucket = located("s3://bucket/out")
    assert off_because(bucket, SETTINGS).startswith("the output folder is in an object store")
    assert off_because(bucket, AssociationSettings(store="postgresql+psycopg://host/db")) is None
    assert off_because(bucket, AssociationSettings(store="none")) == "association.store is none"


@pytest.mark.parametrize(
    ("store", "rule"),
    [
        ("mysql://host/db", "must be auto, none"),
        ("postgresql+psycopg://user:secret@host/db", "no password"),
        ("postgresql+psycopg://host/db?password=secret", "no password"),
    ],
)
def test_urls_are_of_postgresql_and_without_passwords(store, rule):
    with pytest.raises(ValueError, match=rule):
        AssociationSettings(store=store)


def test_limits_of_the_reach_are_in_order():
    with pytest.raises(ValueError, match="min_arcsec must not be above"):
        AssociationSettings(min_arcsec=2.0)
    assert AssociationSettings(min_arcsec=1.5).max_arcsec == 1.5


def test_why_an_exposure_cannot_be_associated_is_known_until_it_is(tmp_path, given_settings, store):
    error = BadInput("no_id_left", "exposure 1-3", "has none.", "rebuild.")
    with opened_association(tmp_path, given_settings) as found:
        assert found.refusal(key(1), "d") is None
        put(found, 2, [10.0], [5.0])
        found.refuse(key(1), "d", error)
        found.refuse(key(1), "d", error)  # tried again, in vain
    with opened_association(tmp_path, given_settings) as found:
        known = found.refusal(key(1), "d")
        assert (type(known), str(known), known.code) == (BadInput, str(error), "no_id_left")
        assert found.refusal(key(1), "another search") is None
        put(found, 1, [10.0], [5.0])
        assert found.refusal(key(1), "d") is None


def test_the_history_of_a_night_is_read_in_parts(store, monkeypatch):
    """Rows of a server come as they are asked for: of years they would not fit into memory."""
    for visit in (100, 101):
        put(store, visit, [10.0, 11.0, 12.0], [0.0, 0.0, 0.0])
    whole = store.history("20260101")
    asked = []
    sa.event.listen(store._engine, "before_cursor_execute", lambda *given: asked.append(given[4].execution_options))
    monkeypatch.setattr(association_database, "_PART", 4)
    assert store.history("20260101").equals(whole)
    assert [one.get("stream_results") for one in asked if "stream_results" in one] == [True]


def test_objects_of_a_patch_are_those_of_the_night_whose_mean_may_lie_there(store):
    """Also stars that are elsewhere by now: 10 arcsec a year for three years, across the borders of the patches."""
    corner = HEALPix(2**5, "nested").boundaries_lonlat([1700], step=1)
    ra0, dec0 = (float(one.deg[0, 0]) for one in corner)
    rng, count = np.random.default_rng(5), 40
    angle, fast = rng.uniform(0, 360, count), np.where(np.arange(count) < 20, rng.uniform(4, 7, count), 0.0)
    ra, dec, _ = along_great_circle(
        np.full(count, ra0), np.full(count, dec0), np.arange(count) * 9.0, np.linspace(1, 120, count) * ARCSEC
    )
    nights = [f"2026{month:02}{day:02}" for month in range(1, 13) for day in (1, 15)]
    for visit, (night, day) in enumerate(zip(nights, [*range(0, 96, 8), *range(200, 1100, 75)], strict=True)):
        lon, lat, _ = along_great_circle(ra, dec, angle, fast * day / 365.25 * ARCSEC)
        put(store, visit, lon, lat, mjd=61000 + day, night=night)
    put(store, 99, [ra0], [dec0 + 0.3 * ARCSEC], mjd=61020, night="20250101")  # another night's alone
    for night in (nights[11], nights[-1]):
        whole = store.history(night)
        ids, group = np.unique(whole["diaObjectId"].to_numpy(), return_inverse=True)
        total = np.zeros((len(ids), 3))
        np.add.at(
            total, group, np.stack([whole[axis].to_numpy() for axis in "xyz"], 1) * whole["weight"].to_numpy()[:, None]
        )
        expected, lacking = sky_position(total), set(ids.tolist())
        for order, pixels in ((5, pixels_at(*expected, 5)), (9, pixels_at(*expected, 9))):
            for pixel in np.unique(pixels).tolist():
                patch = Patch(order, pixel, 30.0)
                found = store.history(night, patch)
                there = set(found["diaObjectId"].to_pylist())
                assert set(ids[patch.holds(*expected, 30.0)].tolist()) <= there <= lacking
                assert found.equals(whole.filter(pc.is_in(whole["diaObjectId"], pa.array(sorted(there)))))
                every = store.history_rows(night, patch)  # those of later nights count
                assert every == len(found) if night == nights[-1] else every > len(found)
        assert len(ids) >= count
    assert len(store.history(nights[-1], Patch(9, 0, 30.0))) == store.history_rows(nights[-1], Patch(9, 0, 30.0)) == 0


def test_objects_of_a_patch_are_found_by_indexes(tmp_path):
    """A night's detections are many: none but those of the patch are looked at."""
    for patch in (Patch(5, 1700, 30.0), Patch(0, 3, 60.0), Patch(9, 4, 10.0, (900, 901))):
        statement = str(association_store._seen_near("20260101", patch).compile(compile_kwargs={"literal_binds": True}))
        with opened_association(tmp_path, SETTINGS), closing(sqlite3.connect(tmp_path / FILE)) as file:
            plan = [row[-1] for row in file.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert not [line for line in plan if line.startswith("SCAN")]
        assert any("ix_dia_object_cell (cell>? AND cell<?)" in line for line in plan)
        assert any("ix_dia_source_diaObjectId (diaObjectId=?)" in line for line in plan)


def test_a_store_is_not_written_to_by_a_task_whose_run_has_lost_the_folder(tmp_path):
    """The lease is that of the process that began the task in another one, which knows of it by the fence alone."""
    (tmp_path / "lease.json").write_text("of another run")
    with opened_association(tmp_path, AssociationSettings()) as store:
        with (
            behind(Fence(tmp_path / "lease.json", b"of this run")),
            pytest.raises(Misconfigured, match="taken the folder"),
        ):
            store.settle("20260101", "stamp")
        with behind(Fence(tmp_path / "lease.json", b"of another run")):
            store.settle("20260101", "stamp")
    assert dict(store.nights()).keys() == {"20260101"}

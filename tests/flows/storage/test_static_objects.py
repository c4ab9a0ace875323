"""Lasting objects of the science images, on both databases: ids, statistics of places, splits, and any order."""

import re
import time

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.storage.association_store import association_as_it_is, opened_association
from flows.storage.association_tables import SEEN, STATIC, STATIC_EVENT
from flows.storage.catalog_store import CatalogStore
from flows.storage.digest import digest
from flows.storage.ledger import Ledger
from flows.storage.static_links import PatchObjects, midnight_of
from flows.storage.static_objects import StaticObjects, bring_up_static
from kernels.sky.positions import object_ids
from schemas.ledger import PatchRecord
from schemas.objects import OBJECT
from schemas.patch import PatchKey
from tests.flows.storage.test_ledger import record
from tests.support.association import ARCSEC
from tests.support.static import SETTINGS, objects, see

NIGHTS = [f"2026{month:02}{day:02}" for month in range(1, 13) for day in range(1, 28, 9)]


def lasting(store, night):
    """objectId -> staticObjectId of a night."""
    rows = store.rows(sa.select(SEEN.c.objectId, SEEN.c.staticObjectId).where(SEEN.c.night == night))
    return {one[0]: one[1] for one in rows}


def everything(store):
    return [
        [tuple(one) for one in store.rows(sa.select(table).order_by(*table.primary_key))] for table in (STATIC, SEEN)
    ]


def test_an_object_of_two_nights_has_the_id_of_the_first_that_was_published(store):
    assert see(store, "20260102", [10.0, 10.1], [0.0, 0.0]) == (0, 2)
    assert see(store, "20260101", [10.1, 10.2], [0.3 * ARCSEC, 0.0]) == (1, 1)
    first, earlier = lasting(store, "20260102"), lasting(store, "20260101")
    assert first == {one: one for one in object_ids(np.array([10.0, 10.1]), np.zeros(2)).tolist()}
    (joined,) = {*first.values()} & {*earlier.values()}
    identity, nights = StaticObjects(store).of_object(joined)
    assert (identity, nights["night"].to_pylist()) == (joined, ["20260101", "20260102"])
    assert StaticObjects(store).of_object(min(earlier, key=lambda one: earlier[one] != joined))[0] == joined
    assert StaticObjects(store).of_object(12345) is None


def test_a_night_that_is_made_again_keeps_the_ids_of_what_lies_at_its_places(store):
    see(store, "20260101", [10.0, 10.1], [0.0, 0.0])
    before = lasting(store, "20260101")
    assert see(store, "20260101", [10.0 + 0.2 * ARCSEC, 20.0], [0.0, 0.0], "e") == (1, 1)
    after = lasting(store, "20260101")
    (kept,) = {*after.values()} & {*before.values()}
    (lost,) = {*before.values()} - {kept}
    assert StaticObjects(store).events() == [("removed", lost)]
    assert see(store, "20260102", [10.1], [0.0]) == (1, 0)
    assert [*lasting(store, "20260102").values()] == [lost]
    assert StaticObjects(store).events()[-1] == ("restored", lost)
    StaticObjects(store).withdraw("20260102")
    assert StaticObjects(store).events()[-1] == ("removed", lost)
    assert list(StaticObjects(store).nights()) == ["20260101"]


def test_the_digest_of_a_night_is_of_its_own_links(store):
    digests = []
    for night, ra in (("20260102", 10.1), ("20260101", 10.0), ("20260102", 10.1), ("20260102", 10.2)):
        see(store, night, [ra], [0.0], "made from")
        digests.append(StaticObjects(store).nights()[night][1])
    assert digests[0] == digests[2]  # whatever other nights have
    assert len({*digests}) == 3


def test_two_objects_of_a_night_are_never_one(store):
    see(store, "20260101", [10.0], [0.0])
    assert see(store, "20260102", [10.0, 10.0], [0.4 * ARCSEC, -0.2 * ARCSEC]) == (1, 1)
    (known,) = lasting(store, "20260101").values()
    found = lasting(store, "20260102")
    (near,) = object_ids(np.array([10.0]), np.array([-0.2 * ARCSEC])).tolist()
    assert found[near] == known
    assert len({*found.values()}) == 2


def test_patches_that_were_made_of_different_exposures_may_both_have_an_object_on_their_border(store):
    """It has moved by 7 mas in one of them, over the border: it is two, and the night is associated."""
    west, east = objects([10 - 3e-6], [0.0]), objects([10 + 4e-6], [0.0])
    none = OBJECT.empty()
    StaticObjects(store).associate("20260101", "a", [PatchObjects(west, none), PatchObjects(none, west)], SETTINGS)
    found = [PatchObjects(west, none), PatchObjects(east, none)]
    assert StaticObjects(store).associate("20260101", "b", found, SETTINGS) == (1, 1)
    assert len({*lasting(store, "20260101").values()}) == 2
    again = [PatchObjects(west, none), PatchObjects(none, west)]
    assert StaticObjects(store).associate("20260102", "a", again, SETTINGS) == (1, 0)


def test_a_large_night_can_be_read_while_it_is_written(tmp_path):
    many = np.arange(20_000)
    with opened_association(tmp_path, SETTINGS) as store:
        see(store, "20260101", [10.0], [0.0])
        with store.change() as connection:
            rows = [{"staticObjectId": int(one), "cell": 1, "x": 1.0, "y": 0.0, "z": 0.0, "weight": 1.0, "tx": 0.0,
                     "ty": 0.0, "tz": 0.0, "t": 0.0, "tt": 0.0, "nNights": 0, "firstMjd": 0.0, "lastMjd": 0.0}
                    for one in many]  # fmt: skip
            connection.execute(STATIC.insert(), rows)
            started = time.monotonic()
            with association_as_it_is(tmp_path, SETTINGS) as other:
                assert list(StaticObjects(other).nights()) == ["20260101"]
            assert time.monotonic() - started < 4  # it does not wait for the end


def test_what_splits_or_is_blended_is_noted_once(store):
    """Two stars 2 arcsec apart are one on a night of bad seeing, half way between them."""
    see(store, "20260101", [10.0], [0.0])
    see(store, "20260102", [10.0, 10.0], [1.0 * ARCSEC, -1.0 * ARCSEC])
    (blend,) = lasting(store, "20260101").values()
    parts = sorted(lasting(store, "20260102").values())
    assert StaticObjects(store).events() == [("beside", one) for one in parts]
    assert StaticObjects(store).beside(blend) == parts
    see(store, "20260103", [10.0, 10.0], [1.0 * ARCSEC, -1.0 * ARCSEC])
    see(store, "20260102", [10.0, 10.0], [1.0 * ARCSEC, -1.0 * ARCSEC], "again")
    assert len(StaticObjects(store).events()) == 2


def test_what_has_ended_is_beside_nothing(store):
    see(store, "20260101", [10.0], [0.0])
    StaticObjects(store).withdraw("20260101")
    see(store, "20260102", [10.0], [1.0 * ARCSEC])
    assert [kind for kind, _ in StaticObjects(store).events()] == ["removed"]


def test_a_star_that_moves_by_arcseconds_a_year_keeps_its_id(store):
    for n, night in enumerate(NIGHTS):
        years = (midnight_of(night) - midnight_of(NIGHTS[0])) / 365.25
        see(store, night, [10.0, 10.0 + 20 * ARCSEC], [5.0 * ARCSEC * years, 0.0], str(n))
    assert {len({*lasting(store, night).values()}) for night in NIGHTS} == {2}
    assert len({one for night in NIGHTS for one in lasting(store, night).values()}) == 2


def test_the_id_of_another_object_is_not_given_again(store):
    """Nor one of the next ids that a lasting object or an object of the night has."""
    see(store, "20260101", [10.0, 11.0], [0.0, 0.0])
    identity, other = object_ids(np.array([10.0, 11.0]), np.zeros(2)).tolist()
    with store.change() as connection:  # they have wandered off, and something new appears where one began
        far = {"cell": 1, "x": 0.0, "y": 1.0, "z": 0.0, "tx": 0.0, "ty": 0.0, "tz": 0.0}
        connection.execute(STATIC.update().values(far))
        next_one = {"staticObjectId": identity + 1}
        connection.execute(STATIC.update().where(STATIC.c.staticObjectId == other).values(next_one))
    see(store, "20260102", [10.0, 12.0], [0.0, 0.0], objectId=[identity, identity + 2])
    assert lasting(store, "20260102") == {identity: identity + 3, identity + 2: identity + 2}
    assert StaticObjects(store).events() == [("renamed", identity + 3)]


def test_the_history_is_that_of_the_objects_of_a_patch(store):
    for night, shift in (("20260101", 0.0), ("20260102", 0.2), ("20260103", 0.1)):
        see(store, night, [10.0, 190.0], [shift * ARCSEC, 45.0], r_psfFlux=[1.0, 2.0], r_psfFluxErr=[0.1, 0.2])
    ids = object_ids(np.array([10.0]), np.array([0.2 * ARCSEC]))
    key = PatchKey(night="20260102", order=5, pixel=int(ids[0] >> 48))
    found = StaticObjects(store).history(key)
    assert found["night"].to_pylist() == ["20260101", "20260102"]
    assert found["r_psfFlux"].to_pylist() == [1.0, 1.0]
    assert found["g_psfFlux"].null_count == 2
    assert StaticObjects(store).history_rows(key) == 3
    assert len(StaticObjects(store).history(PatchKey(night="20260104", order=5, pixel=key.pixel))) == 0


def test_contradictions_are_counted(store):
    see(store, "20260101", [10.0, 11.0, 12.0], [0.0, 0.0, 0.0])
    assert StaticObjects(store).contradictions() == []
    lost, wrong, _ = lasting(store, "20260101")
    with store.change() as connection:
        connection.execute(STATIC.delete().where(STATIC.c.staticObjectId == lost))
        connection.execute(STATIC.update().where(STATIC.c.staticObjectId == wrong).values(nNights=3))
    assert StaticObjects(store).contradictions() == [
        "1 lasting objects do not have as many nights as they say", "1 objects of nights are of no lasting one",
    ]  # fmt: skip


def test_how_an_object_ended_is_told_by_its_last_night(store):
    see(store, "20260101", [10.0, 11.0], [0.0, 0.0])
    first, second = object_ids(np.array([10.0, 11.0]), np.zeros(2)).tolist()
    static = StaticObjects(store)
    static.withdraw("20260101")
    see(store, "20260102", [10.0, 11.0], [0.0, 0.0])
    see(store, "20260102", [11.0], [0.0], "again")
    assert [static.ending(one) for one in (second, 12345)] == [None, None]
    see(store, "20260103", [11.0], [0.0])
    for night in ("20260102", "20260103"):
        static.withdraw(night)
    for identity, night in ((first, "20260102"), (second, "20260103")):
        assert re.fullmatch(rf"ended at \d{{4}}-.*, with night {night}", static.ending(identity))
    with store.change() as connection:
        connection.execute(STATIC_EVENT.delete())
    assert static.ending(first) == "ended; when is not noted"


def test_a_night_is_brought_up_where_its_published_objects_have_changed(store, tmp_path):
    ledger, catalogues, static = Ledger(tmp_path), CatalogStore(tmp_path), StaticObjects(store)
    ledger.put(record(1, night="20260101"))
    key = PatchKey(night="20260101", order=5, pixel=7)
    assert (bring_up_static(tmp_path, store, key.night, SETTINGS), static.nights()) == ((0, 0), {})
    for ra, expected in (([10.0, 11.0], (0, 2)), ([10.0, 11.0], (0, 0)), ([10.0, 12.0], (1, 1)), (None, (0, 0))):
        published = {}
        if ra is not None:
            path = catalogues.publish(OBJECT, key, objects(ra, [0.0, 0.0]), digest(ra))
            published = {OBJECT.name: catalogues.record(path)}
        ledger.put_patch(PatchRecord(**key.model_dump(), datasets=published, software="1", finished_at="now"))
        assert bring_up_static(tmp_path, store, key.night, SETTINGS) == expected
        assert list(static.nights()) == ([key.night] if published else [])


CROWD = st.integers(0, 2**32 - 1)


def crowd(seed, shift=0.2, count=60, nights=2):
    """Places in a field of 40 arcsec on some nights; each is there on most of them."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-20, 20, (count, 2)) * ARCSEC + [10.0, 0.0]
    there = rng.random((nights, count)) < 0.9
    return [(place + rng.normal(0, shift * ARCSEC, place.shape))[one] for one in there]


@settings(max_examples=25, deadline=None)
@given(seed=CROWD)
def test_neither_the_order_of_patches_nor_where_their_borders_lie_plays_a_part(tmp_path_factory, seed):
    """Patches with all around them; against the night as one."""
    found = []
    rng = np.random.default_rng(seed)
    for parts in (1, 5):
        with opened_association(tmp_path_factory.mktemp("crowd"), SETTINGS) as store:
            for night, place in zip(NIGHTS, crowd(seed), strict=False):
                owner = rng.integers(parts, size=len(place))
                tables = [[objects(*place[owner == n].T), objects(*place[owner != n].T)] for n in range(parts)]
                patches = [PatchObjects(*tables[n]) for n in rng.permutation(parts)]
                StaticObjects(store).associate(night, "d", patches, SETTINGS)
            found.append(everything(store))
    assert found[0] == found[1]


@settings(max_examples=15, deadline=None)
@given(seed=CROWD)
def test_a_night_that_was_taken_out_and_put_back_leaves_no_trace(tmp_path_factory, seed):
    with opened_association(tmp_path_factory.mktemp("crowd"), SETTINGS) as store:
        nights = [*zip(NIGHTS, crowd(seed, nights=4), strict=False)]
        for night, place in nights:
            see(store, night, *place.T)
        before = everything(store)
        see(store, nights[-1][0], *nights[-1][1].T, "again")
        (objects_now, seen_now), (objects_before, seen_before) = everything(store), before
        assert seen_now == seen_before
        assert np.array(objects_now)[:, 1:].astype(float) == pytest.approx(
            np.array(objects_before)[:, 1:].astype(float), rel=1e-12, nan_ok=True
        )  # but for the last digits of sums


def test_a_night_that_fails_leaves_the_store_as_it_was(store):
    see(store, "20260101", [10.0], [0.0])
    before = everything(store)

    def broken():
        yield PatchObjects(objects([10.0, 11.0], [0.0, 0.0]), OBJECT.empty())
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        StaticObjects(store).associate("20260102", "d", broken(), SETTINGS)
    assert everything(store) == before

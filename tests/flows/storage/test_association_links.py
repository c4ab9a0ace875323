"""Links of exposures to objects, on both databases: what begins, ends, and keeps objects and their ids."""

import numpy as np

from flows.storage.association_tables import EVENT
from tests.support.association import ARCSEC, SETTINGS, detections, key, links, put, source_id


def test_objects_so_near_that_both_may_be_one_are_noted_once(store):
    put(store, 1, [10.0, 30.0, 40.0], [0.0, 0.0, 0.0])
    assert store.events() == []
    put(store, 2, [10.0, 10.0, 30.0, 30.0], [0.0, 0.6 * ARCSEC, 0.0, 1.6 * ARCSEC])
    later = source_id(2, 1)  # whose place another detection of its exposure has taken
    assert store.events() == [("beside", later)]
    assert store.beside(later) == [source_id(1, 0)]
    assert store.beside(source_id(1, 0)) == [later]
    assert store.beside(source_id(1, 1)) == store.beside(source_id(2, 3)) == []
    for visit in (3, 2):  # the second is searched again, as it was
        put(store, visit, [10.0, 10.0], [0.0, 0.6 * ARCSEC], digest="again")
    assert [one for one in store.events() if one[0] == "beside"] == [("beside", later)]
    put(store, 4, [40.0], [0.7 * ARCSEC])  # an object alone
    assert store.beside(source_id(1, 2)) == []


def test_two_visits_at_one_time_lose_and_double_nothing(store):
    for visit in (1, 2):
        put(store, visit, [10.0, 10.01], [0.0, 0.1 * ARCSEC], mjd=61000.25)
    put(store, 3, [10.0, 10.01], [0.0, 0.0], mjd=61000.3)
    assert store.counts() == (2, 6)
    assert set(links(store).values()) == {source_id(1, 0), source_id(1, 1)}


def test_trails_and_what_has_no_place_are_of_no_object(store):
    long = {
        "trailLength": [9.0, 1.0, 9.0, 0.0],
        "trailLengthErr": [0.5, 0.5, 8.0, 0.5],
        "trailClass": ["", "", "", "satellite"],
    }
    assert put(store, 1, [10.0, 10.1, 10.2, 10.3], [0.0] * 4, **long) == (0, 2, 2)
    assert put(store, 2, [np.nan], [np.nan]) == (0, 0, 1)
    assert sorted(links(store)) == [source_id(1, 1), source_id(1, 2)]


def test_a_repeated_exposure_replaces_its_links_and_keeps_the_ids(store):
    put(store, 1, [10.0, 10.1], [0.0, 0.0])
    put(store, 2, [10.0], [0.0])
    before = links(store)
    put(store, 1, [10.0, 10.1], [0.0, 0.0], digest="e")
    assert links(store) == before
    assert store.visits("20260101") == {key(1): "e", key(2): "d"}
    assert store.events() == []


def test_what_becomes_of_an_exposure_leaves_the_other_detectors_of_its_visit(store):
    for detector in (3, 4):
        rows = detections(1, [10.0 + detector], [0.0], detector=detector)
        store.associate(key(1, detector=detector), "d", rows, SETTINGS)
    put(store, 1, [13.0], [0.0], digest="again")
    assert store.visits("20260101") == {key(1): "again", key(1, detector=4): "d"}
    store.withdraw(key(1))
    assert store.visits("20260101") == {key(1, detector=4): "d"}


def test_an_object_without_detections_is_gone_and_comes_back_at_its_place(store):
    put(store, 1, [10.0, 10.1], [0.0, 0.0])
    put(store, 1, [10.1], [0.0], digest="e")  # ranks are counted again
    assert links(store) == {source_id(1, 0): source_id(1, 1)}
    assert (store.counts(), store.events()) == ((1, 1), [("removed", source_id(1, 0))])
    put(store, 2, [10.0], [0.1 * ARCSEC])
    assert links(store)[source_id(2)] == source_id(1, 0)
    assert store.events()[1:] == [("restored", source_id(1, 0))]
    assert store.beside(source_id(1, 0)) == []


def test_an_id_that_another_object_has_is_not_given_again(store):
    put(store, 1, [10.0], [0.0])
    put(store, 2, [10.0], [0.0])
    put(store, 1, [12.0], [0.0], digest="e")  # something else has that diaSourceId now
    assert links(store)[source_id(2)] == source_id(1)
    assert links(store)[source_id(1)] == source_id(1, 4095)
    assert store.events() == [("renamed", source_id(1, 4095))]


def test_an_id_that_a_detection_beside_has_is_not_given_to_another(store):
    put(store, 1, [10.0], [0.0])
    put(store, 2, [10.0], [0.0])
    ids = [source_id(1, 0), source_id(1, 4095)]
    assert put(store, 1, [12.0, 13.0], [0.0, 0.0], digest="e", diaSourceId=ids).new == 2
    assert [links(store)[one] for one in ids] == [source_id(1, 4094), source_id(1, 4095)]


def test_an_exposure_that_is_withdrawn_takes_its_detections_along(store):
    put(store, 1, [10.0, 10.1], [0.0, 0.0])
    put(store, 2, [10.0], [0.0])
    store.withdraw(key(1))
    assert links(store) == {source_id(2): source_id(1, 0)}
    assert list(store.visits("20260101")) == [key(2)]
    assert store.events() == [("removed", source_id(1, 1))]


def test_what_has_ended_objects_is_known(store):
    put(store, 1, [10.0, 11.0, 12.0, 13.0], [0.0, 0.0, 0.0, 0.0])
    ids = [source_id(1, rank) for rank in range(5)]
    assert (store.detections_of(ids), store.endings(ids)) == (dict.fromkeys(ids[:4], 1), {})
    put(store, 1, [10.0, 12.0, 13.0], [0.0, 0.0, 0.0], digest="e")
    put(store, 2, [12.0], [0.0])
    store.withdraw(key(1))
    put(store, 3, [13.0], [0.0])  # back again
    assert store.detections_of(ids) == dict(zip(ids, (0, 0, 1, 1), strict=False))
    how, found = "when exposure 1-3 was", store.endings(ids)
    assert list(found) == ids[:2]
    assert all(why.endswith(f"{how} withdrawn") for why in found.values())
    put(store, 1, [14.0], [0.0], digest="f")
    with store.change() as connection:
        connection.execute(EVENT.delete().where(EVENT.c.diaObjectId == ids[0]))
    found = store.endings(ids)
    assert found[ids[0]] == "ended; when is not noted"
    assert found[ids[1]].endswith(f"{how} searched again")
    store.withdraw(key(3))  # the second end of this one
    assert store.endings(ids[3:4])[ids[3]].endswith("when exposure 3-3 was withdrawn")

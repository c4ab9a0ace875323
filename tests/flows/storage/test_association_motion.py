"""Objects that move, in the store of the association: stars keep their ids, on both databases."""

import numpy as np
import pyarrow.compute as pc
import pytest

from kernels.sky.positions import along_great_circle
from schemas.dia_object import ASSOCIATION, DIA_OBJECT
from schemas.stage import Context
from stages.gather_dia_objects import STAGE as GATHER
from stages.link_dia_objects import STAGE as LINK
from tests.support.association import ARCSEC, follow, key, links, put, source_id, star


def test_a_star_of_high_proper_motion_keeps_its_id(store):
    """3 arcsec a year, every ten days for 400 with a gap of 150; no detection is within reach of their mean."""
    days = np.array([*range(0, 130, 10), *range(280, 400, 10)])
    moving, still = follow(store, days, 3.0)
    assert set(moving) == {source_id(0, 0)}
    assert set(still) == {source_id(0, 1)}
    _, rows = store.of_object(source_id(0, 0))
    assert max(rows["separation"].to_pylist()[12:]) < 0.01  # from where it was predicted
    (ra,), (dec,) = star(-300, 3.0)
    put(store, 900, [ra], [dec], mjd=61000 - 300, night="20250401")  # a backfill
    assert store.of_object(source_id(900))[0] == source_id(0, 0)


def test_fast_stars_keep_their_ids_among_false_detections(store):
    """40 stars of 1 to 10 arcsec a year and 40 at rest in 0.04 deg2, every three days, four times of five."""
    rng = np.random.default_rng(4)
    speed, angle = np.r_[10 ** rng.uniform(0, 1, 40), np.zeros(40)], rng.uniform(0, 360, 80)
    ra, dec = 10 + rng.uniform(0, 0.2, 80), rng.uniform(0, 0.2, 80)
    owner, nights = {}, []
    for visit, day in enumerate(range(0, 120, 3)):
        seen = np.flatnonzero(rng.random(80) < 0.8)
        lon, lat, _ = along_great_circle(ra[seen], dec[seen], angle[seen], speed[seen] * day / 365.25 * ARCSEC)
        false = 10 + rng.uniform(0, 0.2, 10), rng.uniform(0, 0.2, 10)
        places = np.concatenate([np.stack([lon, lat]) + rng.normal(0, 0.11 * ARCSEC, (2, len(seen))), false], axis=1)
        nights.append(f"2026{day // 28 + 1:02}{day % 28 + 1:02}")
        put(store, visit, *places, mjd=61000 + day, night=nights[-1])
        owner |= {source_id(visit, rank): one for rank, one in enumerate(seen.tolist())}
    object_of = links(store, *nights)
    found = {(one, object_of[source]) for source, one in owner.items()}
    assert sorted(found) == sorted(dict(found).items())
    assert len(found) == 80


def test_a_star_that_moves_is_not_taken_for_one_that_rests_where_it_was(store):
    follow(store, np.arange(0, 400, 20), 3.0)
    put(store, 500, [10.0], [0.0], mjd=61400, night="20270301")  # three arcsec behind
    assert store.of_object(source_id(500))[0] == source_id(500)


def test_a_star_is_followed_when_its_exposures_are_searched_again(store):
    days = np.arange(0, 400, 20)
    moving, _ = follow(store, days, 3.0)
    assert (follow(store, days, 3.0)[0], set(moving)) == (moving, {source_id(0, 0)})
    assert store.events() == []


@pytest.mark.parametrize("minutes", [-600, -5, 5, 600])
def test_a_clock_that_is_wrong_on_one_visit_changes_no_id(store, minutes):
    """A star of 5 arcsec a year and one at rest, every ten days; the clock of the eighth visit is off."""
    moving, still = follow(store, np.arange(0, 200, 10.0), 5.0, late={7: minutes / 1440})
    assert (set(moving), set(still)) == ({source_id(0, 0)}, {source_id(0, 1)})
    assert store.counts() == (2, 40)


def published(store, night):
    """What a night's catalogues of objects are, and the digest that they are made from."""
    found = {ASSOCIATION.name: store.history(night)}
    objects = GATHER(found, Context()).rows
    store.settle(night, "")
    return objects, LINK({**found, DIA_OBJECT.name: objects}, Context()).rows, store.nights()[night]


def test_the_catalogues_of_a_night_are_the_same_in_whatever_order_its_visits_came(store):
    """Stars and what rests; visits are withdrawn, published again in any order, and searched again."""
    rng, tonight, visits = np.random.default_rng(6), "20260701", range(10, 16)
    ra, speed, angle = 10 + np.arange(24) * 0.01, np.repeat([0, 3, 8], 8), rng.uniform(0, 360, 24)
    places = {}
    for visit, day in [*enumerate(range(0, 100, 20)), *((n, 120 + n / 48) for n in visits)]:
        lon, lat, _ = along_great_circle(ra, np.zeros(24), angle, speed * day / 365.25 * ARCSEC)
        noise = rng.normal(0, 0.1 * ARCSEC, (2, 24))
        places[visit] = {"ra": lon + noise[0], "dec": lat + noise[1], "mjd": 61000 + day}
        put(store, visit, **places[visit], night=tonight if visit in visits else f"2026{visit + 1:02}01")
    expected = published(store, tonight)
    own = store.history(tonight).filter(pc.field("night") == tonight).sort_by("diaSourceId")
    np.testing.assert_allclose(expected[1]["separation"], own["separation"], atol=1e-7)
    assert len(expected[1]) == 24 * len(visits)
    for _ in range(4):
        out = rng.permutation(visits)[: rng.integers(1, 6)].tolist()
        for visit in out:
            store.withdraw(key(visit, tonight))
        again = rng.permutation(visits)[:2].tolist()
        for visit, digest in (*((one, "d") for one in rng.permutation(out).tolist()), *((one, "e") for one in again)):
            put(store, visit, **places[visit], night=tonight, digest=digest)
        for visit in again:
            put(store, visit, **places[visit], night=tonight)
        assert published(store, tonight) == expected

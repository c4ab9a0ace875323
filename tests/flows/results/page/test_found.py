from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pytest

from flows.results.motion import read_motion
from flows.results.page.found import (
    AT_REST,
    KNOWN,
    POINT,
    SATELLITE,
    TRAIL,
    UNKNOWN,
    found_in,
    found_words,
    ranked_tracklets,
    read_on_stars,
)
from flows.results.page.night import read_night
from flows.storage.catalog_store import CatalogStore
from schemas.dia_source import DetectionFlag
from schemas.objects import DIA_LINK
from tests.support.page import object_table, put_objects, star_galaxy_table
from tests.support.tracklets import publish_linked
from tests.support.vetting import filled


@pytest.fixture(scope="module")
def linked(kit, tmp_path_factory):
    """A night of three visits with a star at rest, two movers and six false detections."""
    out = tmp_path_factory.mktemp("out")
    ids = publish_linked(out)
    return SimpleNamespace(ids=ids, night=read_night(out, kit.NIGHT, None), moving=read_motion(out, kit.NIGHT))


@pytest.fixture
def single(kit, tmp_path):
    """Return rows of one exposure as a ranked night without tracklets."""

    def rank(changes, known=None, on_stars=()):
        info = kit.info()
        rows = kit.rows(info, len(changes), 3)
        for row, change in zip(rows, changes, strict=True):
            row |= {"flags": 0, "reliability": 0.95, "snr": 10.0, "trailLengthPx": 0.0, "pTrail": None} | change
        kit.publish(tmp_path, info, rows, 1)
        night = read_night(tmp_path, kit.NIGHT, None)
        ids = [row["diaSourceId"] for row in rows]
        names = {ids[place]: name for place, name in (known or {}).items()}
        found = found_in(night.sources, names, None, {ids[place] for place in on_stars})
        return found, {one: place for place, one in enumerate(ids)}

    return rank


def order(found, places):
    return [
        (kind, places[one])
        for kind, one in zip(found.kinds.tolist(), found.table["diaSourceId"].to_pylist(), strict=True)
    ]


def test_what_is_unknown_comes_first_then_most_members_then_least_chance():
    known = {"trackletId": [1, 2, 3, 4, 5], "nSources": [3, 4, 3, 3, 5], "chance": [1e-3, 1e-2, 1e-5, 1e-3, 1e-9]}
    assert ranked_tracklets(pa.table(known | {"designation": [""] * 4 + ["Ceres"]}))["trackletId"].to_pylist() == [
        2,
        3,
        1,
        4,
        5,
    ]


def test_movers_come_before_single_detections_and_what_is_at_rest_last(linked):
    found = found_in(linked.night.sources, {}, linked.moving)
    star, *movers = linked.ids[:3]
    assert [found.entries(kind) for kind in (UNKNOWN, KNOWN, AT_REST)] == [2, 0, 3]
    assert [found.detections(kind) for kind in (UNKNOWN, AT_REST)] == [6, 3]
    assert found.entries(TRAIL) + found.entries(POINT) + found.entries(SATELLITE) == 6
    entries = found.first(UNKNOWN, 9)
    assert {tuple(row["diaSourceId"] for row in one.rows) for one in entries} == {tuple(one) for one in movers}
    assert [one.rank for one in entries] == [1, 2]
    assert entries[0].anchor == f"t{entries[0].rows[0]['diaSourceId']}"
    assert {row["diaSourceId"] for one in found.first(AT_REST, 9) for row in one.rows} == set(star)
    assert found.ranks.tolist() == sorted(found.ranks.tolist())
    assert found.ranks[-1] == 2 + 3 + 6
    assert len(found.first(UNKNOWN, 1)) == 1
    assert found.first(KNOWN, 5) == ()


def test_every_detection_of_an_exposure_has_its_place(linked):
    found = found_in(linked.night.sources, {}, linked.moving)
    places = {}
    for exposure in range(3):
        places |= found.places(exposure, {1: "t1"})
    assert len(places) == len(linked.night.sources)
    assert sum(place.anchor == "t1" for place in places.values()) == 3
    assert {place.rank for place in places.values() if place.anchor} == {1}


def test_known_objects_are_named_whether_linked_or_not(linked, single):
    links, tracklets = linked.moving
    place = tracklets.schema.get_field_index("designation")
    named = tracklets.set_column(place, "designation", pa.array(["(1) Ceres", ""]))
    found = found_in(linked.night.sources, {}, (links, named))
    assert [found.entries(kind) for kind in (UNKNOWN, KNOWN)] == [1, 1]
    assert found.first(KNOWN, 1)[0].rows[0]["designation"] == "(1) Ceres"
    assert found.first(KNOWN, 1)[0].rank == 2
    alone, places = single([{}, {"trailLengthPx": 9.0}], known={0: "Vesta"})
    assert order(alone, places) == [(KNOWN, 0), (TRAIL, 1)]
    assert alone.first(KNOWN, 1)[0].anchor.startswith("d")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"trailLengthPx": 9.0}, TRAIL),
        ({"trailLengthPx": 9.0, "trailLengthPxErr": 4.0}, POINT),  # of no significance
        ({"trailLengthPx": 1.0, "trailLengthPxErr": 0.1}, POINT),
        ({"trailLengthPx": 9.0, "pTrail": 0.2, "pPoint": 0.7, "pSatellite": 0.0}, POINT),
        ({"trailLengthPx": 9.0, "pTrail": 0.7, "pPoint": 0.2, "pSatellite": 0.0}, TRAIL),
        ({"trailLengthPx": 9.0, "pTrail": 0.3, "pPoint": 0.1, "pSatellite": 0.6}, SATELLITE),
        ({"trailLengthPx": 9.0, "trailClass": "glint_trail"}, SATELLITE),
        ({}, POINT),
    ],
)
def test_single_detections_are_trails_points_or_satellites(single, change, kind):
    found, _ = single([change])
    assert found.kinds.tolist() == [kind]


def test_single_detections_go_by_class_of_reliability_then_by_signal_to_noise(single):
    bleed = {"flags": int(DetectionFlag.BLEED), "reliability": 1.0, "snr": 90.0}
    found, places = single([
        {"reliability": 1.0, "snr": 5.0}, {"reliability": 0.91, "snr": 50.0}, {"reliability": 0.8, "snr": 60.0},
        bleed, {"reliability": 0.3, "snr": 900.0}, {"flags": int(DetectionFlag.ASSUMED_PSF), "snr": 20.0},
    ])  # fmt: skip
    assert [place for _, place in order(found, places)] == [1, 5, 0, 3, 2, 4]


def test_points_on_stars_are_folded_away_and_trails_across_them_are_not(single, kit, tmp_path):
    found, places = single([{}, {"trailLengthPx": 9.0}, {}], on_stars=(0, 1))
    assert order(found, places) == [(TRAIL, 1), (POINT, 2), (AT_REST, 0)]
    put_objects(tmp_path, kit.NIGHT, object_table({"r": [19.0] * 3}), star_galaxy_table([0.9, 0.1, 0.9]))
    sources = pa.table({"diaSourceId": [70, 71, 72], "band": ["r"] * 3, "psfFlux": [100.0] * 3})
    assert read_on_stars(tmp_path, kit.NIGHT, sources) == set()
    links = [{"diaSourceId": 70, "objectId": 0}, {"diaSourceId": 71, "objectId": 1}, {"diaSourceId": 72}]
    CatalogStore(tmp_path).publish(DIA_LINK, kit.NIGHT, filled(DIA_LINK, links), "f" * 64)
    assert read_on_stars(tmp_path, kit.NIGHT, sources) == {70}


def test_points_whose_light_is_all_of_a_star_are_not_on_it(kit, tmp_path):
    """Of the first all is new; of the second in another band not, of the third neither."""
    ids = [70, 71, 72]
    sources = pa.table({"diaSourceId": ids, "band": ["r", "g", "r"], "psfFlux": [1000.0, 1000.0, 1000.0]})
    links = [{"diaSourceId": one, "objectId": place} for place, one in enumerate(ids)]
    CatalogStore(tmp_path).publish(DIA_LINK, kit.NIGHT, filled(DIA_LINK, links), "f" * 64)
    objects = object_table({"r": [19.0] * 3})
    for name, values in {
        "r_psfFlux": [1040.0, 1040.0, 2000.0], "g_psfFlux": [2500.0] * 3, "r_nExposures": [1] * 3,
        "g_nExposures": [1] * 3,
    }.items():  # fmt: skip
        place = objects.schema.get_field_index(name)
        objects = objects.set_column(
            place, objects.schema.field(name), pa.array(values, objects.schema.field(name).type)
        )
    put_objects(tmp_path, kit.NIGHT, None, star_galaxy_table([0.9] * 3))
    assert read_on_stars(tmp_path, kit.NIGHT, sources) == {70, 71, 72}
    put_objects(tmp_path, kit.NIGHT, objects)
    assert read_on_stars(tmp_path, kit.NIGHT, sources) == {71, 72}


def test_the_sentence_leads_to_the_movers(linked, single):
    look, besides = found_words(found_in(linked.night.sources, {}, linked.moving))
    assert look == "2 movers, 2 unknown: look here"
    alone = found_in(linked.night.sources, {}, linked.moving, compared=False)
    assert found_words(alone)[0] == "2 movers, not compared with known objects: look here"
    assert (alone.parts[0].heading, alone.first(0, 1)[0].what) == ("Movers", "mover")
    assert besides.startswith("Besides ")
    assert besides.endswith("and 3 detections at rest or on stars.")
    still, _ = single([{}, {"trailLengthPx": 9.0}])
    assert found_words(still) == (
        "2 detections, not linked to movers: look here",
        "There is 1 single trail and 1 single point.",
    )
    assert found_words(replace(still, linked=True))[0] == "No mover was found: look at the single detections"
    kinds = still.table.schema.get_field_index("kind"), "kind", pa.array([AT_REST, AT_REST])
    resting = replace(still, table=still.table.set_column(*kinds), linked=True)
    assert found_words(resting) == ("No mover was found", "There are 2 detections at rest or on stars.")
    nothing, _ = single([])
    assert found_words(nothing) == ("", "")

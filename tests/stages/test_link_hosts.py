import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from kernels.sky.positions import directional_distance
from kernels.sky.projection import tangent_offsets
from schemas.dia_source import DIA_SOURCE
from schemas.objects import DIA_LINK, OBJECT
from schemas.settings import LinkHostsSettings
from schemas.stage import Context
from stages.link_hosts import STAGE
from tests.support.filled import filled

CENTRE = SkyCoord(10.0, 60.0, unit="deg")


def rows(dataset, **given):
    return filled(dataset.schema, len(next(iter(given.values()), ())), **given)


def at(offsets):
    """(ra, dec) of offsets in arcsec from the centre: (distance, position angle)."""
    places = [CENTRE.directional_offset_by(angle * u.deg, distance * u.arcsec) for distance, angle in offsets]
    return [one.ra.deg for one in places], [one.dec.deg for one in places]


def link(detections, objects, **settings):
    ra, dec = at(detections)
    found = rows(DIA_SOURCE, diaSourceId=list(range(100, 100 + len(ra))), ra=ra, dec=dec)
    places, size, elongation, angle = zip(*objects, strict=True)
    ra, dec = at(places)
    shape = {"halfLightRadius": size, "elongation": elongation, "positionAngle": angle}
    known = rows(OBJECT, objectId=list(range(len(ra))), ra=ra, dec=dec, **shape)
    return STAGE(
        {"dia_source": found, "object": known}, Context(settings=LinkHostsSettings(**settings))
    ).rows.to_pylist()


def test_a_detection_sits_on_the_nearest_object_within_reach():
    objects = [((0.0, 0), 1.0, 1.0, 0.0), ((2.0, 90), 1.0, 1.0, 0.0), ((100.0, 0), 1.0, 1.0, 0.0)]
    one, two, three = link([(0.3, 0), (1.8, 90), (60.0, 0)], objects)
    assert (one["diaSourceId"], one["objectId"], two["objectId"]) == (100, 0, 1)
    assert abs(one["separation"] - 0.3) < 1e-3
    assert three == dict.fromkeys(DIA_LINK.schema.names) | {"diaSourceId": 102}


def test_the_host_is_the_object_whose_light_reaches_there_not_the_nearest():
    small, large = ((2.0, 0), 0.6, 1.0, 0.0), ((10.0, 180), 6.0, 2.0, 0.0)
    (found,) = link([(0.0, 0)], [small, large])
    assert found["objectId"] is None
    assert found["hostObjectId"] == 1
    assert abs(found["hostSeparation"] - 10) < 1e-2
    assert abs(found["hostDlr"] - 10 / (6 * np.sqrt(2))) < 1e-2  # along the major axis
    (across,) = link([(0.0, 0)], [small, ((10.0, 90), 6.0, 2.0, 0.0)])
    assert across["hostObjectId"] == 1
    assert abs(across["hostDlr"] - 10 / (6 / np.sqrt(2))) < 1e-2


def test_nothing_far_beyond_its_light_is_a_host():
    assert link([(0.0, 0)], [((5.0, 0), 1.0, 1.0, 0.0)])[0]["hostObjectId"] is None
    assert link([(0.0, 0)], [((5.0, 0), 1.0, 1.0, 0.0)], max_dlr=6)[0]["hostObjectId"] == 0
    assert link([(0.0, 0)], [((50.0, 0), 40.0, 1.0, 0.0)])[0]["hostObjectId"] is None
    assert link([(0.0, 0)], [((1.0, 0), None, 1.0, 0.0)])[0]["hostObjectId"] is None


def test_detections_without_a_position_are_left_out():
    found = rows(DIA_SOURCE, diaSourceId=[1, 2], ra=[None, 10.0], dec=[None, 60.0])
    table = STAGE({"dia_source": found, "object": OBJECT.empty()}, Context(settings=LinkHostsSettings())).rows
    assert table["diaSourceId"].to_pylist() == [2]
    assert table["objectId"].to_pylist() == [None]


@pytest.mark.parametrize("angle", [0, 77, 200])
def test_limits_of_distance_and_light_belong_to_the_object(angle):
    object_ = ((1.3, angle), 0.75, 1.0, 0.0)
    (ra, dec), (ra0, dec0) = at([object_[0]]), at([(0.0, 0)])
    east, north = tangent_offsets(ra0[0], dec0[0], np.array(ra), np.array(dec))
    limit = float(3600 * np.hypot(east, north)[0])
    for one, on in ((limit, 0), (limit * (1 - 1e-12), None)):
        (found,) = link([(0.0, 0)], [object_], on_arcsec=one)
        assert found["objectId"] == on
        assert (found["separation"] is None) == (on is None)
    direction, shape = np.degrees(np.arctan2(east, north)), [np.array([one]) for one in object_[1:]]
    radii = float(directional_distance(3600 * np.hypot(east, north), direction, *shape)[0])
    assert radii == pytest.approx(1.3 / 0.75)
    for one, host in ((radii, 0), (radii * (1 - 1e-12), None)):
        (found,) = link([(0.0, 0)], [object_], max_dlr=one, search_arcsec=5)
        assert found["hostObjectId"] == host
        assert (found["hostDlr"] is None) == (host is None)
        assert found["objectId"] == 0


def test_directions_of_east_and_west_differ_for_an_oblique_host():
    for direction, host in ((45, 0), (225, 0), (-45, None), (135, None)):
        (found,) = link([(0.0, 0)], [((4.0, direction), 1.0, 4.0, 45.0)])  # 2 arcsec along, 1/2 across
        assert found["hostObjectId"] == host
        if host == 0:
            assert found["hostDlr"] == pytest.approx(2.0, rel=1e-4)


def linked_once(separation, length=None, sources=1, exposures=(1, 1), bands="gr"):
    """Link of a detection to an object north of it that is of some sources on exposures in two bands."""
    (ra, dec), (ra0, dec0) = at([(separation, 0)]), at([(0.0, 0)])
    found = rows(DIA_SOURCE, diaSourceId=[100], ra=ra0, dec=dec0, trailLength=[length])
    shape = {"halfLightRadius": [3.0], "elongation": [1.0], "positionAngle": [0.0]}
    of_bands = {f"{band}_nExposures": [count] for band, count in zip(bands, exposures, strict=True)}
    counts = {"nSources": [sources], **of_bands}
    known = rows(OBJECT, objectId=[5], ra=ra, dec=dec, **shape, **counts)
    (link,) = STAGE({"dia_source": found, "object": known}, Context(settings=LinkHostsSettings())).rows.to_pylist()
    return link["objectId"], link["hostObjectId"]


@pytest.mark.parametrize(("separation", "length"), [(0.2, None), (1.4, 2.0), (7.9, 16.0)])
def test_what_was_seen_once_in_the_light_of_the_detection_is_the_detection(separation, length):
    on = 5 if separation < 1.5 else None
    assert linked_once(separation, length) == (None, None)
    assert linked_once(separation, length, exposures=(0, 2)) == (None, None)
    assert linked_once(separation, length, exposures=(2, 0), bands="yu") == (None, None)
    assert linked_once(separation, length, sources=2) == (on, 5)  # seen again: it is at rest
    assert linked_once(separation, length, exposures=(0, 1)) == (on, 5)  # no other exposure could have shown it
    assert linked_once(separation, length, exposures=(0, 0)) == (on, 5)  # not known: no zero point


def test_what_was_seen_once_beyond_the_light_of_the_detection_may_be_its_host():
    assert linked_once(2.0) == (None, 5)
    assert linked_once(8.1, 16.0) == (None, 5)


def test_where_there_is_nothing_nothing_is_linked():
    none = {"dia_source": rows(DIA_SOURCE), "object": rows(OBJECT)}
    assert len(STAGE(none, Context(settings=LinkHostsSettings())).rows) == 0
    alone = {**none, "dia_source": rows(DIA_SOURCE, diaSourceId=[1], ra=[10.0], dec=[20.0])}
    assert STAGE(alone, Context(settings=LinkHostsSettings())).rows["objectId"].to_pylist() == [None]
    beside = {**none, "object": rows(OBJECT, objectId=[1], ra=[10.0], dec=[20.0])}
    assert len(STAGE(beside, Context(settings=LinkHostsSettings())).rows) == 0


def test_each_detection_has_its_own_row_and_the_objects_of_no_other():
    offsets = [(0.0, 0), (200.0, 90), (400.0, 90), (600.0, 90)]
    objects = [((offset + 0.5, 90), 1.0, 1.0, 0.0) for offset in (600.0, 200.0)]
    found = link(offsets, objects)
    assert [one["objectId"] for one in found] == [None, 1, None, 0]
    assert [one["hostObjectId"] for one in found] == [None, 1, None, 0]
    for one in (found[1], found[3]):
        assert one["separation"] == one["hostSeparation"] == pytest.approx(0.5, abs=1e-3)
    assert [one["objectId"] for one in link(offsets[:1], objects[:1])] == [None]

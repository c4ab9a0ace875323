import numpy as np
import pyarrow as pa
from astropy import units as u
from astropy.coordinates import SkyCoord

from schemas.dia_source import DIA_SOURCE
from schemas.objects import DIA_LINK, OBJECT
from schemas.settings import LinkHostsSettings
from schemas.stage import Context
from stages.link_hosts import STAGE

CENTRE = SkyCoord(10.0, 60.0, unit="deg")


def rows(dataset, **given):
    count = len(next(iter(given.values())))
    columns = {}
    for field in dataset.schema:
        value = "r" if pa.types.is_string(field.type) else None if field.nullable else 0
        columns[field.name] = pa.array(given.get(field.name, [value] * count), field.type)
    return pa.table(columns, schema=dataset.schema)


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

import numpy as np
import pyarrow as pa
import pytest

from flows.nights.association import associate
from flows.publish.history import ForcedPlaces, ObjectsSeen, opened_history
from flows.publish.publish import PublishTotals, alert_packets
from flows.publish.published import PublishedExposures
from flows.publish.rubin_object import KnownOrbits
from flows.publish.rubin_schema import deserialise
from flows.storage.association_store import opened_association
from flows.storage.catalog_store import CatalogStore
from flows.storage.digest import file_digest
from flows.storage.ledger import Ledger
from schemas.errors import Retryable
from schemas.forced import FORCED_SOURCE
from schemas.ledger import ProvenanceRecord
from schemas.settings import AssociationSettings, Settings
from tests.support.alert_night import info_of, make_night, put, rows_of, visit_of
from tests.support.forced import MJD
from tests.support.orbits import asteroids, write_mpcorb


def forced_rows(info, names, ra, dec, lengths):
    count = len(names)
    given = {
        "targetName": names, "visit": [info.visit] * count, "detector": [0] * count, "band": ["r"] * count,
        "midpointMjdTai": [info.midpoint_mjd_tai] * count, "ra": ra, "dec": dec, "trailLength": lengths,
        "psfFlux": [100.0 + n for n in range(count)], "psfFluxErr": [10.0] * count,
    }  # fmt: skip
    arrays = [pa.array(given.get(field.name, [0] * count)).cast(field.type) for field in FORCED_SOURCE.schema]
    return pa.Table.from_arrays(arrays, schema=FORCED_SOURCE.schema)


def test_forced_fluxes_at_the_place_of_an_object_are_its_history(tmp_path):
    out = tmp_path / "out"
    x, y = np.array([100.0]), np.array([110.0])
    for n in range(3):
        put(out, info_of(n, planes=()), rows_of(info_of(n, planes=()), x, y))
    assert not associate(out, AssociationSettings(), None).summary.failed
    row = rows_of(info_of(0), x, y)
    ra, dec = row["ra"][0].as_py(), row["dec"][0].as_py()
    for n in range(3):
        info = info_of(n)
        beside = [dec, dec + 0.7 / 3600, dec + 0.8 / 3600, dec]  # within association.min_arcsec, 0.75
        rows = forced_rows(info, ["a", "near", "far", "moves"], [ra] * 4, beside, [0.0, 0.0, 0.0, 5.0])
        CatalogStore(out).publish(FORCED_SOURCE, info, rows, "forced")
    (packet,) = alert_packets(out, Settings(), "11.1", PublishTotals(), visit=visit_of(2))
    alert = deserialise(packet.body, "11.1")
    found = alert["prvDiaForcedSources"]
    assert [(one["visit"], one["psfFlux"]) for one in found] == [(visit_of(n), f) for n in range(2) for f in (100, 101)]
    assert len({one["diaForcedSourceId"] for one in found}) == 4
    assert {one["diaObjectId"] for one in found} == {alert["diaSource"]["diaObjectId"]}
    assert (found[0]["ra"], found[0]["dec"], found[0]["midpointMjdTai"]) == (ra, dec, MJD)
    assert found[0]["timeProcessedMjdTai"] == alert["prvDiaSources"][0]["timeProcessedMjdTai"]
    (first,) = alert_packets(out, Settings(), "11.1", PublishTotals(), visit=visit_of(0))
    assert deserialise(first.body, "11.1")["prvDiaForcedSources"] is None


def test_without_association_alerts_have_no_objects(tmp_path):
    out = make_night(tmp_path / "out", visits=2, count=3, planes=())
    settings = Settings(association={"store": "none"})
    for packet in alert_packets(out, settings, "11.1", PublishTotals()):
        alert = deserialise(packet.body, "11.1")
        assert alert["diaObject"] is alert["prvDiaSources"] is alert["diaSource"]["diaObjectId"] is None


def test_an_exposure_that_is_published_no_more_is_in_no_history(tmp_path):
    out = make_night(tmp_path / "out", count=3, planes=())
    Ledger(out).remove(info_of(0))
    for packet in alert_packets(out, Settings(), "11.1", PublishTotals(), visit=visit_of(2)):
        earlier = deserialise(packet.body, "11.1")["prvDiaSources"]
        assert [one["visit"] for one in earlier] == [visit_of(1)]


def test_the_store_knows_the_objects_of_an_exposure(tmp_path):
    out = make_night(tmp_path / "out", count=5, detectors=2, planes=())
    with opened_association(out, AssociationSettings()) as store:
        found = store.of_exposure(info_of(1, detector=1))
        assert store.of_exposure(info_of(7)).num_rows == 0
    assert found["midpointMjdTai"].to_pylist() == [info_of(n).midpoint_mjd_tai for n in range(3)] * 5
    assert {one >> 12 & 0x1FF for one in found["diaSourceId"].to_pylist()} == {1}


def _provenance(path, sha256):
    return ProvenanceRecord(
        settings={"predict_known": {"orbits": str(path)}}, models={}, stages={}, files={"orbits": sha256},
        software="0", code="0",
    )  # fmt: skip


HALLEY = (
    "0001P         2061 08  3.1476  0.571114  0.968020  112.1962   59.2960  162.1871  20260827   5.5  3.2  "
    "1P/Halley                                                MPC191592"
)


def test_orbits_are_those_of_the_file(tmp_path):
    orbits = asteroids(5, 61000.0)
    path = write_mpcorb(tmp_path / "MPCORB.DAT", orbits)
    known = KnownOrbits(_provenance(path, file_digest(path)))
    found = known.record("2026 TA3")
    assert found["packed_primary_provisional_designation"] == "K26T03A"
    expected = {
        "a": orbits.axis[3], "e": orbits.eccentricity[3], "i": orbits.inclination[3], "node": orbits.node[3],
        "argperi": orbits.perihelion[3], "mean_anomaly": orbits.anomaly[3], "h": orbits.magnitude[3],
        "epoch_mjd": 61000.0, "q": orbits.axis[3] * (1 - orbits.eccentricity[3]),
        "mean_motion": 0.9856076686 / orbits.axis[3] ** 1.5,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["period"] * found["mean_motion"] == pytest.approx(360)
    assert "a" not in known.record("2026 TB9")


def test_orbits_of_comets_have_what_their_shape_has(tmp_path):
    path = tmp_path / "CometEls.txt"
    path.write_text(
        f"{HALLEY}\n{HALLEY.replace('0.968020', '1.000000').replace('0001P', '0009P').replace('1P/', '9P/')}\n"
    )
    known = KnownOrbits(_provenance(path, file_digest(path)))
    found = known.record("1P/Halley")
    assert found["packed_primary_provisional_designation"] == "0001P"
    assert (found["q"], found["e"]) == (0.571114, 0.96802)
    assert found["period"] == pytest.approx(75.5 * 365.25, rel=0.01)
    assert {"a", "period", "mean_anomaly"}.isdisjoint(known.record("9P/Halley"))


def test_orbits_of_another_file_are_left_out(tmp_path):
    path = write_mpcorb(tmp_path / "MPCORB.DAT", asteroids(5, 61000.0))
    for provenance in (_provenance(path, "0" * 64), _provenance(tmp_path / "none", "0" * 64), None):
        assert set(KnownOrbits(provenance).record("2026 TA3")) == {
            "id", "designation", "packed_primary_provisional_designation", "unpacked_primary_provisional_designation"
        }  # fmt: skip


def test_an_exposure_that_is_not_associated_has_no_objects_or_has_to_wait(tmp_path):
    out, info = make_night(tmp_path / "out", visits=1, count=3, planes=()), info_of(1, planes=())
    put(out, info, rows_of(info, np.array([60.0]), np.array([70.0])))
    published = PublishedExposures(out)
    record = published.record(info)
    with opened_history(published, AssociationSettings(), 365.0, "11.1") as found:
        assert found.of(record, info.midpoint_mjd_tai) == ObjectsSeen()
    with (
        opened_history(published, AssociationSettings(), 365.0, "11.1", complete=True) as found,
        pytest.raises(Retryable) as caught,
    ):
        found.of(record, info.midpoint_mjd_tai)
    assert caught.value.code == "not_associated"


def test_forced_fluxes_of_what_is_published_no_more_are_none(tmp_path):
    out, info = make_night(tmp_path / "out", visits=2, count=3, planes=()), info_of(0)
    for one in (info, info_of(1)):
        rows = forced_rows(one, ["a", "b"], [150.0, 150.1], [20.0, 20.0], [0.0, 9.0])
        CatalogStore(out).publish(FORCED_SOURCE, one, rows, "d")
    lacking = []
    both = ForcedPlaces.of(PublishedExposures(out), 1.0, lacking.append)
    assert sorted(both.rows["visit"]) == [visit_of(0), visit_of(1)]  # points alone, not trails
    Ledger(out).remove(info)
    assert ForcedPlaces.of(PublishedExposures(out), 1.0, lacking.append).rows["visit"] == [visit_of(1)]
    Ledger(out).remove(info_of(1))
    assert ForcedPlaces.of(PublishedExposures(out), 1.0, lacking.append) is None
    assert lacking == []

import io

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial import cKDTree

from flows.nights.association import associate
from flows.publish.history import ForcedPlaces, History, ObjectsSeen, opened_history, visit_digests
from flows.publish.publish import PublishTotals, alert_packets
from flows.publish.published import PublishedExposures
from flows.publish.rubin_object import KnownOrbits
from flows.publish.rubin_schema import deserialise, record_schema
from flows.storage.association_store import opened_association
from flows.storage.association_tables import FILE
from flows.storage.catalog_store import CatalogStore
from flows.storage.digest import file_digest
from flows.storage.ledger import Ledger
from kernels.sky.positions import unit_vectors
from schemas.errors import Retryable
from schemas.forced import FORCED_SOURCE
from schemas.ledger import ProvenanceRecord
from schemas.settings import AssociationSettings, Settings
from tests.support.alert_night import NIGHT, info_of, make_night, put, rows_of, visit_of
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


def test_nothing_is_made_where_nothing_was_associated(tmp_path):
    info = info_of(0, planes=())
    put(tmp_path, info, rows_of(info, np.array([60.0]), np.array([70.0])))
    published = PublishedExposures(tmp_path)
    for store in ("auto", "none"):
        with opened_history(published, AssociationSettings(store=store), 365.0, "11.1") as found:
            assert found.of(published.record(info), info.midpoint_mjd_tai) == ObjectsSeen()
    assert not (tmp_path / FILE).exists()


def test_the_digest_of_a_visit_changes_with_its_exposures_and_their_association(tmp_path):
    visits, digests = [(NIGHT, visit_of(n)) for n in range(2)], []

    def note(settings=AssociationSettings()):  # noqa: B008
        found = visit_digests(PublishedExposures(tmp_path), settings, visits)
        assert list(found) == visits
        digests.append(tuple(found.values()))

    for n in range(2):
        info = info_of(n, planes=())
        put(tmp_path, info, rows_of(info, np.array([60.0]), np.array([70.0])))
        if not n:
            assert not associate(tmp_path, AssociationSettings(), None).summary.failed
            note()
    note()
    note(AssociationSettings(store="none"))
    assert not associate(tmp_path, AssociationSettings(), None).summary.failed
    note()
    first, second = zip(*digests, strict=True)
    assert first[0] == first[1] == first[3] != first[2]  # it was associated, and stays so
    assert second[0] != second[1] == second[2] != second[3] != second[0]
    assert first[2] != second[2]


@pytest.fixture
def overlapping(tmp_path):
    """An object on three visits, the last of which has two detectors that show it; ids are the last of exposures."""
    for n, detector in ((0, 0), (1, 0), (2, 0), (2, 1)):
        info = info_of(n, planes=(), wcs_header=info_of(0).wcs_header).model_copy(update={"detector": detector})
        ids = np.array([(info.visit << 21) | (detector << 12) | 4095])
        put(tmp_path, info, rows_of(info, np.array([60.0]), np.array([70.0]), diaSourceId=ids))
    assert not associate(tmp_path, AssociationSettings(), None).summary.failed
    return PublishedExposures(tmp_path)


def test_what_another_detector_sees_at_the_same_time_is_not_earlier(overlapping):
    info = info_of(2, planes=())
    with opened_association(overlapping.out, AssociationSettings()) as store:
        history = History(overlapping, store, None, 365.0, "11.1", pytest.fail)
        found = history.of(overlapping.record(info), info.midpoint_mjd_tai)
    assert list(found.of_source) == [info.visit << 21 | 4095]
    (identity,) = found.of_source.values()
    assert list(found.records) == [identity]
    assert len(found.sources[identity]) == 2
    assert read_object(found.records[identity])["nDiaSources"] == 3


@pytest.mark.parametrize(("more", "count"), [(0.0, 2), (-1e-6, 1), (-1.0, 0)])
def test_a_history_begins_so_many_days_before(overlapping, more, count):
    info, first = info_of(2, planes=()), info_of(0)
    days = max(info.midpoint_mjd_tai - first.midpoint_mjd_tai + more, 0.0)
    with opened_history(overlapping, AssociationSettings(), days, "11.1") as history:
        found = history.of(overlapping.record(info), info.midpoint_mjd_tai)
    assert sum(map(len, found.sources.values())) == count
    (record,) = found.records.values()
    assert read_object(record)["nDiaSources"] == 3  # whatever the history has


def read_object(record):
    return dict(fastavro.schemaless_reader(io.BytesIO(record), record_schema("diaObject", "11.1"), None))


def test_an_exposure_need_not_be_associated_unless_it_is_asked_for(overlapping):
    info = info_of(3, planes=())
    put(overlapping.out, info, rows_of(info, np.array([60.0]), np.array([70.0])))
    with opened_association(overlapping.out, AssociationSettings()) as store:
        history = History(overlapping, store, None, 365.0, "11.1", pytest.fail)
        assert history.of(overlapping.record(info), info.midpoint_mjd_tai) == ObjectsSeen()


def test_fluxes_at_a_place_are_of_the_times_asked_for_and_first_those_of_the_object_itself():
    names, visits = ["7", "other", "other", "7", "other"], [1, 1, 2, 3, 4]
    rows = {"visit": visits, "detector": [0] * 5, "midpointMjdTai": [1.0, 1.0, 2.0, 3.0, 4.0], "psfFlux": [*range(5)]}
    place = unit_vectors(np.full(5, 10.0), np.full(5, 20.0))
    forced = ForcedPlaces(rows, names, cKDTree(place), 1e-6)
    objects = pa.table({"diaObjectId": [7, 8], "ra": [10.0, 10.0], "dec": [20.0, 20.0]})

    def fluxes(since, until):
        return {one: [row["psfFlux"] for row in rows] for one, rows in forced.near(objects, since, until).items()}

    assert fluxes(0.0, 9.0) == {7: [0, 2, 3, 4], 8: [0, 1, 2, 3, 4]}
    assert fluxes(1.0, 4.0) == {7: [0, 2, 3], 8: [0, 1, 2, 3]}
    assert fluxes(1.5, 3.0) == {7: [2], 8: [2]}

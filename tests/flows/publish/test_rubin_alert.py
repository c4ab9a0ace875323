"""Alerts of nights that are made up, field by field."""

import io
import shutil

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData

from flows.nights.association import associate
from flows.publish.publish import PublishTotals, alert_packets
from flows.publish.rubin_schema import SCHEMAS, deserialise
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from schemas.dia_source import DIA_SOURCE, DetectionFlag
from schemas.exposure import ExposureKey
from schemas.known_object import SS_SOURCE
from schemas.pixels import MaskPlane
from schemas.settings import AssociationSettings, Settings
from tests.support.alert_night import FLUX, NIGHT, exposure_planes, info_of, make_night, put, rows_of, visit_of
from tests.support.forced import MJD, NOISE

NJY = 10 ** ((31.4 - 26.0) / 2.5)
CUTOUTS = ("cutoutDifference", "cutoutScience", "cutoutTemplate")


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return make_night(tmp_path_factory.mktemp("night") / "out")


def sent(out, version="11.1", tally=None, **options):
    """Alerts by diaSourceId, decoded."""
    found = list(alert_packets(out, Settings(), version, tally or PublishTotals(), **options))
    return {one.source_id: deserialise(one.body, version) for one in found}


def published(out, n, name=NIGHT):
    return CatalogStore(out).read(DIA_SOURCE, ExposureKey(night=name, visit=visit_of(n), detector=0))


def one_exposure(out, n=0, planes=(), columns=None, known=None, count=4, **changes):
    """Publish an exposure of a few detections, without objects."""
    info = info_of(n, planes=planes, **changes)
    x, y = np.linspace(60, 200, count), np.linspace(70, 220, count)
    rows = rows_of(info, x, y, **(columns or {}))
    put(out, info, rows, None if planes is None else exposure_planes(info, x, y, n), known=known)
    return rows


def test_each_published_detection_is_an_alert(night):
    tally = PublishTotals()
    found = sent(night, tally=tally)
    rows = pa.concat_tables([published(night, n) for n in range(3)])
    assert list(found) == rows["diaSourceId"].to_pylist()
    assert (tally.visits, tally.skipped, tally.refused, tally.failed) == (3, {}, 0, [])


@pytest.mark.parametrize("version", SCHEMAS)
def test_columns_are_those_of_the_catalogue(night, version):
    found = sent(night, version, visit=visit_of(1))
    same = [
        "visit", "detector", "midpointMjdTai", "ra", "dec", "raErr", "decErr", "xErr", "yErr", "apFlux", "apFluxErr",
        "snr", "psfFlux", "psfFluxErr", "psfChi2", "trailRa", "trailDec", "trailLength", "trailLengthErr",
        "trailAngle", "trailNdata", "reliability", "band", "bboxSize", "trailFlux", "trailAngleErr", "trailChi2",
    ]  # fmt: skip
    same += ["exposureTime", "reliabilityVersion"] if version == "11.1" else []
    for row in published(night, 1).to_pylist():
        source = found[row["diaSourceId"]]["diaSource"]
        assert {name: source[name] for name in same} == {name: row[name] for name in same}
        assert source["diaSourceId"] == row["diaSourceId"]
        assert (source["x"], source["y"]) == (np.float32(row["x"]), np.float32(row["y"]))
        assert (source["trailRaErr"], source["trailDecErr"]) == (row["raErr"], row["decErr"])
        assert (source["psfNdata"], source["dipoleNdata"]) == (97, 0)
        assert not any(value for name, value in source.items() if name.startswith("pixelFlags_injected"))
        assert ("trail_flag" in source) == (version == "11.1")


def test_the_time_of_processing_is_that_of_the_ledger(night):
    for n in range(3):
        # 2026-01-02T00:MM:00 UTC, 37 leap seconds before TAI
        expected = 61042 + (visit_of(n) % 60) / 1440 + 37 / 86400
        for alert in sent(night, visit=visit_of(n)).values():
            assert alert["diaSource"]["timeProcessedMjdTai"] == pytest.approx(expected, abs=1e-9)
            assert alert["diaObject"]["validityStartMjdTai"] == alert["diaSource"]["timeProcessedMjdTai"]


def test_the_history_is_what_was_seen_before(night):
    found = sent(night)
    for n in range(3):
        for identity, alert in ((one, found[one]) for one in published(night, n)["diaSourceId"].to_pylist()):
            earlier = alert["prvDiaSources"] or []
            assert [one["visit"] for one in earlier] == [visit_of(m) for m in range(n)]
            owner = alert["diaSource"]["diaObjectId"]
            assert {one["diaObjectId"] for one in earlier} <= {owner}
            assert alert["diaObject"]["diaObjectId"] == owner
            assert alert["diaObject"]["nDiaSources"] == alert["diaObject"]["r_psfFluxNdata"] == n + 1
            assert alert["diaObject"]["firstDiaSourceMjdTai"] == MJD
            assert alert["diaObject"]["lastDiaSourceMjdTai"] == alert["diaSource"]["midpointMjdTai"]
            for one in earlier:  # as it was itself, but for what pixels told
                then = found[one["diaSourceId"]]["diaSource"]
                assert {name: then[name] for name, value in one.items() if value is not None} == {
                    name: value for name, value in one.items() if value is not None
                }
            assert identity == alert["diaSource"]["diaSourceId"]


def test_a_visit_says_the_same_before_and_after_the_next(tmp_path, night):
    early = make_night(tmp_path / "out", visits=2)
    assert sent(early, visit=visit_of(1)) == sent(night, visit=visit_of(1))


def test_a_repeat_has_the_same_bytes(night):
    bodies = [[one.body for one in alert_packets(night, Settings(), "11.1", PublishTotals())] for _ in range(2)]
    assert bodies[0] == bodies[1]


def test_histories_reach_back_as_far_as_is_set(tmp_path):
    out = tmp_path / "out"
    x, y = np.array([100.0]), np.array([110.0])
    for n, days in enumerate((0, 360, 370)):
        info = info_of(n, planes=(), midpoint_mjd_tai=MJD + days, night=f"202{6 + (days > 300)}0101")
        put(out, info, rows_of(info, x, y))
    assert not associate(out, AssociationSettings(), None).summary.failed
    (last,) = sent(out, visit=visit_of(2)).values()
    assert [one["visit"] for one in last["prvDiaSources"]] == [visit_of(1)]
    assert last["diaObject"]["nDiaSources"] == 3
    settings = Settings(alerts={"history_days": 371})
    (packet,) = alert_packets(out, settings, "11.1", PublishTotals(), visit=visit_of(2))
    assert len(deserialise(packet.body, "11.1")["prvDiaSources"]) == 2


def test_cutouts_are_the_pixels_in_njy(night):
    x, y = published(night, 1)["x"].to_pylist(), published(night, 1)["y"].to_pylist()
    info = info_of(1)
    planes = exposure_planes(info, x, y, 5 + 10)
    for n, alert in enumerate(sent(night, visit=visit_of(1)).values()):
        for name, plane in zip(CUTOUTS, ("difference", "science", "template"), strict=True):
            found = CCDData.read(io.BytesIO(alert[name]), format="fits")
            assert found.unit == u.nJy
            assert found.shape == (30, 30)
            x0, y0 = found.header["CUTMINX"], found.header["CUTMINY"]
            assert found.header["PLANE"] == plane
            inside = np.isfinite(found.data)
            yy, xx = np.nonzero(inside)
            np.testing.assert_allclose(found.data[inside], NJY * planes[plane][yy + y0, xx + x0], rtol=1e-5)
            assert found.header["OUTSIDE"] == (~inside).sum()
            assert found.mask[~inside].all()
            assert not found.mask[inside].any()
            sky = found.wcs.pixel_to_world(x[n] - x0, y[n] - y0)
            place = SkyCoord(alert["diaSource"]["ra"], alert["diaSource"]["dec"], unit="deg")
            assert sky.separation(place).arcsec < 1e-5
            assert found.psf.sum() == pytest.approx(1)
            np.testing.assert_allclose(found.uncertainty.array[inside], (NJY * NOISE) ** 2, rtol=0.5)
            assert np.isnan(found.uncertainty.array[~inside]).all()
    assert CCDData.read(io.BytesIO(alert[CUTOUTS[0]]), format="fits").header["ROTPA"] == pytest.approx(
        0, abs=0.05
    )  # meridians meet


def test_fluxes_on_science_and_template_are_measured(night):
    sources = [one["diaSource"] for one in sent(night, visit=visit_of(0)).values()]
    for name, times in (("scienceFlux", 2), ("templateFlux", 1)):
        values = np.array([one[name] for one in sources])
        errors = np.array([one[f"{name}Err"] for one in sources])
        assert (abs(values - times * FLUX * NJY) < 5 * errors).all()
        assert (errors < 0.2 * FLUX * NJY).all()


def test_a_template_of_unknown_scale_has_no_flux(tmp_path):
    one_exposure(tmp_path, planes=("science", "template"), flags=())
    for alert in sent(tmp_path).values():
        assert alert["diaSource"]["templateFlux"] is None
        assert alert["diaSource"]["scienceFlux"] is not None
        assert CCDData.read(io.BytesIO(alert["cutoutTemplate"]), format="fits").unit == u.adu


def test_sides_of_cutouts_are_those_of_the_box_within_limits(tmp_path):
    one_exposure(tmp_path, columns={"bboxSize": np.array([9, 41, 102, 300])})
    found = [CCDData.read(io.BytesIO(one["cutoutDifference"]), format="fits") for one in sent(tmp_path).values()]
    assert sorted(one.shape for one in found) == [(30, 30), (41, 41), (102, 102), (102, 102)]
    assert [one["diaSource"]["bboxSize"] for one in sent(tmp_path).values()] == [9, 41, 102, 300]


def test_flags_are_those_of_the_footprint(tmp_path):
    out, count = tmp_path / "out", 6
    info = info_of(0, planes=())
    x, y = np.linspace(50, 250, count), np.full(count, 100.0)
    planes = exposure_planes(info, x, y, 1)
    at = [(round(one), 100) for one in x]
    planes["mask"][at[0][1] + 1, at[0][0] - 1] = MaskPlane.SAT  # in a corner of the centre
    planes["mask"][at[1][1] + 2, at[1][0]] = MaskPlane.BAD | MaskPlane.INTRP  # in the footprint
    planes["mask"][at[2][1] + 9, at[2][0]] = MaskPlane.CR  # in the cutout only
    planes["mask"][at[3][1], at[3][0] + 9] = MaskPlane.CR  # under a trail of 24 px along x
    length = np.array([0, 0, 0, 24, 0, 0.0])
    flags = np.array([0, 0, 0, 0, DetectionFlag.EDGE | DetectionFlag.SATELLITE, DetectionFlag.FIT_FAILED])
    rows = rows_of(info, x, y, trailLengthPx=length, trailAnglePx=np.zeros(count), flags=flags,
                   trailClass=["", "", "", "", "glint_trail", ""], bboxSize=np.full(count, 34))  # fmt: skip
    put(out, info, rows, planes)
    saturated, bad, clean, trail, satellite, failed = (one["diaSource"] for one in sent(out).values())
    told = {
        "pixelFlags_saturated": (saturated,), "pixelFlags_saturatedCenter": (saturated,), "pixelFlags_bad": (bad,),
        "pixelFlags_interpolated": (bad,), "pixelFlags_interpolatedCenter": (),
        "pixelFlags_cr": (trail,), "pixelFlags_crCenter": (), "pixelFlags_streak": (satellite,),
        "trail_flag_edge": (satellite,), "glint_trail": (satellite,), "trail_flag": (failed,),
        "centroid_flag": (failed,),
    }  # fmt: skip
    for name, those in told.items():
        assert [one for one in (saturated, bad, clean, trail, satellite, failed) if one[name]] == list(those), name


def test_detections_without_a_place_or_a_time_are_counted(tmp_path):
    one_exposure(tmp_path)
    one_exposure(tmp_path, 2, columns={"flags": np.full(4, int(DetectionFlag.NO_TIME))})
    one_exposure(tmp_path, 1, columns={"ra": [np.nan, 1.0, np.nan, np.nan], "dec": [np.nan, 1.0, np.nan, np.nan]})
    tally = PublishTotals()
    assert len(sent(tmp_path, tally=tally)) == 5
    assert tally.skipped == {"no_position": 3, "no_time": 4}


def test_a_detection_without_errors_or_zero_point_is_an_alert(tmp_path):
    empty = np.full(4, np.nan)
    columns = dict.fromkeys(("raErr", "decErr", "psfFlux", "psfFluxErr", "apFlux", "apFluxErr", "psfChi2"), empty)
    one_exposure(tmp_path, planes=("science",), columns=columns, zero_point=None)
    for alert in sent(tmp_path).values():
        source = alert["diaSource"]
        assert all(source[name] is None for name in (*columns, "trailRaErr", "scienceFlux", "templateFlux"))
        assert source["psfFlux_flag"]
        assert CCDData.read(io.BytesIO(alert["cutoutDifference"]), format="fits").unit == u.adu
        assert alert["cutoutTemplate"] is None


def test_without_pixels_there_are_no_cutouts(tmp_path, night):
    out = shutil.copytree(night, tmp_path / "out")
    shutil.rmtree(tile_path(out, info_of(2)))
    for alert in sent(out, visit=visit_of(2)).values():
        assert all(alert[name] is None for name in CUTOUTS)
        assert alert["diaSource"]["pixelFlags_bad"] is None
        assert alert["diaSource"]["pixelFlags_saturated"] is False
        assert len(alert["prvDiaSources"]) == 2


def test_what_cannot_be_read_fails_alone(tmp_path, night):
    out = shutil.copytree(night, tmp_path / "out")
    path = CatalogStore(out).path(DIA_SOURCE, info_of(2))
    path.write_bytes(path.read_bytes()[:-200])
    tally = PublishTotals()
    found = sent(out, tally=tally)
    assert {one["diaSource"]["visit"] for one in found.values()} == {visit_of(0), visit_of(1)}
    assert len(tally.failed) == 1
    assert tally.exposures_failed == 1
    assert path.name in str(tally.failed[0])


def known_table(ids, names):
    count = len(ids)
    given = {
        "diaSourceId": ids, "ssObjectId": [7 + n for n in range(count)], "designation": names,
        "ephRa": [150.0] * count, "ephDec": [20.0] * count, "ephRate": [0.2] * count, "ephRateAngle": [30.0] * count,
        "ephVmag": [None] * count,
    }  # fmt: skip
    arrays = [pa.array(given.get(field.name, [1.5] * count), field.type) for field in SS_SOURCE.schema]
    return pa.Table.from_arrays(arrays, schema=SS_SOURCE.schema)


def test_known_objects_are_named(tmp_path):
    ids = (visit_of(0) << 21) + np.arange(4)
    known = known_table(ids[[1, 3]].tolist(), ["2026 AB12", "C/2020 F3"])
    rows = one_exposure(tmp_path, known=known)
    found = sent(tmp_path)
    other, minor, _, comet = (found[one] for one in ids.tolist())
    assert other["ssSource"] is other["mpc_orbits"] is other["diaSource"]["ssObjectId"] is None
    assert (minor["diaSource"]["ssObjectId"], comet["diaSource"]["ssObjectId"]) == (7, 8)
    assert minor["mpc_orbits"]["packed_primary_provisional_designation"] == "K26A12B"
    assert minor["mpc_orbits"]["unpacked_primary_provisional_designation"] == "2026 AB12"
    assert comet["mpc_orbits"] is None
    seen = minor["ssSource"]
    place = SkyCoord(rows["ra"][1].as_py(), rows["dec"][1].as_py(), unit="deg")
    assert seen["diaSourceId"] == ids[1]
    assert seen["designation"] == "2026 AB12"
    assert (seen["eclLambda"], seen["eclBeta"]) == pytest.approx(
        (place.barycentricmeanecliptic.lon.deg, place.barycentricmeanecliptic.lat.deg)
    )
    assert (seen["galLon"], seen["galLat"]) == pytest.approx((place.galactic.l.deg, place.galactic.b.deg))
    east, north = SkyCoord(150.0, 20.0, unit="deg").spherical_offsets_to(place)
    assert (seen["ephOffsetRa"], seen["ephOffsetDec"]) == pytest.approx((east.arcsec, north.arcsec), rel=1e-4)
    assert (seen["ephRateRa"], seen["ephRateDec"]) == pytest.approx((0.1, 0.2 * np.cos(np.pi / 6)))
    assert seen["ephVmag"] is None

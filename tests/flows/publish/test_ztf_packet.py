"""Packets in ZTF's form of nights that are made up: read by fastavro and astropy, and by our own reader."""

import gzip
import hashlib
import io
import json

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.time import Time

from flows.inputs.packet_files import packet_files, read_packets, read_records
from flows.inputs.ztf_packets import identify
from flows.nights.association import associate
from flows.publish.publish import PublishTotals, alert_packets
from flows.publish.sinks import FolderSink
from flows.publish.stamps import Stamps
from flows.publish.ztf_packet import _cutouts, _magnitude
from flows.publish.ztf_schema import stamp_record, ztf_schema
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.zarr_tiles import TileStore
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureKey
from schemas.pixels import MaskPlane
from schemas.settings import AssociationSettings, Settings
from tests.flows.publish.test_rubin_alert import known_table
from tests.support.alert_night import FLUX, NIGHT, exposure_planes, info_of, make_night, put, rows_of, visit_of
from tests.support.cli import nightstride
from tests.support.ztf import ARCHIVES, FOLDER, members, real_packets

STAMPS = {"cutoutDifference": "difference", "cutoutScience": "science", "cutoutTemplate": "template"}


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return make_night(tmp_path_factory.mktemp("night") / "out", band="r")


@pytest.fixture(scope="module")
def sent(night, tmp_path_factory):
    """Folder that the command has sent the night's alerts to."""
    folder = tmp_path_factory.mktemp("sent")
    found = nightstride("alerts", "publish", night, "--to", folder, "--schema", "ztf", "--json")
    assert found.code == 0, found.stderr
    assert json.loads(found.stdout.splitlines()[-1])["alerts"] == 36
    return folder


def alerts(folder):
    return [one for path in sorted(folder.glob("*.avro")) for one in fastavro.reader(io.BytesIO(path.read_bytes()))]


def published(out, n):
    key = ExposureKey(night=NIGHT, visit=visit_of(n), detector=0)
    return CatalogStore(out).read(DIA_SOURCE, key).to_pylist()


def pixels(alert, name, unit="DN"):
    with fits.open(io.BytesIO(gzip.decompress(alert[name]["stampData"]))) as units:
        units.verify("exception")
        assert units[0].header["BUNIT"] == unit
        return units[0].data


def test_each_detection_is_an_alert_of_its_visit(night, sent):
    assert sorted(path.name for path in sent.iterdir()) == ["100.avro", "101.avro", "102.avro"]
    rows = [row for n in range(3) for row in published(night, n)]
    found = alerts(sent)
    assert [one["candid"] for one in found] == [row["diaSourceId"] for row in rows]
    info = info_of(0, band="r")
    for one, row in zip(found, rows, strict=True):
        candidate = one["candidate"]
        assert candidate["candid"] == one["candid"]
        assert (candidate["ra"], candidate["dec"]) == (row["ra"], row["dec"])
        assert (candidate["xpos"], candidate["ypos"]) == pytest.approx((row["x"] + 1, row["y"] + 1), abs=1e-4)
        assert candidate["magpsf"] == pytest.approx(info.zero_point - 2.5 * np.log10(FLUX), abs=1e-3)
        assert candidate["sigmapsf"] == pytest.approx(1.0857 * 20 / FLUX, rel=1e-3)
        assert candidate["rb"] == candidate["drb"] == pytest.approx(row["reliability"])
        assert (candidate["fid"], candidate["isdiffpos"], candidate["rcid"]) == (2, "t", 0)
        start = Time(row["midpointMjdTai"], format="mjd", scale="tai").utc.jd - info.exposure_time_s / 2 / 86400
        assert candidate["jd"] == pytest.approx(start, abs=1e-8)
        assert candidate["magzpsci"] == info.zero_point
        assert candidate["ssdistnr"] is None  # nobody has looked


def test_stamps_are_the_pixels_about_the_detection(night, sent):
    """63 px on each side, or what the image has of them."""
    truncated = 0
    for n in range(3):
        path = tile_path(night, ExposureKey(night=NIGHT, visit=visit_of(n), detector=0))
        store = TileStore.open(path)
        for one in alerts(sent):
            if one["candidate"]["pid"] // 10_000 != visit_of(n):
                continue
            x, y = (round(one["candidate"][name]) - 1 for name in ("xpos", "ypos"))
            window = np.s_[max(y - 31, 0) : y + 32, max(x - 31, 0) : x + 32]
            for name, plane in STAMPS.items():
                np.testing.assert_array_equal(pixels(one, name), store.read_all(plane)[window])
                assert one[name]["fileName"].endswith(".fits.gz")
            truncated += pixels(one, "cutoutDifference").shape != (63, 63)
    assert truncated == 6


def test_the_history_of_an_object(sent):
    found = alerts(sent)
    first, last = [one for one in found if one["candid"] >> 21 == visit_of(0)], found[-1]
    assert all(one["prv_candidates"] is None for one in first)
    assert last["candidate"]["ndethist"] == 3
    assert [one["candid"] >> 21 for one in last["prv_candidates"]] == [visit_of(0), visit_of(1)]
    assert last["candidate"]["jdstarthist"] == last["prv_candidates"][0]["jd"] < last["candidate"]["jd"]
    same = [one for one in first if one["objectId"] == last["objectId"]]
    assert [one["candid"] for one in same] == [last["prv_candidates"][0]["candid"]]


def test_our_reader_reads_them(night, sent):
    rows = {row["diaSourceId"]: row for n in range(3) for row in published(night, n)}
    found = list(read_packets(sent))
    assert {one.candid for one in found} == rows.keys()
    psf = info_of(0).psf.fwhm_px
    for one in found:
        row = rows[one.candid]
        assert (one.x, one.y) == pytest.approx((row["x"], row["y"]), abs=1e-4)
        assert (one.key.visit, one.key.detector) == (row["visit"], row["detector"])
        assert one.when.midpoint_mjd_tai == pytest.approx(row["midpointMjdTai"], abs=1e-7)
        assert np.sqrt(one.image_fwhm**2 - 3.5) == pytest.approx(psf, rel=1e-6)
        assert one.pixels[one.row, one.column] > 20
        assert one.science.shape == one.template.shape == one.pixels.shape
    names = [one for uri in packet_files([str(sent)]) for one in read_records(uri)]
    assert {identify(one.content, one.name).candid for one in names} == rows.keys()


def test_the_same_detections_give_the_same_bytes(night, sent, tmp_path):
    for path in sent.iterdir():
        again = tmp_path / "again"
        nightstride("alerts", "publish", night, "--to", again, "--schema", "ztf")
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_golden_bytes():
    """Of a stamp: header and pixels by the FITS standard; gzip's own header without a time. Its packing is zlib's."""
    pixels = np.arange(63.0 * 63, dtype=np.float32).reshape(63, 63)
    record = stamp_record(12, "difference", pixels, "DN")
    assert record["fileName"] == "candid12_targ_scimref.fits.gz"
    assert record["stampData"][:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
    plain = gzip.decompress(record["stampData"])
    assert len(plain) == 2880 + 17280
    assert plain[:80] == b"SIMPLE  =                    T".ljust(80)
    buffer = io.BytesIO()
    fits.PrimaryHDU(pixels, fits.Header([("BUNIT", "DN")])).writeto(buffer)
    assert plain[2880:] == buffer.getvalue()[2880:]
    assert hashlib.sha256(plain).hexdigest() == "7560da528ee051d5050a18aba45ef35b732711cf910cdb58bd827d7cdee49b42"


def test_what_has_no_form_in_ztfs_schema_is_refused(tmp_path):
    """Other bands, and fluxes without a magnitude."""
    info = info_of(0, planes=())
    x, y = np.array([60.0, 120.0]), np.array([70.0, 150.0])
    put(tmp_path / "a", info, rows_of(info, x, y, band=["y", "y"]), exposure_planes(info, x, y, 1))
    buried = []

    class Kept(FolderSink):
        def bury(self, packet, error):
            buried.append((packet, error.code))

    tally = PublishTotals(sink=Kept(tmp_path))
    assert list(alert_packets(tmp_path / "a", Settings(), "ztf", tally)) == []
    assert tally.refused == 2
    assert [(json.loads(one.body)["band"], code) for one, code in buried] == 2 * [("y", "no_ztf_form")]
    assert "band 'y'" in str(tally.failed[0])
    put(tmp_path / "b", info, rows_of(info, x, y, band=["g", "g"], psfFlux=np.array([-5.0, 900.0])), None)
    tally = PublishTotals()
    (one,) = alert_packets(tmp_path / "b", Settings(), "ztf", tally)
    assert tally.refused == 1
    alert = fastavro.schemaless_reader(io.BytesIO(one.body), dict(ztf_schema()), None)
    assert [alert[name] for name in STAMPS] == [None] * 3  # its pixels were removed


def test_times_of_an_object_and_the_chi_of_its_fit(tmp_path):
    info = info_of(0, planes=())
    x, chi2, pixels = np.array([60.0, 120.0, 180.0]), [97 * 4.0, None, 8.0], [97, 97, 0]
    put(tmp_path, info, rows_of(info, x, x, band=["g"] * 3, psfChi2=pa.array(chi2, pa.float32()), trailNdata=pixels))
    found = [record_of(one)["candidate"] for one in alert_packets(tmp_path, Settings(), "ztf", PublishTotals())]
    start = Time(info.midpoint_mjd_tai, format="mjd", scale="tai").utc.jd - info.exposure_time_s / 2 / 86400
    for name in ("jd", "jdstarthist", "jdendhist"):
        assert [one[name] for one in found] == pytest.approx([start] * 3, abs=1e-8)
    assert [one["chipsf"] for one in found] == [2.0, None, None]


def test_earlier_detections_that_have_no_form_in_ztfs_schema_are_left_out(tmp_path):
    """The later one is an alert all the same, and counts them."""
    x, y = np.array([60.0, 120.0]), np.array([70.0, 150.0])
    for n, changes in enumerate(({"band": ["z", "z"]}, {"psfFlux": np.array([-5.0, 900.0])}, {})):
        info = info_of(n, planes=())
        put(tmp_path, info, rows_of(info, x, y, **{"band": ["r", "r"], **changes}))
    assert not associate(tmp_path, AssociationSettings(), None).summary.failed
    tally = PublishTotals()
    found = [record_of(one) for one in alert_packets(tmp_path, Settings(), "ztf", tally)]
    assert tally.refused == 3  # those in z, and the one without a magnitude
    told = [[one["candid"] >> 21 for one in alert["prv_candidates"] or ()] for alert in found]
    assert [alert["candid"] >> 21 for alert in found] == [visit_of(1), visit_of(2), visit_of(2)]
    assert told == [[], [], [visit_of(1)]]
    assert [alert["candidate"]["ndethist"] for alert in found] == [2, 3, 3]


@real_packets
def test_real_packets_fit_our_schema():
    """Each field of the candidate has the name and the type that ZTF writes."""
    for archive, missing in zip(ARCHIVES, ({"drb", "drbversion"}, set()), strict=True):
        (content,) = members(archive, 1).values()
        reader = fastavro.reader(io.BytesIO(content))
        theirs, ours = _types(reader.writer_schema), _types(ztf_schema())
        assert theirs == {name: kind for name, kind in ours.items() if name not in missing}
        record = next(reader)
        fastavro.schemaless_writer(io.BytesIO(), dict(ztf_schema()), record)
    assert FOLDER.is_dir()


def _types(schema):
    (candidate,) = [one["type"] for one in schema["fields"] if one["name"] == "candidate"]
    candidate = next(one for one in candidate if one != "null") if isinstance(candidate, list) else candidate
    kinds = {one["name"]: one["type"] for one in candidate["fields"]}
    return {
        name: next(one for one in kind if one != "null") if isinstance(kind, list) else kind
        for name, kind in kinds.items()
    }


def test_the_nearest_edge_of_the_image_is_that_of_its_outer_pixels(night, sent):
    rows = [row for n in range(3) for row in published(night, n)]
    ny, nx = info_of(0).shape
    edges = np.array([-0.5, nx - 0.5, -0.5, ny - 0.5])
    nearest = [np.abs(np.array([row["x"], row["x"], row["y"], row["y"]]) - edges) for row in rows]
    assert {int(one.argmin()) for one in nearest} >= {0, 1}
    found = [one["candidate"]["mindtoedge"] for one in alerts(sent)]
    np.testing.assert_allclose(found, [one.min() for one in nearest], rtol=1e-5)


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (None, [(None, None)] * 2),  # nobody has looked
        ((), [("null", -999.0)] * 2),
        (("(433) Eros",), [("(433) Eros", 1.5), ("null", -999.0)]),
    ],
)
def test_known_objects_are_named_where_somebody_has_looked_for_them(tmp_path, known, told):
    info = info_of(0, planes=())
    rows = rows_of(info, np.array([60.0, 120.0]), np.array([70.0, 150.0]), band=["g", "g"])
    ids = rows["diaSourceId"].to_pylist()
    table = None if known is None else known_table(ids[: len(known)], list(known))
    put(tmp_path, info, rows, known=table)
    found = [record_of(one) for one in alert_packets(tmp_path, Settings(), "ztf", PublishTotals())]
    assert [(one["candidate"]["ssnamenr"], one["candidate"]["ssdistnr"]) for one in found] == told


def test_an_exposure_without_detections_has_no_packets_and_one_without_a_zero_point_no_limit(tmp_path):
    for n, count, changes in ((0, 0, {}), (1, 1, {"zero_point": None}), (2, 1, {})):
        info = info_of(n, planes=(), **changes)
        x, y = np.full(count, 60.0), np.full(count, 70.0)
        fluxes = {name: np.full(count, 900.0) for name in ("psfFlux", "psfFluxErr", "apFlux", "apFluxErr")}
        put(tmp_path, info, rows_of(info, x, y, band=["g"] * count, **fluxes), exposure_planes(info, x, y, 1))
    found = [record_of(one) for one in alert_packets(tmp_path, Settings(), "ztf", PublishTotals())]
    assert [one["candidate"]["diffmaglim"] is None for one in found] == [True, False]


def record_of(packet):
    return fastavro.schemaless_reader(io.BytesIO(packet.body), dict(ztf_schema()), None)


@pytest.mark.parametrize(
    ("flux", "error"),
    [(None, 1.0), (1.0, None), (None, None), (0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (1.0, np.inf), (1.0, np.nan)],
)
def test_there_is_no_magnitude_without_light_or_its_error(flux, error):
    assert _magnitude(flux, error) == (None, None)
    assert _magnitude(10.0, 1.0) == pytest.approx((31.4 - 2.5, 0.108574), abs=1e-5)


def test_dark_and_unusable_pixels_are_counted_within_two_of_the_middle():
    difference, mask = np.zeros((1, 63, 63), np.float32), np.zeros((1, 63, 63), np.uint16)
    for row, column in ((29, 29), (33, 33), (31, 30), (28, 31), (31, 34), (0, 0)):
        difference[0, row, column] = -1.0
    mask[0, 31, 31], mask[0, 29, 33], mask[0, 31, 28] = MaskPlane.BAD, MaskPlane.SAT, MaskPlane.BAD
    stamps = Stamps(np.array([0]), 63, np.array([0]), np.array([0]), {"difference": difference, "mask": mask}, None)
    found = _cutouts(stamps, 0, {"diaSourceId": 1}, "DN")
    assert (found["nneg"], found["nbad"]) == (3, 2)
    difference[0, 31, 30], mask[0, 33, 33] = np.nan, MaskPlane.NO_DATA
    found = _cutouts(stamps, 0, {"diaSourceId": 1}, "DN")
    assert (found["nneg"], found["nbad"]) == (1, 3)  # what was not seen is not dark

import gzip
import warnings
from io import BytesIO

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from flows.inputs.packet_files import read_packets
from flows.inputs.ztf_packets import MOST_STAMP, identify, read_packet, require_ztf
from schemas.errors import BadInput
from tests.support.ztf import ARCHIVES, CANDID, FOLDER, fits_bytes, real_packets, record, stamp


def read(*arguments, **fields):
    return read_packet(record(*arguments, **fields), "a.avro")


def test_reads_a_packet():
    packet = read()
    assert (packet.candid, packet.object_id, packet.image, packet.detector) == (CANDID, "ZTF18abc", 697252840115, 1)
    assert packet.pixels.dtype == np.float32
    assert packet.pixels[2, 5] == 2 * 63 + 5
    assert packet.science[2, 5] == 2 * 63 + 5 + 1000
    assert packet.template is None
    assert packet.positive
    assert packet.known_asteroid
    assert not packet.truncated
    assert (packet.rb, packet.band, packet.known_name) == (0.75, "r", "55")
    assert (packet.ra, packet.dec, packet.zero_point, packet.image_fwhm) == (10.0, -5.0, 26.0, 3.0)
    assert np.isnan(packet.drb)


def test_the_exposure_is_that_of_the_image():
    key = read().key
    assert (key.visit, key.detector, key.night) == (69725284, 1, "20181128")
    identity = identify(record(), "a.avro")
    assert (identity.candid, identity.key) == (CANDID, key)
    assert read(rcid=None).key == key
    assert identify(record(rcid=188, pid=10_000 * 77 + 18_800 + 15), "a").key.visit == 77


@pytest.mark.parametrize("told", [30.0, None, 300.0])
def test_the_middle_of_the_exposure(told):
    """The time of a packet is that of its start, UTC; 30 s if the packet does not tell."""
    start = Time(2458451.75, format="jd", scale="utc").tai.mjd
    assert read(exptime=told).when.midpoint_mjd_tai == pytest.approx(start + (told or 30) / 2 / 86400, abs=1e-9)


@pytest.mark.parametrize(
    ("distance", "known"), [(0.0, True), (2.0, True), (2.1, False), (60.0, False), (-999.0, False), (None, False)]
)
def test_known_asteroids(distance, known):
    assert read(ssdistnr=distance).known_asteroid is known


@pytest.mark.parametrize("value", [-999.0, -1e30, np.inf, 1e30])
def test_numbers_that_cannot_be_are_not_known(value):
    found = read(exptime=value, magzpsci=value)
    assert np.isnan([found.exposure_s, found.zero_point]).all()
    assert found.when == read(exptime=None).when
    assert identify(record(exptime=value), "a").key == found.key


@pytest.mark.parametrize("place", [{"ra": 400.0}, {"ra": -1.0}, {"dec": -90.5}, {"dec": np.inf}])
def test_a_place_that_is_not_on_the_sky_is_refused(place):
    with pytest.raises(BadInput, match=r"its (ra|dec) is \S+ deg, must be from"):
        read(**place)


@pytest.mark.parametrize(("sign", "positive"), [("t", True), ("1", True), ("f", False), ("0", False)])
def test_sign(sign, positive):
    packet = read(pixels=np.full((63, 63), 3.0), isdiffpos=sign)
    assert packet.positive is positive
    assert (packet.pixels == (3.0 if positive else -3.0)).all()
    assert (packet.science == 1003.0).all()


def test_what_a_packet_does_not_tell():
    packet = read(rb=None, ra=None, magzpsci=None, seeratio=None, ssnamenr="null", science=None)
    assert np.isnan([packet.rb, packet.ra, packet.zero_point, packet.image_fwhm, read(dec=-999.0).dec]).all()
    assert (packet.known_name, packet.science) == (None, None)
    assert read(science=np.zeros((63, 40))).science is None  # of another shape: it shows another part of the sky


@pytest.mark.parametrize(
    ("shape", "position", "pixel"),
    [
        ((63, 63), (1500.25, 900.75), (31, 31)),
        ((63, 48), (3056.2, 894.9), (31, 31)),  # cut on the right: the left half is whole
        ((53, 63), (229.3, 3058.6), (31, 31)),
        ((63, 40), (9.0, 894.9), (8, 31)),  # cut on the left: x - 1 pixels are left of it
        ((50, 63), (229.3, 19.4), (31, 18)),
    ],
)
def test_stamps_that_the_edge_cuts(shape, position, pixel):
    packet = read(pixels=np.zeros(shape), xpos=position[0], ypos=position[1])
    assert packet.truncated is (shape != (63, 63))
    assert (packet.column, packet.row) == pixel
    assert (packet.x, packet.y) == (position[0] - 1, position[1] - 1)
    assert np.abs(packet.offset).max() <= 0.5
    first = packet.x - packet.offset[0] - packet.column
    assert first == round(position[0]) - 1 - pixel[0]  # the stamp's first column, on the image


def test_a_stamp_with_a_crooked_header_or_not_compressed():
    data = fits_bytes(np.ones((63, 63)))
    crooked = data.replace(b"SIMPLE  =                    T", b"SIMPLE  =  T                  ")
    assert crooked != data
    for content in (data, crooked, gzip.compress(crooked)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            packet = read_packet(record() | {"cutoutDifference": {"stampData": content}}, "a.avro")
        assert packet.pixels.sum() == 63 * 63


def test_pixels_without_value():
    pixels = np.ones((63, 63))
    pixels[3, 4] = np.nan
    packet = read(pixels=pixels)
    assert np.isnan(packet.pixels).sum() == 1


def bomb():
    return {"stampData": gzip.compress(bytes(64 * MOST_STAMP))}


@pytest.mark.parametrize(
    ("difference", "code"),
    [
        (None, "no_stamp"),
        ({"stampData": b""}, "no_stamp"),
        ({"stampData": b"not FITS"}, "damaged"),
        ({"stampData": gzip.compress(b"")}, "damaged"),
        ({"stampData": stamp(np.zeros((63, 63)))["stampData"][:-30]}, "truncated"),
        ({"stampData": gzip.compress(fits_bytes(np.zeros((63, 63))))[:-8] + 8 * b"\1"}, "bad_checksum"),
        ({"stampData": gzip.compress(fits_bytes(np.zeros((63, 63)))[:9000])}, "damaged"),
        (bomb(), "too_large"),
        ({"stampData": bytes(2 * MOST_STAMP)}, "too_large"),
        (stamp(np.zeros((64, 63))), "wrong_dimensions"),
        (stamp(np.zeros((3, 63, 63))), "wrong_dimensions"),
    ],
)
def test_a_stamp_that_cannot_be_used(difference, code):
    with pytest.raises(BadInput, match=r"^a\.avro") as raised:
        read_packet(record() | {"cutoutDifference": difference}, "a.avro")
    assert raised.value.code == code


def test_a_header_that_promises_more_than_there_is_takes_no_memory():
    data = fits_bytes(np.zeros((63, 63))).replace(b"NAXIS1  =                   63", b"NAXIS1  =            999999999")
    with pytest.raises(BadInput) as raised:
        read_packet(record() | {"cutoutDifference": {"stampData": gzip.compress(data)}}, "a.avro")
    assert raised.value.code == "wrong_dimensions"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"xpos": None}, "xpos"),
        ({"xpos": float("nan")}, "xpos"),
        ({"fid": 7}, "fid"),
        ({"isdiffpos": "maybe"}, "isdiffpos"),
        ({"pid": -3}, "pid"),
        ({"xpos": -40.0}, "not on its stamp"),
        ({"candid": -1}, "candid"),
        ({"candid": True}, "candid"),
        ({"candid": 1.0}, "candid"),
        ({"xpos": True}, "xpos"),
        ({"xpos": "10"}, "xpos"),
    ],
)
def test_a_field_that_cannot_be_used(fields, named):
    with pytest.raises(BadInput, match=named) as raised:
        read(pixels=np.zeros((63, 40)), **fields)
    assert raised.value.code == "bad_packet"


def test_identity_depends_on_what_a_search_reads_alone():
    one = record()
    same = one | {"publisher": "another", "prv_candidates": None}
    assert identify(one, "a") == identify(same, "b")
    assert identify(one, "a").digest != identify(record(magzpsci=25.0), "a").digest
    assert identify(one, "a").digest != identify(record(pixels=np.zeros((63, 63))), "a").digest


@pytest.mark.parametrize("fields", [{"jd": 1.0}, {"pid": 2**62, "rcid": 0}, {"rcid": 600}])
def test_an_exposure_that_cannot_be(fields):
    with pytest.raises(BadInput):
        identify(record(**fields), "a.avro")


def test_records_of_others_are_named():
    with pytest.raises(BadInput, match="Rubin") as raised:
        require_ztf({"name": "lsst.v11_1.alert", "fields": [{"name": "diaSourceId"}, {"name": "diaSource"}]}, "a")
    assert raised.value.code == "other_packet"
    with pytest.raises(BadInput, match="'thing'"):
        require_ztf({"name": "thing", "fields": [{"name": "candid"}]}, "a")


@real_packets
def test_real_packets_agree_with_their_index_and_with_fastavro():
    import tarfile

    packets = [packet for name in ARCHIVES for packet in read_packets(FOLDER / name)]
    lines = gzip.decompress((FOLDER / "index_ztf.csv.gz").read_bytes()).decode().splitlines()
    header, *rows = (line.split(",") for line in lines)
    index = [dict(zip(header, row, strict=True)) for row in rows]
    assert len(packets) == len(index) == 733
    by_candid = {row["candid"]: row for row in index}
    for packet in packets:
        row = by_candid[str(packet.candid)]
        assert packet.positive == (row["isdiffpos"] == "t")
        assert packet.known_asteroid == (0 <= float(row["ssdistnr"]) <= 2)
        assert packet.rb == pytest.approx(float(row["rb"]))
    assert sum(packet.truncated for packet in packets) == 4
    centre = np.array([np.nanmedian(packet.pixels[30:33, 30:33]) for packet in packets])
    np.testing.assert_array_equal(centre > 0, [packet.positive for packet in packets])
    ours = {packet.candid: packet for packet in packets}
    with tarfile.open(FOLDER / ARCHIVES[0]) as tar, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for member in [one for one in tar if one.name.endswith(".avro")][:40]:
            (theirs,) = fastavro.reader(BytesIO(tar.extractfile(member).read()))
            packet, candidate = ours[theirs["candid"]], theirs["candidate"]
            pixels = fits.getdata(BytesIO(gzip.decompress(theirs["cutoutTemplate"]["stampData"])))
            np.testing.assert_array_equal(packet.template, pixels.astype(np.float32))
            assert (packet.x + 1, packet.ra) == pytest.approx((candidate["xpos"], candidate["ra"]))
            assert packet.key.visit == int(str(candidate["pid"])[:8])
            assert packet.key.detector == candidate["rcid"]


@pytest.mark.parametrize("candidate", [None, [], "x"])
def test_a_record_without_a_candidate(candidate):
    with pytest.raises(BadInput, match="has no candidate") as raised:
        read_packet(record() | {"candidate": candidate}, "a.avro")
    assert raised.value.code == "bad_packet"

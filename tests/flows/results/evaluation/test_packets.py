import gzip
import io
import os
import sys
import tarfile
from pathlib import Path

import fastavro
import numpy as np
import pytest
from astropy.io import fits

from flows.results.evaluation.packets import read_stamps
from schemas.errors import BadInput, Misconfigured

CANDIDATE = {
    "pid": "long",
    "xpos": "float",
    "ypos": "float",
    "isdiffpos": "string",
    "ssdistnr": ["null", "float"],
    "rb": ["null", "float"],
    "jd": "double",
    "fid": "int",
}
GOOD = {
    "pid": 697251920115,
    "xpos": 1500.2,
    "ypos": 900.7,
    "isdiffpos": "t",
    "ssdistnr": 0.5,
    "rb": 0.75,
    "jd": 2458451.75,
    "fid": 2,
}


def schema(candidate):
    fields = [{"name": name, "type": candidate[name]} for name in candidate]
    return fastavro.parse_schema(
        {
            "type": "record",
            "name": "alert",
            "fields": [
                {"name": "candid", "type": "long"},
                {"name": "candidate", "type": {"type": "record", "name": "candidate", "fields": fields}},
                {
                    "name": "cutoutDifference",
                    "type": {"type": "record", "name": "cutout", "fields": [{"name": "stampData", "type": "bytes"}]},
                },
                {"name": "cutoutScience", "type": "cutout"},
            ],
        }
    )


def fits_bytes(pixels):
    buffer = io.BytesIO()
    fits.PrimaryHDU(pixels.astype(np.float32)).writeto(buffer)
    return buffer.getvalue()


def avro(*changes, pixels=None, columns=CANDIDATE, data=None):
    pixels = np.arange(63.0 * 63).reshape(63, 63) if pixels is None else pixels
    stamp = gzip.compress(fits_bytes(pixels)) if data is None else data
    packets = [
        {
            "candid": 100 + i,
            "candidate": {key: value for key, value in (GOOD | change).items() if key in columns},
            "cutoutDifference": {"stampData": stamp},
            "cutoutScience": {"stampData": gzip.compress(fits_bytes(pixels + 1000))},
        }
        for i, change in enumerate(changes or ({},))
    ]
    buffer = io.BytesIO()
    fastavro.writer(buffer, schema(columns), packets)
    return buffer.getvalue()


def read(tmp_path, content):
    (tmp_path / "a.avro").write_bytes(content)
    return list(read_stamps(tmp_path / "a.avro"))


def test_reads_a_packet(tmp_path):
    (stamp,) = read(tmp_path, avro())
    assert (stamp.candid, stamp.image, stamp.x, stamp.y) == (100, 697251920115, 31.0, 31.0)
    assert stamp.pixels.dtype == np.float32
    assert stamp.pixels[2, 5] == 2 * 63 + 5
    assert stamp.positive
    assert stamp.known_asteroid
    assert not stamp.truncated
    assert (stamp.rb, stamp.band) == (0.75, "2")


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({"ssdistnr": d}, k)
        for d, k in [(0.0, True), (2.0, True), (2.1, False), (60.0, False), (-999.0, False), (None, False)]
    ],
)
def test_known_asteroids(tmp_path, change, known):
    assert read(tmp_path, avro(change))[0].known_asteroid is known


@pytest.mark.parametrize(("sign", "positive"), [("t", True), ("1", True), ("f", False), ("0", False)])
def test_sign(tmp_path, sign, positive):
    (stamp,) = read(tmp_path, avro({"isdiffpos": sign}, pixels=np.full((63, 63), 3.0)))
    assert stamp.positive is positive
    assert (stamp.pixels == (3.0 if positive else -3.0)).all()
    assert (stamp.science == 1003.0).all()


def test_a_score_may_be_missing(tmp_path):
    assert np.isnan(read(tmp_path, avro({"rb": None}))[0].rb)


@pytest.mark.parametrize(
    ("shape", "position", "place"),
    [
        ((63, 48), (3056.2, 894.9), (31, 31)),  # cut on the right: the left half is whole
        ((53, 63), (229.3, 3058.6), (31, 31)),
        ((63, 40), (9.0, 894.9), (8, 31)),  # cut on the left: x - 1 pixels are left of it
        ((50, 63), (229.3, 19.0), (31, 18)),
    ],
)
def test_stamps_that_the_edge_cuts(tmp_path, shape, position, place):
    change = {"xpos": position[0], "ypos": position[1]}
    (stamp,) = read(tmp_path, avro(change, pixels=np.zeros(shape)))
    assert stamp.truncated
    assert (stamp.x, stamp.y) == place


def test_uncompressed_stamp_with_a_crooked_header(tmp_path):
    data = fits_bytes(np.ones((63, 63)))
    crooked = data.replace(b"SIMPLE  =                    T", b"SIMPLE  =  T                  ")
    assert crooked != data
    assert read(tmp_path, avro(data=crooked))[0].pixels.sum() == 63 * 63


def test_folder_and_tarball(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "1.avro").write_bytes(avro({}, {"rb": 0.1}))
    (folder.parent / "2.avro").write_bytes(avro())
    (folder / "notes.txt").write_text("no packet")
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a", "a")
    assert len(list(read_stamps(tmp_path / "a"))) == 3
    assert sorted(stamp.rb for stamp in read_stamps(tmp_path / "all.tar.gz")) == [pytest.approx(0.1), 0.75, 0.75]


def test_nothing_to_read(tmp_path):
    with pytest.raises(Misconfigured, match="holds no alert packets") as raised:
        list(read_stamps(tmp_path))
    assert raised.value.code == "no_packets"
    with pytest.raises(Misconfigured, match=r"absent\.avro: does not exist"):
        list(read_stamps(tmp_path / "absent.avro"))


@pytest.mark.parametrize(
    "content",
    [
        b"not avro",
        b"",
        avro()[:-2000],
        avro(columns={name: kind for name, kind in CANDIDATE.items() if name != "ssdistnr"}),
        avro(data=b"not FITS"),
        avro(data=gzip.compress(b"")),
    ],
    ids=["text", "empty", "cut short", "no ssdistnr", "no FITS", "empty FITS"],
)
def test_names_the_bad_packet(tmp_path, content):
    with pytest.raises(BadInput, match=r"a\.avro: is not") as raised:
        read(tmp_path, content)
    assert raised.value.code == "bad_packet"


def test_needs_fastavro(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(Misconfigured, match="pip install 'fastavro"):
        read(tmp_path, b"")


@pytest.mark.skipif("NIGHTSTRIDE_DATA" not in os.environ, reason="NIGHTSTRIDE_DATA is not set: no real packets")
def test_real_packets_agree_with_their_index():
    folder = Path(os.environ["NIGHTSTRIDE_DATA"]) / "02_ztf_alerts"
    names = ("fink_datasim.tar.gz", "fink_broker_basic.tar.gz")
    stamps = [stamp for name in names for stamp in read_stamps(folder / name)]
    lines = gzip.decompress((folder / "index_ztf.csv.gz").read_bytes()).decode().splitlines()
    header, *rows = (line.split(",") for line in lines)
    index = [dict(zip(header, row, strict=True)) for row in rows]
    assert len(stamps) == len(index) == 733
    by_candid = {row["candid"]: row for row in index}
    for stamp in stamps:
        row = by_candid[str(stamp.candid)]
        assert stamp.positive == (row["isdiffpos"] == "t")
        assert stamp.known_asteroid == (0 <= float(row["ssdistnr"]) <= 2)
        assert stamp.rb == pytest.approx(float(row["rb"]))
    assert sum(stamp.truncated for stamp in stamps) == 4
    centre = np.array([np.nanmedian(stamp.pixels[30:33, 30:33]) for stamp in stamps])
    np.testing.assert_array_equal(centre > 0, [stamp.positive for stamp in stamps])

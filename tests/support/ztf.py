"""Alert packets as ZTF writes them, as small as a reader has to bear."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import fastavro
import numpy as np
import pytest
from astropy.io import fits

CANDIDATE = {
    "pid": "long", "rcid": ["null", "int"], "xpos": ["null", "float"], "ypos": "float", "isdiffpos": "string",
    "ssdistnr": ["null", "float"], "ssnamenr": ["null", "string"], "rb": ["null", "float"], "drb": ["null", "float"],
    "jd": "double", "fid": "int", "ra": ["null", "double"], "dec": ["null", "double"], "magpsf": ["null", "float"],
    "sigmapsf": ["null", "float"], "magzpsci": ["null", "float"], "exptime": ["null", "float"],
    "fwhm": ["null", "float"], "seeratio": ["null", "float"],
}  # fmt: skip
GOOD = {
    "pid": 697252840115, "rcid": 1, "xpos": 1500.25, "ypos": 900.75, "isdiffpos": "t", "ssdistnr": 0.5,
    "ssnamenr": "55", "rb": 0.75, "drb": None, "jd": 2458451.75, "fid": 2, "ra": 10.0, "dec": -5.0, "magpsf": 18.5,
    "sigmapsf": 0.05, "magzpsci": 26.0, "exptime": 30.0, "fwhm": 3.0, "seeratio": 1.0,
}  # fmt: skip
CANDID = 697252840115010000

FOLDER = Path(os.environ.get("NIGHTSTRIDE_DATA", "/nowhere")) / "02_ztf_alerts"
ARCHIVES = ("fink_datasim.tar.gz", "fink_broker_basic.tar.gz")
real_packets = pytest.mark.skipif(not FOLDER.is_dir(), reason="NIGHTSTRIDE_DATA is not set, or has no real packets")


def schema(columns=CANDIDATE):
    """Return the schema of packets with some columns of the candidate."""
    fields = [{"name": name, "type": columns[name]} for name in columns]
    cutout = {"type": "record", "name": "cutout", "fields": [{"name": "stampData", "type": "bytes"}]}
    return fastavro.parse_schema(
        {
            "type": "record",
            "name": "alert",
            "fields": [
                {"name": "candid", "type": "long"},
                {"name": "objectId", "type": "string", "default": "ZTF18a"},
                {"name": "candidate", "type": {"type": "record", "name": "candidate", "fields": fields}},
                {"name": "cutoutDifference", "type": ["null", cutout]},
                {"name": "cutoutScience", "type": ["null", "cutout"]},
            ],
        }
    )


def fits_bytes(pixels):
    """Return an image as FITS."""
    buffer = io.BytesIO()
    fits.PrimaryHDU(np.asarray(pixels, np.float32)).writeto(buffer)
    return buffer.getvalue()


def stamp(pixels):
    """Return a gzipped stamp."""
    return {"stampData": gzip.compress(fits_bytes(pixels), mtime=0)}


def record(candid=CANDID, pixels=None, *, science="as the difference", **change):
    """Return a packet: its difference stamp, its science stamp (None: none), and fields of the candidate."""
    pixels = np.arange(63.0 * 63).reshape(63, 63) if pixels is None else np.asarray(pixels)
    if isinstance(science, str):
        science = pixels + 1000
    return {
        "candid": candid,
        "objectId": "ZTF18abc",
        "candidate": GOOD | change,
        "cutoutDifference": stamp(pixels),
        "cutoutScience": None if science is None else stamp(science),
    }


def container(*records, codec="null", columns=CANDIDATE):
    """Return packets as an Avro object container."""
    buffer = io.BytesIO()
    kept = [one | {"candidate": {name: one["candidate"][name] for name in columns}} for one in records]
    fastavro.writer(buffer, schema(columns), kept, codec=codec)
    return buffer.getvalue()


def write(path, *records, **options):
    """Write packets to a file; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(container(*records, **options))
    return path


def members(archive, count, start=0):
    """Return names and bytes of some packets of a real archive."""
    with tarfile.open(FOLDER / archive) as tar:
        found = [one for one in tar if one.name.endswith(".avro")][start : start + count]
        return {Path(one.name).name: tar.extractfile(one).read() for one in found}

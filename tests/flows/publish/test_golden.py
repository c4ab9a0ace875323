"""The bytes of one alert of each version, with a cutout, from fixed numbers.

Files ``golden/alert-VERSION.gz`` hold its Avro without header. Where they have to change, `write` makes them again.
"""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flows.publish.avro_rows import Column
from flows.publish.cutout_fits import CutoutPixels, LocalWcs, fits_files
from flows.publish.rubin_object import encode_objects
from flows.publish.rubin_schema import SCHEMAS, deserialise, serialise
from flows.publish.rubin_source import encode_sources
from schemas.dia_object import DIA_OBJECT
from schemas.dia_source import DIA_SOURCE, DetectionFlag

FOLDER = Path(__file__).with_name("golden")
SOURCE = (99429086 << 21) | (59 << 12) | 7


def row(dataset, values):
    """A row in which each column that is not given has its number as its value."""
    arrays = []
    for n, column in enumerate(dataset.schema):
        if column.name in values:
            value = values[column.name]
        elif pa.types.is_string(column.type):
            value = ""
        else:
            value = None if pa.types.is_fixed_size_list(column.type) else n
        arrays.append(pa.array([value], column.type))
    return pa.Table.from_arrays(arrays, schema=dataset.schema)


def alert(version):
    flags = int(DetectionFlag.SATURATED | DetectionFlag.DIPOLE)
    detection = row(DIA_SOURCE, {
        "diaSourceId": SOURCE, "visit": 99429086, "detector": 59, "x": 1234.5, "y": 67.25, "ra": 8.25, "dec": -0.125,
        "raErr": None, "decErr": None, "midpointMjdTai": 58748.2908681, "band": "i", "reliability": 0.75,
        "reliabilityVersion": "2", "flags": flags, "bboxSize": 34, "trailClass": "glint_trail",
    })  # fmt: skip
    owners = {
        "diaObjectId": Column(np.array([SOURCE - 7])),
        "ssObjectId": Column(np.array([0]), np.array([False])),
    }
    pixels = {"pixelFlags_crCenter": np.array([True]), "templateFlux": np.array([np.nan])}
    pixels["scienceFlux"] = np.array([1.5])
    (source,) = encode_sources(detection, version, 58749.5, owners, pixels)
    (earlier,) = encode_sources(detection, version, 58749.25, owners)
    (known,) = encode_objects(row(DIA_OBJECT, {"diaObjectId": SOURCE - 7}), version, 58749.5)
    return {
        "diaSourceId": SOURCE,
        "diaSource": source,
        "prvDiaSources": [earlier, earlier],
        "diaObject": known,
        "cutoutDifference": cutout(),
    }


def cutout():
    data = np.arange(34 * 34, dtype=np.float32).reshape(1, 34, 34)
    data[0, 0] = np.nan
    mask = np.where(np.isnan(data), 48, 0).astype(np.uint16)
    psf = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 8
    made = CutoutPixels("difference", "nJy", data, data / 4, mask, psf, "stamp")
    matrix = np.array([[[-0.00025, 0.0], [0.0, 0.00025]]])
    wcs = LocalWcs(*(np.array([one]) for one in (8.25, -0.125, 1234.5, 67.25)), matrix)
    (content,) = fits_files(made, wcs, (np.array([1218]), np.array([-1])), np.array([34]), np.array([SOURCE]))
    return content


def path(version):
    return FOLDER / f"alert-{version}.gz"


def write():
    for version in SCHEMAS:
        path(version).write_bytes(gzip.compress(serialise(alert(version), version), 9, mtime=0))


@pytest.mark.parametrize("version", SCHEMAS)
def test_an_alert_has_the_bytes_that_it_had(version):
    golden, body = gzip.decompress(path(version).read_bytes()), serialise(alert(version), version)
    assert deserialise(body, version) == deserialise(golden, version)
    assert body == golden


@pytest.mark.parametrize("version", SCHEMAS)
def test_its_fields_are_those_that_went_in(version):
    source = deserialise(gzip.decompress(path(version).read_bytes()), version)["diaSource"]
    columns = {column.name: n for n, column in enumerate(DIA_SOURCE.schema)}
    for name in ("psfFlux", "trailFlux", "trailLength", "trailAngleErr", "trailRa", "snr", "apFluxErr", "trailNdata"):
        assert source[name] == columns[name]
    assert (source["diaSourceId"], source["visit"], source["detector"]) == (SOURCE, 99429086, 59)
    assert (source["x"], source["y"], source["ra"], source["dec"]) == (1234.5, 67.25, 8.25, -0.125)
    assert source["raErr"] is source["templateFlux"] is source["ssObjectId"] is None
    assert source["pixelFlags_saturated"] is source["isDipole"] is source["glint_trail"] is True
    assert source["pixelFlags_crCenter"] is True
    assert source["pixelFlags_injected"] is False
    assert source.get("reliabilityVersion") == ("2" if version == "11.1" else None)

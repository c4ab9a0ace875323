import re
from pathlib import Path

import pyarrow as pa
import pytest

from flows.storage.catalog_store import CatalogStore
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureKey

PAGE = Path(__file__).parents[2] / "docs/use/catalogues.md"
BLOCKS = re.findall(r"^## (.*?)$|^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)

SPECIAL = {"band": "r", "reliabilityVersion": "1", "ra": 150.0, "dec": 2.0, "trailLength": 6.0, "psfFlux": 2500.0}


def source(visit, detector, rank):
    number = {
        "diaSourceId": rank,
        "visit": visit,
        "detector": detector,
        "flags": 0,
        "trailClass": "",
        "snr": 4.0 + 4 * rank,
    }
    return {
        field.name: (number | SPECIAL).get(
            field.name, [0.0] * 25 if field.name == "trailCov" else 1 if pa.types.is_integer(field.type) else 0.75
        )
        for field in DIA_SOURCE.schema
    }


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    for visit in (7, 8):
        for detector in (0, 3):
            rows = [source(visit, detector, rank) for rank in range(3)]
            key = ExposureKey(night="20260101", visit=visit, detector=detector)
            table = pa.Table.from_pylist(rows, schema=DIA_SOURCE.schema)
            CatalogStore(folder).publish(DIA_SOURCE, key, table, "ab" * 32)
    return folder


@pytest.fixture(scope="module")
def told(out):
    """Run the page from top to bottom, as a reader would; give what each section prints and leaves behind."""
    names, printed, title = {"out": str(out)}, {}, ""
    for heading, code in BLOCKS:
        title = heading or title
        if code:
            lines = printed.setdefault(title, [])
            names["print"] = lambda *words, lines=lines: lines.append(" ".join(map(str, words)))
            exec(compile(code, f"{PAGE}: {title}", "exec"), names)
            printed[title, "names"] = dict(names)
    return printed


def test_pandas(told):
    assert len(told["pandas", "names"]["sources"]) == 12
    assert list(told["pandas", "names"]["bright"]["snr"]) == [12.0] * 4


def test_polars(told):
    rows = told["polars", "names"]["per_detector"].sort("detector").collect().rows()
    assert rows == [(20260101, 0, 6, 12.0), (20260101, 3, 6, 12.0)]


def test_duckdb(told):
    assert told["DuckDB", "names"]["found"].fetchall() == [(20260101, 7, 6, 6.0), (20260101, 8, 6, 6.0)]


def test_pyarrow(told):
    assert told["pyarrow"] == ["8 nJy Flux of a point-source fit at the centre."]


def test_astropy(told):
    (line,) = told["astropy, with units"]
    assert line == "10h00m00s +02d00m00s 4.80 deg / d 2.5 uJy"


def test_metadata(told):
    lines = told["What is in the metadata"]
    assert len(lines) == len(DIA_SOURCE.schema) + 1
    assert lines[-1] == "ab" * 32


def test_every_section_was_run(told):
    assert {title for title in told if isinstance(title, str)} == {
        "pandas",
        "polars",
        "DuckDB",
        "pyarrow",
        "astropy, with units",
        "What is in the metadata",
    }

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.adapters.catalog_store import CatalogStore
from flows.adapters.ledger import Ledger
from flows.cli import app
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord

KEY = ExposureKey(night="20260101", visit=5, detector=0)


@pytest.fixture
def out(tmp_path):
    store = CatalogStore(tmp_path)
    path = store.publish(DIA_SOURCE, KEY, DIA_SOURCE.empty(), "d")
    values = {"source_uri": "x", "source_sha256": "ab", "digest": "d", "software": "0", "finished_at": "now"}
    record = ExposureRecord(**KEY.model_dump(), **values, datasets={DIA_SOURCE.name: store.record(path)})
    Ledger(tmp_path).put(record)
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, ["verify", *map(str, words)])


def test_all_is_well(out):
    result = run(out)
    assert result.exit_code == 0
    assert result.stdout == "1 exposures, 0 nights, 1 files, 0 tile stores: all is well.\n"


def test_problems_are_listed_with_their_remedies(out):
    path = CatalogStore(out).path(DIA_SOURCE, KEY)
    path.unlink()
    result = run(out)
    assert result.exit_code == 1
    first, last = result.stdout.splitlines()
    assert first.startswith(f"{path}: cannot be read as Parquet")
    assert "To fix, run the night again" in first
    assert last == "1 exposures, 0 nights, 1 files, 0 tile stores: 1 problems."


def test_json_is_the_last_line_and_all_of_stdout(out):
    (out / "catalogs/stranger").touch()
    result = run(out, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [problem["code"] for problem in found["problems"]] == ["unknown_file"]
    assert (found["exposures"], found["files"], found["tiles"], found["running"]) == (1, 1, 0, None)


def test_form_of_the_catalogue_is_checked(out):
    path = CatalogStore(out).path(DIA_SOURCE, KEY)
    schema = pa.schema([pa.field("n", pa.int32())], pq.read_schema(path).metadata)
    pq.write_table(schema.empty_table(), path)
    assert "is 'dia_source' where 'dia_source' is expected: missing" in run(out).stdout


def test_no_such_folder(tmp_path):
    result = run(tmp_path / "absent")
    assert result.exit_code == 2
    assert "is no output folder" in result.stderr
    assert result.stdout == ""

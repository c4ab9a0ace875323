import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.adapters.catalog_store import CatalogStore
from flows.adapters.ledger import Ledger
from flows.catalogue_forms import DEFAULTS, declared_tables
from flows.digest import file_digest
from flows.explain import explain
from flows.migrate import migrate
from flows.provenance import provenance_of
from flows.report.page import write_report
from flows.status import read_status
from flows.verify import verify
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.ledger import LEDGER_VERSION
from schemas.settings import Settings
from stages import PIPELINE
from tests.flows.night_support import catalogues
from tests.flows.report.conftest import NIGHT, make_info, make_rows, publish

TABLES = declared_tables()
LATER_FIELDS = {
    "before causes": ("previous", "provenance", "shutter_closed_at", "causes"),
    "before provenance": ("previous", "provenance", "shutter_closed_at"),
    "before previous": ("previous",),
}
"""Versions of the ledger record, all of schema version 1, by what they did not have."""


def older(out, kind):
    """Two exposures as an older version left them."""
    for visit in (101, 102):
        info = make_info((60, 70), visit)
        record = publish(out, info, make_rows(info, 4, visit), visit)
        file = out / record.datasets["dia_source"].path
        if kind == "before causes":
            table = pq.read_table(file)
            pq.write_table(table.drop_columns(list(DEFAULTS["dia_source"])), file)
        values = json.loads(record.model_dump_json()) | {"schema_version": 1}
        values["datasets"]["dia_source"]["sha256"] = file_digest(file)
        if kind == "before previous":
            made = provenance_of(PIPELINE, Settings()).model_dump(mode="json")
            made["settings"]["execution"]["scheduler"] = None  # a setting of before
            (out / "ledger" / "provenance").mkdir(exist_ok=True)
            (out / "ledger" / "provenance" / "old.json").write_text(json.dumps(made))
            values["provenance"] = "old"
        kept = {name: value for name, value in values.items() if name not in LATER_FIELDS[kind]}
        Ledger(out).path(record.key).write_text(json.dumps(kept))
    return out


@pytest.fixture(params=LATER_FIELDS)
def out(request, tmp_path):
    return older(tmp_path / "out", request.param)


def test_an_older_folder_is_readable_afterwards_and_keeps_what_it_has(out):
    assert read_status(out).older == 2
    before = {record.name: record for record in Ledger(out).records()}
    rows = [pq.read_table(out / record.datasets["dia_source"].path) for record in before.values()]
    migrate(out, TABLES, dry=False)
    assert verify(out, TABLES).problems == ()
    assert read_status(out).older == 0
    for record, table in zip(Ledger(out).records(), rows, strict=True):
        assert record.schema_version == LEDGER_VERSION
        assert record.digest == before[record.name].digest
        assert record.datasets["dia_source"].digest == before[record.name].datasets["dia_source"].digest
        now = CatalogStore(out).read(DIA_SOURCE, record.key)
        assert now.select(table.column_names).equals(
            pa.table(table).replace_schema_metadata(None).cast(now.select(table.column_names).schema)
        )
    assert explain(out, int(rows[0]["diaSourceId"][0].as_py())).record.visit == 101
    assert "<html" in write_report(out, NIGHT).read_text()


def test_again_there_is_nothing_to_do(out):
    assert migrate(out, TABLES, dry=False).steps
    files = catalogues(out)
    again = migrate(out, TABLES, dry=False)
    assert (again.steps, again.search_again) == ([], [])
    assert catalogues(out) == files


def test_a_dry_run_says_the_same_and_changes_nothing(out):
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    dry = migrate(out, TABLES, dry=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files
    assert migrate(out, TABLES, dry=False) == dry


def test_columns_that_need_the_pixels_are_named_and_say_so(tmp_path):
    out = older(tmp_path, "before causes")
    done = migrate(out, TABLES, dry=False)
    assert [step.path for step in done.search_again] == [
        f"catalogs/dia_source/night={NIGHT}/{visit}-3.parquet" for visit in (101, 102)
    ]
    assert "spikeEvidence" in done.search_again[0].what
    table = CatalogStore(out).read(DIA_SOURCE, Ledger(out).records()[0].key)
    assert np.isnan(table["spikeEvidence"].to_numpy()).all()


def test_a_migration_that_was_killed_between_catalogue_and_record_goes_on(tmp_path, monkeypatch):
    out = older(tmp_path, "before causes")

    def killed(self, record):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            migrate(out, TABLES, dry=False)
    assert verify(out, TABLES).problems
    migrate(out, TABLES, dry=False)
    assert verify(out, TABLES).problems == ()


def test_a_file_that_is_not_the_published_one_is_left_and_named(tmp_path):
    out = older(tmp_path, "before causes")
    first = Ledger(out).records()[0]
    path = out / first.datasets["dia_source"].path
    pq.write_table(pq.read_table(path).slice(1), path)
    before = path.read_bytes()
    done = migrate(out, TABLES, dry=False)
    assert path.read_bytes() == before
    assert "not the file that was published" in done.search_again[0].what


@pytest.mark.parametrize("what", ["record", "catalogue", "tiles", "quality"])
def test_a_folder_of_a_later_version_is_refused_and_not_touched(tmp_path, what):
    out = older(tmp_path, "before causes")
    record = Ledger(out).records()[-1]
    if what == "record":
        path = Ledger(out).path(record.key)
        path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    elif what == "catalogue":
        path = out / record.datasets["dia_source"].path
        table = pq.read_table(path)
        pq.write_table(
            table.replace_schema_metadata({**table.schema.metadata, b"nightstride.schema_version": b"99"}), path
        )
    elif what == "quality":
        (out / "ledger" / "quality").mkdir()
        (out / "ledger" / "quality" / f"{NIGHT}.json").write_text('{"schema_version": 99}')
    else:
        path = out / "tiles" / NIGHT / "102-3.zarr" / "zarr.json"
        path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(Misconfigured, match=r"has schema version 99, .* use the version of nightstride that wrote it"):
        migrate(out, TABLES, dry=False)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files


def test_a_record_that_cannot_be_read_is_named(tmp_path):
    out = older(tmp_path, "before provenance")
    Ledger(out).path(Ledger(out).records()[0].key).write_text("{")
    done = migrate(out, TABLES, dry=False)
    assert "is no ledger record" in done.search_again[0].what
    for part in ("ledger", "catalogs", "quarantine"):
        shutil.rmtree(out / part, ignore_errors=True)
    with pytest.raises(Misconfigured, match="no output folder"):
        migrate(out, TABLES, dry=False)

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import FileSystemDataset

from flows.pipeline.graph import declared_tables
from flows.results import catalogue_rows
from flows.results.catalogue_rows import CatalogueRows, MemoryRows, known_tables, published_tables
from flows.storage.bucket_path import located
from flows.storage.catalog_parts import VERSION, own_metadata
from flows.storage.catalog_store import CatalogStore
from flows.storage.compaction import compact
from flows.storage.object_store import configure
from schemas.dataset import TableOf
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.settings import StoreSettings
from tests.support.association import detections
from tests.support.memory_store import bucket_in_memory

pytest_plugins = ("tests.support.s3_fixture",)
OLD, NEW = "20250101", "20260101"


def publish(out, night, visit, count=3):
    key = ExposureKey(night=night, visit=visit, detector=3)
    rows = detections(visit, 150 + np.arange(count), np.full(count, 20.0))
    return CatalogStore(out).publish(DIA_SOURCE, key, rows, "d")


def older(path, **metadata):
    """Write a file again as another version had it: a column less, one more, one of a smaller type."""
    table = pq.read_table(path, partitioning=None)
    table = table.drop_columns(["pArtefact", "psfChi2"]).append_column("deepScore", pa.array([0.5] * len(table)))
    place = table.schema.get_field_index("trailNdata")
    table = table.set_column(place, "trailNdata", table["trailNdata"].cast(pa.int16()))
    kept = own_metadata("dia_source", "d") | {key.encode(): value for key, value in metadata.items()}
    pq.write_table(table.replace_schema_metadata(kept), path)


def all_of(rows):
    return rows.read(rows.schema.names, None)


def test_nights_of_an_older_version_are_read_with_the_others(tmp_path):
    older(publish(tmp_path, OLD, 1))
    publish(tmp_path, NEW, 2)
    found = all_of(CatalogueRows(tmp_path, DIA_SOURCE))
    assert found["night"].to_pylist() == [OLD] * 3 + [NEW] * 3
    assert found.schema.names == ["night", *DIA_SOURCE.schema.names, "deepScore"]
    assert found["pArtefact"].slice(0, 3).null_count == 3
    assert found["deepScore"].to_pylist() == [0.5] * 3 + [None] * 3
    assert found.schema.field("trailNdata").type == pa.int32()
    assert found["trailNdata"].null_count == 0
    assert (
        CatalogueRows(tmp_path, DIA_SOURCE).read(["visit"], pc.field("deepScore") > 0)["visit"].to_pylist() == [1] * 3
    )


def test_nights_of_a_later_version_are_refused(tmp_path):
    older(publish(tmp_path, OLD, 1), **{VERSION.decode(): "2"})
    with pytest.raises(Misconfigured, match="has schema version 2, this nightstride reads version 1"):
        all_of(CatalogueRows(tmp_path, DIA_SOURCE))


def test_joined_catalogues_are_read_and_each_row_once(tmp_path):
    for visit in (1, 2, 3):
        publish(tmp_path, NEW, visit, count=visit)
    before = all_of(CatalogueRows(tmp_path, DIA_SOURCE))
    compact(tmp_path, NEW, 2, lambda fill, one, other: fill(one, other))
    rows = CatalogueRows(tmp_path, DIA_SOURCE)
    assert len(rows.files[NEW]) == 1
    assert all_of(rows).to_pydict() == before.to_pydict()
    publish(tmp_path, NEW, 2, count=5)  # made again, and not yet joined: the file counts
    visits = all_of(CatalogueRows(tmp_path, DIA_SOURCE))["visit"].to_pylist()
    assert sorted(visits) == [1] + [2] * 5 + [3] * 3
    assert CatalogueRows(tmp_path, DIA_SOURCE).count(pc.field("visit") == 2) == 5


def test_files_that_are_joined_while_they_are_read_are_found_again(tmp_path):
    for visit in (1, 2):
        publish(tmp_path, NEW, visit)
    rows = CatalogueRows(tmp_path, DIA_SOURCE)
    assert len(rows.files[NEW]) == 2  # listed
    compact(tmp_path, NEW, 2, lambda fill, one, other: fill(one, other))
    assert len(all_of(rows)) == 6


def test_no_more_is_read_than_asked_for(tmp_path):
    for visit in (1, 2):
        publish(tmp_path, NEW, visit)
    (tmp_path / f"catalogs/dia_source/night={NEW}/2-3.parquet").write_bytes(b"damaged")
    rows = CatalogueRows(tmp_path, DIA_SOURCE)
    assert rows.read(["visit"], None, limit=2)["visit"].to_pylist() == [1, 1]
    with pytest.raises(BadInput, match=r"2-3.parquet: cannot be read as Parquet: it is cut off, or no Parquet file"):
        rows.read(["visit"], None)


def test_numbers_that_are_too_large_for_a_condition_are_no_damage(tmp_path):
    publish(tmp_path, NEW, 2**40)
    rows = CatalogueRows(tmp_path, DIA_SOURCE)
    for source in (rows, MemoryRows("dia_source", all_of(rows))):
        for where in (pc.field("diaSourceId") > 1.5, pc.field("diaSourceId") + (2**63 - 1) > 0):
            for ask in (source.count, lambda where, source=source: source.read(["visit"], where)):
                with pytest.raises(Misconfigured, match="are too large to be computed with") as error:
                    ask(where)
                assert error.value.code == "bad_condition"


def test_a_damaged_page_is_noticed(tmp_path):
    path = publish(tmp_path, NEW, 1, count=500)
    content = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(DIA_SOURCE.schema.get_field_index("raErr"))
    content[column.data_page_offset + column.total_compressed_size - 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(BadInput, match="cannot be read as Parquet: it is damaged"):
        CatalogueRows(tmp_path, DIA_SOURCE).read(["raErr"], None)


def test_a_bucket_is_read_like_a_folder(tmp_path, bucket):
    out = located(f"{bucket}/out")
    for place in (tmp_path, out):
        older(publish(tmp_path, OLD, 1)) if place is tmp_path else None
        publish(place, NEW, 2)
        publish(place, NEW, 3)
    (out / f"catalogs/dia_source/night={OLD}/1-3.parquet").write(
        (tmp_path / f"catalogs/dia_source/night={OLD}/1-3.parquet").read_bytes()
    )
    here, there = CatalogueRows(tmp_path, DIA_SOURCE), CatalogueRows(out, DIA_SOURCE)
    assert all_of(there).to_pydict() == all_of(here).to_pydict()
    assert there.of((OLD,)).count(pc.field("deepScore") > 0) == 3


def test_tables_of_packages_that_are_not_installed_are_read_by_their_own_form(tmp_path):
    form = TableOf("bright_pixels", pa.schema([pa.field("diaSourceId", pa.int64()), pa.field("n", pa.int32())]))
    key = ExposureKey(night="20260101", visit=7, detector=0)
    CatalogStore(tmp_path).publish(form, key, pa.table({"diaSourceId": [3], "n": [5]}, form.schema), "d")
    (tmp_path / "catalogs/object_margin").mkdir()
    found = known_tables(tmp_path, "bright_pixels")
    assert found.keys() - declared_tables().keys() == {"bright_pixels"}
    assert known_tables(tmp_path, "object_margin").keys() == declared_tables().keys()
    assert found["bright_pixels"].schema.equals(form.schema)
    (row,) = CatalogueRows(tmp_path, found["bright_pixels"]).read(["night", "n"], None).to_pylist()
    assert row == {"night": "20260101", "n": 5}
    path = CatalogStore(tmp_path).list(form)[0]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadInput, match=path.name):
        known_tables(tmp_path, "bright_pixels")
    assert known_tables(tmp_path, "dia_source") == declared_tables()  # no other table is looked at


def test_published_tables_are_those_that_have_rows(tmp_path):
    publish(tmp_path, NEW, 2)
    form = TableOf("bright_pixels", pa.schema([pa.field("n", pa.int32())]))
    key = ExposureKey(night="20260101", visit=7, detector=0)
    CatalogStore(tmp_path).publish(form, key, pa.table({"n": [5]}, form.schema), "d")
    for name in ("object_margin", "cutouts/night=20260101", "pictures_of_a_package/night=20260101/dataset/Npix=3.zarr"):
        (tmp_path / "catalogs" / name).mkdir(parents=True)
    assert published_tables(tmp_path) == ("bright_pixels", "dia_source")


@pytest.mark.parametrize("at_once", [1, 2, 256])
def test_parts_and_objects_of_a_bucket_are_read_each_row_once(tmp_path, monkeypatch, at_once):
    out, _ = bucket_in_memory(monkeypatch, "rows")
    for visit in range(1, 6):
        publish(tmp_path, NEW, visit, count=visit)
    compact(tmp_path, NEW, 2, lambda fill, one, other: fill(one, other))
    for visit in (2, 7, 8, 9):  # of which the first is in the part, too
        publish(tmp_path, NEW, visit, count=visit)
    for path in CatalogStore(tmp_path).list(DIA_SOURCE):
        (out / path.relative_to(tmp_path).as_posix()).write(path.read_bytes())
    monkeypatch.setattr(catalogue_rows, "_AT_ONCE", at_once)
    monkeypatch.setattr(catalogue_rows, "_TAIL", 64)  # no footer is so short
    here, there = CatalogueRows(tmp_path, DIA_SOURCE), CatalogueRows(out, DIA_SOURCE)
    order = [("diaSourceId", "ascending")]
    assert all_of(there).sort_by(order).to_pydict() == all_of(here).sort_by(order).to_pydict()
    several = [one for one in there._datasets() if isinstance(one, FileSystemDataset)]
    assert max(len(list(one.get_fragments())) for one in several) <= at_once  # in memory together
    assert there.count(None) == 1 + 2 + 3 + 4 + 5 + 7 + 8 + 9
    assert len(there.read(["visit"], None, limit=4)) == 4
    configure(StoreSettings())

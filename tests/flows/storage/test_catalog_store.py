import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas
from flows.storage import catalog_store
from flows.storage.catalog_parts import DATASET, DIGEST, VERSION
from flows.storage.catalog_store import (
    CatalogStore,
    field_unit,
    inspect,
    joined,
    list_rows,
    qtable_of,
    read_metadata,
    read_qtable,
    read_table,
)
from schemas.dataset import DatasetError, TableOf, column
from schemas.dia_source import DIA_SOURCE, HIT
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.patch import PatchKey

KEY = ExposureKey(night="20260101", visit=5, detector=3)


def hits(n):
    numbers = np.arange(n, dtype=np.int32)
    return pa.table({"row": numbers, "column": numbers, "logit": numbers.astype(np.float32)}, schema=HIT.schema)


def sources(n, *, blank=False):
    """Rows of `dia_source` of every type, with nulls where they are allowed if ``blank``."""

    def values(field, i):
        if blank and field.nullable:
            return None
        if pa.types.is_fixed_size_list(field.type):
            return [i + 0.5 * k for k in range(field.type.list_size)]
        return f"text {i}" if field.type == pa.string() else i if pa.types.is_integer(field.type) else i + 0.25

    rows = [{field.name: values(field, i) for field in DIA_SOURCE.schema} for i in range(n)]
    return pa.Table.from_pylist(rows, schema=DIA_SOURCE.schema)


@pytest.mark.parametrize("table", [sources(0), sources(1), sources(100), sources(3, blank=True)])
def test_gives_back_table_and_digest(tmp_path, table):
    store = CatalogStore(tmp_path)
    path = store.publish(DIA_SOURCE, KEY, table, "the digest")
    assert path == tmp_path / "catalogs/dia_source/night=20260101/5-3.parquet" == store.path(DIA_SOURCE, KEY)
    read = store.read(DIA_SOURCE, KEY)
    assert read.equals(table)
    assert read.schema.equals(DIA_SOURCE.schema, check_metadata=True)
    DIA_SOURCE.check(read)
    assert read_metadata(path)[1] == "the digest"
    record = store.record(path)
    assert (record.path, record.digest) == ("catalogs/dia_source/night=20260101/5-3.parquet", "the digest")
    assert (record.rows, record.sha256) == (len(table), sha256(path.read_bytes()).hexdigest())


def test_units_and_meanings_are_in_the_file(tmp_path):
    path = CatalogStore(tmp_path).publish(DIA_SOURCE, KEY, sources(2), "d")
    for field, declared in zip(pq.read_schema(path), DIA_SOURCE.schema, strict=True):
        assert field.nullable == declared.nullable
        assert field.metadata[b"unit"] == declared.metadata[b"unit"]
        assert field.metadata[b"doc"] == declared.metadata[b"doc"]


def test_list_holds_published_files_only_in_order(tmp_path):
    store = CatalogStore(tmp_path)
    assert store.list(HIT) == []
    for night, visit in [("20260102", 1), ("20260101", 7), ("20260101", 5)]:
        store.publish(HIT, ExposureKey(night=night, visit=visit, detector=0), hits(2), "d")
    store.publish(DIA_SOURCE, KEY, sources(1), "d")
    assert [path.stem for path in store.list(HIT)] == ["5-0", "7-0", "1-0"]
    assert [path.stem for path in store.list(HIT, "20260102")] == ["1-0"]
    assert not list((tmp_path / "staging").iterdir())


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, 50), max_size=4).map(sorted), digest=st.text("abcdef0123456789", max_size=64))
def test_bytes_do_not_depend_on_how_the_table_was_put_together(tmp_path_factory, cuts, digest):
    whole = sources(50)
    edges = [0, *cuts, 50]
    pieces = pa.concat_tables([whole.slice(a, b - a) for a, b in pairwise(edges)])
    written = {
        CatalogStore(tmp_path_factory.mktemp("out")).publish(DIA_SOURCE, KEY, table, digest).read_bytes()
        for table in (whole, pieces)
    }
    assert len(written) == 1


def test_bytes_are_the_same_in_another_process(tmp_path):
    code = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1])))
from test_catalog_store import DIA_SOURCE, KEY, CatalogStore, sources
CatalogStore(Path(sys.argv[2])).publish(DIA_SOURCE, KEY, sources(40), "d")
"""
    subprocess.run([sys.executable, "-c", code, Path(__file__).parent, tmp_path / "there"], check=True)
    here = CatalogStore(tmp_path / "here").publish(DIA_SOURCE, KEY, sources(40), "d")
    assert here.read_bytes() == CatalogStore(tmp_path / "there").path(DIA_SOURCE, KEY).read_bytes()


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 9))
def test_small_tables_are_joined_as_they_come(sizes, together):
    starts = np.cumsum([0, *sizes])
    tables = [pa.table({"n": np.arange(start, start + size)}) for start, size in zip(starts, sizes, strict=False)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog_store, "_TOGETHER", together)
        found = joined(iter(tables))
    if not tables:
        assert found is None
        return
    assert found.equals(pa.concat_tables(tables))
    assert found["n"].num_chunks <= len(tables) // together + together


def test_refuses_a_table_of_another_form(tmp_path):
    with pytest.raises(DatasetError, match="dataset 'hit': missing"):
        CatalogStore(tmp_path).publish(HIT, KEY, sources(1), "d")
    assert not any(tmp_path.iterdir())


def test_catalogue_of_another_dataset_or_another_form(tmp_path):
    store = CatalogStore(tmp_path)
    path = store.publish(HIT, KEY, hits(2), "d")
    with pytest.raises(BadInput, match=r"is 'hit' where 'dia_source' is expected"):
        read_table(path, DIA_SOURCE)
    grown = TableOf("hit", HIT.schema.append(column("score", pa.float32(), "", "New.")))
    with pytest.raises(BadInput, match=r"missing \['score: float'\], unexpected \[\]. To fix, run the night again"):
        read_table(path, grown)


def test_later_version_is_refused(tmp_path):
    store = CatalogStore(tmp_path)
    path = store.publish(HIT, KEY, hits(2), "d")
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"nightstride.schema_version": b"2"}), path)
    for read in (lambda: store.read(HIT, KEY), lambda: read_metadata(path), lambda: read_qtable(path)):
        with pytest.raises(Misconfigured, match=r"has schema version 2, .* reads version 1. To fix, use") as caught:
            read()
        assert caught.value.code == "other_version"


@pytest.mark.parametrize("lacking", ["digest", "dataset", "schema_version"])
def test_a_file_that_lacks_one_of_our_words_is_no_catalogue(tmp_path, lacking):
    path = CatalogStore(tmp_path).publish(HIT, KEY, hits(2), "d")
    table = pq.read_table(path, partitioning=None)
    rest = {key: value for key, value in table.schema.metadata.items() if key != f"nightstride.{lacking}".encode()}
    assert len(rest) == len(table.schema.metadata) - 1
    pq.write_table(table.replace_schema_metadata(rest), path)
    with pytest.raises(BadInput, match="no catalogue of nightstride"):
        read_metadata(path)


def test_an_earlier_version_is_refused_too(tmp_path):
    path = CatalogStore(tmp_path).publish(HIT, KEY, hits(2), "d")
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"nightstride.schema_version": b"0"}), path)
    with pytest.raises(Misconfigured, match="has schema version 0"):
        read_metadata(path)


def test_any_reader_of_parquet_can_skip_what_it_does_not_look_for(tmp_path):
    """Statistics let it; plain pages keep their bytes whatever the values are."""
    path = CatalogStore(tmp_path).publish(HIT, KEY, hits(500), "d")
    file = pq.ParquetFile(path)
    assert (file.metadata.format_version, file.metadata.num_row_groups) == ("2.6", 1)
    for place, name in enumerate(HIT.schema.names):
        column = file.metadata.row_group(0).column(place)
        assert (column.path_in_schema, column.compression) == (name, "ZSTD")
        assert not column.has_dictionary_page
        assert (column.statistics.min, column.statistics.max) == (0, 499)
    assert file.schema_arrow.field("logit").metadata[b"doc"] == HIT.schema.field("logit").metadata[b"doc"]


def test_missing_damaged_and_foreign_files(tmp_path):
    store = CatalogStore(tmp_path)
    with pytest.raises(BadInput, match=r"cannot be read as Parquet.* To fix, run the night again"):
        store.read(HIT, KEY)
    path = store.publish(HIT, KEY, hits(500), "d")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match="cannot be read as Parquet"):
        store.read(HIT, KEY)
    pq.write_table(hits(3), path)
    with pytest.raises(BadInput, match="is Parquet, but no catalogue of nightstride"):
        store.read(HIT, KEY)


@settings(deadline=None)
@given(place=st.floats(0.01, 0.5), bit=st.integers(0, 7))
def test_flipped_bit_never_gives_other_rows(tmp_path_factory, place, bit):
    store = CatalogStore(tmp_path_factory.mktemp("out"))
    noise = np.random.default_rng(1).integers(0, 2**31, 3000).astype(np.int32)
    table = pa.table({"row": noise, "column": noise, "logit": noise.astype(np.float32)}, schema=HIT.schema)
    path = store.publish(HIT, KEY, table, "d")
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    with suppress(BadInput):
        assert store.read(HIT, KEY).equals(table)  # a bit that does not matter, in the header of a page


def test_full_disk_keeps_the_old_catalogue(small_disk):
    store = CatalogStore(small_disk)
    store.publish(HIT, KEY, hits(10), "old")
    noise = np.random.default_rng(1).integers(0, 2**31, 300_000).astype(np.int32)
    big = pa.table({"row": noise, "column": noise, "logit": noise.astype(np.float32)}, schema=HIT.schema)
    with pytest.raises(Retryable, match=r"bytes are free"):
        store.publish(HIT, KEY, big, "new")
    assert read_metadata(store.path(HIT, KEY))[1] == "old"
    assert not list((small_disk / "staging").iterdir())


def declared_tables():
    for file in sorted(Path(schemas.__file__).parent.glob("*.py")):
        module = __import__(f"schemas.{file.stem}", fromlist=["_"])
        yield from {value.name: value for value in vars(module).values() if isinstance(value, TableOf)}.items()


@pytest.mark.parametrize(("name", "dataset"), dict(declared_tables()).items())
def test_every_declared_unit_is_one_of_astropy(name, dataset):
    assert dataset.name == name
    for field in dataset.schema:
        field_unit(field.metadata[b"unit"].decode())  # raises ValueError for an unknown one
        assert field.metadata[b"doc"]


def test_table_with_units(tmp_path):
    path = CatalogStore(tmp_path).publish(DIA_SOURCE, KEY, sources(3), "d")
    table = read_qtable(path)
    assert table.colnames == DIA_SOURCE.schema.names
    assert table["psfFlux"].to(u.uJy).value == pytest.approx([0.25e-3, 1.25e-3, 2.25e-3])
    assert table["magAB"].unit == u.ABmag
    assert table["trailCov"].shape == (3, 25)
    assert table["x"].unit == u.pix
    assert (table["bboxSize"].dtype, table["psfFlux"].dtype, table["ra"].dtype) == ("i4", "f4", "f8")
    assert list(table["band"]) == ["text 0", "text 1", "text 2"]
    assert table["ra"].info.description == "Right ascension (ICRS) of the centre; null without WCS."
    assert table.meta["nightstride.digest"] == "d"


@pytest.mark.parametrize("table", [sources(2, blank=True), sources(0)])
def test_table_with_units_of_nulls_and_of_nothing(tmp_path, table):
    read = read_qtable(str(CatalogStore(tmp_path).publish(DIA_SOURCE, KEY, table, "d")))
    assert len(read) == len(table)
    for name in ("psfFlux", "magAB", "ra", "trailCov"):
        assert np.isnan(read[name].value).all()


def test_nulls_of_whole_numbers_are_masked(tmp_path):
    dataset = TableOf("other", pa.schema([column("n", pa.int32(), "", "A number.", nullable=True)]))
    path = CatalogStore(tmp_path).publish(dataset, KEY, pa.table({"n": [1, None, 3]}, schema=dataset.schema), "d")
    found = read_qtable(path)["n"]
    assert list(found.mask) == [False, True, False]
    assert list(found.compressed()) == [1, 3]


def test_nulls_of_whole_numbers_with_a_unit_are_nan(tmp_path):
    """A quantity has no mask."""
    for values, expected in (([1, None, 3], [1, np.nan, 3]), ([1, 2, 3], [1, 2, 3])):
        dataset = TableOf("other", pa.schema([column("n", pa.int32(), "d", "A time.", nullable=True)]))
        path = CatalogStore(tmp_path).publish(dataset, KEY, pa.table({"n": values}, schema=dataset.schema), "d")
        found = read_qtable(path)["n"]
        np.testing.assert_array_equal(found.to_value(u.d), expected)
        assert found.unit == u.d


def test_patches_are_listed_of_one_night_or_of_all_and_read_as_one(tmp_path):
    store, paths = CatalogStore(tmp_path), {}
    for night, pixel in (("20260102", 1), ("20260101", 7), ("20260101", 12)):
        key = PatchKey(night=night, order=4, pixel=pixel)
        paths[night, pixel] = store.publish(HIT, key, hits(pixel), "d")
    first = [paths["20260101", 7], paths["20260101", 12]]
    assert store.list(HIT, "20260101") == sorted(first)
    assert store.list(HIT) == [*sorted(first), paths["20260102", 1]]
    assert store.read_night(HIT, "20260101").equals(pa.concat_tables([hits(7), hits(12)]))
    some = store.read_night(HIT, "20260101", ["logit"])
    assert (some.column_names, len(some)) == (["logit"], 19)
    assert store.read_night(HIT, "20260101", []).column_names == []
    assert store.read_night(HIT, "20260103") is None
    store.publish(HIT, "20260101", hits(3), "d")
    assert len(store.read_night(HIT, "20260101")) == 3  # that of the whole night goes before


def test_what_a_catalogue_says_of_itself_is_read_with_or_without_its_form(tmp_path):
    path = CatalogStore(tmp_path).publish(HIT, KEY, hits(4), "d")
    content = path.read_bytes()
    assert inspect(path, content, None) == inspect(path, content, HIT) == ("hit", "d", 4)
    with pytest.raises(BadInput) as caught:
        inspect(path, content, DIA_SOURCE)
    assert caught.value.code == "catalogue_form"


def test_words_that_were_added_when_a_file_was_closed_count(tmp_path):
    """As those of a part, which are no words of its schema."""
    path, schema = tmp_path / "a.parquet", hits(0).schema.with_metadata({DATASET: "hit", VERSION: "1"})
    with pq.ParquetWriter(path, schema) as writer:
        writer.write_table(hits(2).replace_schema_metadata(schema.metadata))
        writer.add_key_value_metadata({DIGEST: "late"})
    assert read_metadata(path) == ("hit", "late", 2)


def test_truths_and_gaps_in_lists_become_columns():
    lists = pa.array([[1.0, None], None, [3.0, 4.0]], pa.list_(pa.float64(), 2))
    np.testing.assert_array_equal(list_rows(lists), [[1, np.nan], [np.nan, np.nan], [3, 4]])
    found = qtable_of(pa.table({"yes": [True, None, False], "list": lists, "text": ["a", None, "a"]}))
    assert found["yes"].mask.tolist() == [False, True, False]
    assert found["yes"].filled(True).tolist() == [True, True, False]
    np.testing.assert_array_equal(found["list"], list_rows(lists))
    assert found["text"].filled("").tolist() == ["a", "", "a"]

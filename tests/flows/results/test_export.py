import builtins
import io

import numpy as np
import pyarrow as pa
import pytest
from astropy.io.votable import parse_single_table, validate
from astropy.table import Table

from flows.results.export import published_files, published_table, write_hats, write_votable
from flows.storage.catalog_store import CatalogStore
from schemas.dataset import TableOf, column
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.forced import FORCED_SOURCE
from schemas.injection import INJECTION
from schemas.objects import DIA_LINK, OBJECT, SOURCE
from tests.support.export import NIGHTS, objects, publish

quiet = pytest.mark.filterwarnings("ignore")  # of the libraries


@quiet
def test_opens_in_lsdb_with_all_rows(tmp_path):
    lsdb = pytest.importorskip("lsdb", reason="the extra hats is not installed")
    pytest.importorskip("hats_import", reason="the extra hats is not installed")
    whole = publish(tmp_path)
    target = tmp_path / "hats" / "object"
    assert write_hats(target, OBJECT, CatalogStore(tmp_path).list(OBJECT)) == len(whole)
    catalogue = lsdb.open_catalog(target)
    found = catalogue.compute().sort_values("objectId")
    np.testing.assert_array_equal(found["objectId"], whole["objectId"].to_numpy())
    np.testing.assert_array_equal(found["ra"], whole["ra"].to_numpy())
    assert [path.name for path in target.parent.iterdir()] == ["object"]


def test_refuses_what_has_no_place_and_a_folder_that_is_there(tmp_path):
    with pytest.raises(Misconfigured, match="has no columns ra and dec"):
        write_hats(tmp_path / "x", DIA_LINK, [])
    with pytest.raises(Misconfigured, match="is there already"):
        write_hats(tmp_path, OBJECT, [])


@quiet
def test_refuses_a_catalogue_without_any_position(tmp_path):
    pytest.importorskip("hats_import", reason="the extra hats is not installed")
    path = CatalogStore(tmp_path).publish(DIA_SOURCE, "20260101", DIA_SOURCE.empty(), "d")
    with pytest.raises(Misconfigured, match="no row with a sky position"):
        write_hats(tmp_path / "x", DIA_SOURCE, [path])
    assert not (tmp_path / "x").exists()


def test_says_which_extra_is_missing(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "hats_import":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Misconfigured, match=r"pip install 'nightstride\[hats\]'"):
        write_hats(tmp_path / "x", OBJECT, [])


TABLES = {"object": OBJECT}


def test_gives_all_nights_or_one(tmp_path):
    whole = publish(tmp_path)
    assert published_table(published_files(tmp_path, "object", TABLES), OBJECT).equals(whole)
    second = published_table(published_files(tmp_path, "object", TABLES, NIGHTS[1]), OBJECT)
    assert second.equals(whole.slice(30))


@pytest.mark.parametrize(
    ("name", "night", "says"),
    [("objcet", None, "'objcet' is no dataset"), ("object", "20200101", "of night 20200101")],
)
def test_says_what_there_is(tmp_path, name, night, says):
    publish(tmp_path)
    with pytest.raises(Misconfigured, match=says + r".*choose one of \['object'\]"):
        published_files(tmp_path, name, TABLES, night)
    with pytest.raises(Misconfigured, match=r"folder of a `nightstride run`"):
        published_files(tmp_path / "empty", "object", TABLES)


def filled(dataset, number=3):
    columns = {}
    for field in dataset.schema:
        values = [True] * number if pa.types.is_boolean(field.type) else np.arange(number)
        if pa.types.is_string(field.type):
            values = ["Zürich"] * number
        elif pa.types.is_fixed_size_list(field.type):
            values = [[0.5] * field.type.list_size] * number
        array = pa.array(values).cast(field.type)
        columns[field.name] = pa.array([None, *array.to_pylist()[1:]], field.type) if field.nullable else array
    return pa.table(columns, schema=dataset.schema)


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize(
    "dataset", [DIA_SOURCE, INJECTION, SOURCE, OBJECT, DIA_LINK, FORCED_SOURCE], ids=lambda one: one.name
)
def test_is_valid_and_gives_back_what_was_published(tmp_path, dataset, rows):
    path, table = tmp_path / "table.vot", filled(dataset).slice(0, rows)
    write_votable(path, dataset, table)
    report = io.StringIO()
    assert validate(str(path), report), report.getvalue()
    found = Table.read(path, format="votable")
    assert found.colnames == dataset.schema.names
    assert len(found) == rows
    for name in dataset.schema.names:
        for ours, theirs in zip(table[name].to_pylist(), found[name], strict=True):
            if ours is None:
                assert np.ma.is_masked(theirs) or np.all(np.isnan(theirs))
            else:
                np.testing.assert_array_equal(theirs, ours)


def test_columns_say_what_they_are(tmp_path):
    write_votable(tmp_path / "o.vot", OBJECT, objects(5, 1))
    fields = {field.name: field for field in parse_single_table(tmp_path / "o.vot").fields}
    assert str(fields["g_psfFlux"].unit) == "nJy"
    assert fields["ra"].ucd == "pos.eq.ra;meta.main"
    assert str(fields["g_psfMag"].unit) == "mag"
    assert "dust" in fields["ebv"].description
    assert fields["objectId"].datatype == "long"


def test_ids_beyond_the_precision_of_a_float_survive(tmp_path):
    form = TableOf("ids", pa.schema([column("objectId", pa.int64(), "", "Id.", nullable=True)]))
    write_votable(tmp_path / "i.vot", form, pa.table({"objectId": [2**61 + 1, None]}, schema=form.schema))
    found = Table.read(tmp_path / "i.vot")["objectId"]
    assert found[0] == 2**61 + 1
    assert found.mask.tolist() == [False, True]

import builtins

import numpy as np
import pytest

from flows.results.export import export_hats, published_files
from flows.storage.catalog_store import CatalogStore
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.night_range import EVERY_NIGHT, NightRange
from schemas.objects import DIA_LINK, OBJECT
from tests.support.export import NIGHTS, publish

quiet = pytest.mark.filterwarnings("ignore")  # of the libraries


@quiet
def test_opens_in_lsdb_with_all_rows(tmp_path):
    lsdb = pytest.importorskip("lsdb", reason="the extra hats is not installed")
    pytest.importorskip("hats_import", reason="the extra hats is not installed")
    whole = publish(tmp_path)
    target = tmp_path / "hats" / "object"
    target.parent.mkdir()
    assert export_hats(target, OBJECT, CatalogStore(tmp_path).list(OBJECT)) == len(whole)
    catalogue = lsdb.open_catalog(target)
    found = catalogue.compute().sort_values("objectId")
    np.testing.assert_array_equal(found["objectId"], whole["objectId"].to_numpy())
    np.testing.assert_array_equal(found["ra"], whole["ra"].to_numpy())
    assert [path.name for path in target.parent.iterdir()] == ["object"]


def test_refuses_what_has_no_place_and_a_folder_that_is_there(tmp_path):
    with pytest.raises(Misconfigured, match="has no columns ra and dec"):
        export_hats(tmp_path / "x", DIA_LINK, [])
    with pytest.raises(Misconfigured, match="is there already"):
        export_hats(tmp_path, OBJECT, [])


@quiet
def test_refuses_a_catalogue_without_any_position(tmp_path):
    pytest.importorskip("hats_import", reason="the extra hats is not installed")
    path = CatalogStore(tmp_path).publish(DIA_SOURCE, "20260101", DIA_SOURCE.empty(), "d")
    with pytest.raises(Misconfigured, match="no row with a sky position"):
        export_hats(tmp_path / "x", DIA_SOURCE, [path])
    assert not (tmp_path / "x").exists()


def test_says_which_extra_is_missing(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "hats_import":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Misconfigured, match=r"pip install 'nightstride\[hats\]'"):
        export_hats(tmp_path / "x", OBJECT, [])


TABLES = {"object": OBJECT}


def test_gives_all_nights_or_one(tmp_path):
    publish(tmp_path)
    assert [path.parent.name for path in published_files(tmp_path, "object", TABLES)] == [
        f"night={one}" for one in NIGHTS
    ]
    (second,) = published_files(tmp_path, "object", TABLES, NightRange.of(NIGHTS[1]))
    assert second.parent.name == f"night={NIGHTS[1]}"
    assert len(published_files(tmp_path, "object", TABLES, NightRange(first=NIGHTS[0], last=NIGHTS[1]))) == 2


@pytest.mark.parametrize(
    ("name", "night", "says", "choose"),
    [
        ("objcet", None, "'objcet' is not a dataset", "dia_source, object"),
        ("object", "20200101", "of night 20200101", "20260101, 20260102"),
        ("dia_source", NIGHTS[0], "of night 20260101", "object"),
    ],
)
def test_says_what_there_is(tmp_path, name, night, says, choose):
    publish(tmp_path)
    tables = TABLES | {"dia_source": DIA_SOURCE}
    with pytest.raises(Misconfigured, match=rf"{says}.*choose one of {choose}\.$"):
        published_files(tmp_path, name, tables, EVERY_NIGHT if night is None else NightRange.of(night))
    with pytest.raises(Misconfigured, match=r"folder of a `nightstride run`"):
        published_files(tmp_path / "empty", "object", TABLES)


def test_an_empty_folder_is_no_catalogue_to_choose(tmp_path):
    publish(tmp_path)
    (tmp_path / "catalogs/dia_source" / f"night={NIGHTS[0]}").mkdir(parents=True)
    with pytest.raises(Misconfigured, match=r"holds no catalogue 'dia_source'.*choose one of object\.$"):
        published_files(tmp_path, "dia_source", {"object": OBJECT, "dia_source": DIA_SOURCE})

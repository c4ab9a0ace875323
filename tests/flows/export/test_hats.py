import builtins

import numpy as np
import pytest

from flows.adapters.catalog_store import CatalogStore
from flows.export.hats import write_hats
from schemas.dia_link import DIA_LINK
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.object import OBJECT
from tests.flows.export.export_support import publish

quiet = pytest.mark.filterwarnings("ignore")  # of the libraries


@quiet
def test_opens_in_lsdb_with_all_rows_and_a_cross_match_finds_each_object(tmp_path):
    lsdb = pytest.importorskip("lsdb", reason="the extra hats is not installed")
    pytest.importorskip("hats_import", reason="the extra hats is not installed")
    whole = publish(tmp_path)
    target = tmp_path / "hats" / "object"
    assert write_hats(target, OBJECT, CatalogStore(tmp_path).list(OBJECT)) == len(whole)
    catalogue = lsdb.open_catalog(target)
    found = catalogue.compute().sort_values("objectId")
    np.testing.assert_array_equal(found["objectId"], whole["objectId"].to_numpy())
    np.testing.assert_array_equal(found["ra"], whole["ra"].to_numpy())
    small = whole.slice(0, 7).select(["objectId", "ra", "dec"]).to_pandas()
    small["dec"] += 0.5 / 3600
    other = lsdb.from_dataframe(small, ra_column="ra", dec_column="dec")
    matched = other.crossmatch(catalogue, radius_arcsec=1.0, suffixes=("_a", "_b")).compute()
    assert len(matched) == 7
    assert (matched["objectId_a"] == matched["objectId_b"]).all()
    np.testing.assert_allclose(matched["_dist_arcsec"], 0.5, atol=0.01)
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

import json
import shutil

import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from flows.storage.catalog_parts import parts
from tests.support.cli import nightstride
from tests.support.night import DETECTORS, VISITS, catalogues, of_exposures

pytest_plugins = ("tests.support.night_fixture",)
pytestmark = pytest.mark.slow

JOIN = {"NIGHTSTRIDE_CATALOGS__COMPACT_FROM": "2"}
OF_EXPOSURES = {"dia_source", "injection", "source", "negative"}


def rows(out):
    """Rows of each dataset of exposures, read by its files alone."""
    return {
        name: sorted(pq.read_table(out / "catalogs" / name, partitioning=None).to_pylist(), key=str)
        for name in OF_EXPOSURES
    }


def verified(out):
    found = nightstride("verify", out, "--json")
    return found.code, json.loads(found.stdout)["problems"]


def test_a_night_in_parts_is_the_same_night(uninterrupted, nightstride_run, raw_night, tmp_path):
    raw, out, to = shutil.copytree(raw_night, tmp_path / "raw"), tmp_path / "out", tmp_path / "backup"
    before = rows(uninterrupted[1])

    def run(**environment):
        found = nightstride_run.here(raw, "--out", out, **environment)
        assert found.code == 0, found.stderr
        return found.summary["exposures"]

    def restored():
        shutil.rmtree(tmp_path / "restored", ignore_errors=True)
        for arguments in (("backup", out, to), ("restore", to, tmp_path / "restored")):
            found = nightstride(*arguments)
            assert found.code == 0, found.stderr
        return tmp_path / "restored"

    assert run(**JOIN)["done"] == VISITS * DETECTORS
    assert of_exposures(out) == []
    assert [part.parent.parent.name for part in parts_of(out)] == sorted(OF_EXPOSURES)
    assert rows(out) == before
    assert verified(out) == (0, [])
    joined = catalogues(out)
    assert catalogues(restored()) == joined
    assert run()["skipped"] == VISITS * DETECTORS
    assert catalogues(out) == joined

    with fits.open(min(raw.glob("*scimrefdiffimg*")), mode="update", disable_image_compression=True) as hdus:
        hdus[0].header["OBSERVER"] = "somebody else"
    assert run()["done"] == 1
    assert len(of_exposures(out)) == len(OF_EXPOSURES)
    for folder in (out, restored()):
        assert rows(folder) == before
        assert verified(folder) == (0, [])


def parts_of(out):
    return [part for folder in sorted((out / "catalogs").glob("*/night=*")) for part in parts(folder)]

"""Exported tables, read by the library behind TOPCAT."""

import csv
import io
import os
import re
import shutil
import subprocess

import numpy as np
import pyarrow as pa
import pytest

from flows.results.export_formats import write_rows
from schemas.dataset import TableOf
from schemas.forced import FORCED_SOURCE
from stages import PIPELINE
from tests.flows.results.test_export_formats import filled
from tests.support.export import objects

TABLES = {one.name: one for one in (*(stage.gives for stage in PIPELINE), FORCED_SOURCE) if isinstance(one, TableOf)}
STILTS = shutil.which("stilts")
pytestmark = pytest.mark.skipif(
    STILTS is None and "NIGHTSTRIDE_REQUIRE_SERVICES" not in os.environ,
    reason="stilts is not installed (Debian: apt-get install stilts)",
)


def stilts(*arguments):
    assert STILTS, "stilts is not installed, and NIGHTSTRIDE_REQUIRE_SERVICES asks for it."
    run = subprocess.run([STILTS, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout, run.stderr


def joined(documents):
    """One document with the resources of several, whose heads are the same, each with identifiers of its own."""
    parts = [re.fullmatch(r"(.*?)(<RESOURCE.*</RESOURCE>)(.*)", text, re.DOTALL).groups() for text in documents]
    ((head, tail),) = {(head, tail) for head, _, tail in parts}
    named = (re.sub(r' (ID|ref)="', rf' \1="d{n}_', resource) for n, (_, resource, _) in enumerate(parts))
    return head + "\n".join(named) + tail


@pytest.mark.parametrize("rows", [0, 3])
def test_votlint_has_nothing_to_say(tmp_path, rows):
    """All tables in one file: a virtual machine for each would take most of the time."""
    paths = [tmp_path / f"{name}.vot" for name in TABLES]
    assert len(paths) > 15
    for path, dataset in zip(paths, TABLES.values(), strict=True):
        write_rows(path, "votable", dataset.name, filled(dataset).slice(0, rows))
    every = tmp_path / "every.vot"
    every.write_text(joined([path.read_text() for path in paths]))
    for path in (paths[0], every):
        assert stilts("votlint", "ucd=true", "unit=true", str(path)) == ("", "")


def test_votlint_says_what_is_wrong_with_one_of_many(tmp_path):
    paths = [tmp_path / f"{name}.vot" for name in ("object", "source")]
    for path in paths:
        write_rows(path, "votable", path.stem, filled(TABLES[path.stem]))
    documents = [path.read_text() for path in paths]
    documents[1] = documents[1].replace('datatype="long"', 'datatype="lang"', 1)
    (tmp_path / "bad.vot").write_text(joined(documents))
    said = "".join(stilts("votlint", "ucd=true", "unit=true", str(tmp_path / "bad.vot")))
    assert "Unknown datatype 'lang'" in said


def test_rows_and_nulls_come_through(tmp_path):
    table = objects(7, 1)
    write_rows(tmp_path / "o.vot", "votable", "object", table)
    text, _ = stilts("tpipe", f"in={tmp_path / 'o.vot'}", "ofmt=csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == table.column_names
    assert [int(row["objectId"]) for row in rows] == table["objectId"].to_pylist()
    assert [float(row["ra"]) for row in rows] == table["ra"].to_pylist()
    assert [row["refBand"] for row in rows] == ["r"] * 7
    psf = [float(row["z_psfFlux"]) if row["z_psfFlux"] else None for row in rows]
    ours = table["z_psfFlux"].to_pylist()
    assert [value is None for value in psf] == [value is None for value in ours] == [True, False] * 3 + [True]
    np.testing.assert_allclose(psf[1::2], ours[1::2], rtol=1e-6)


def test_knows_sky_positions_by_their_ucds(tmp_path):
    """A match on the sky needs to be told no columns."""
    table = objects(40, 1)
    moved = table.set_column(
        table.column_names.index("dec"), table.schema.field("dec"), pa.array(table["dec"].to_numpy() + 0.5 / 3600)
    )
    write_rows(tmp_path / "a.vot", "votable", "object", table)
    write_rows(tmp_path / "b.vot", "votable", "object", moved.slice(10))
    text, _ = stilts("tskymatch2", f"in1={tmp_path / 'a.vot'}", f"in2={tmp_path / 'b.vot'}", "error=1", "ofmt=csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {(row["objectId_1"], row["objectId_2"]) for row in rows} == {
        (str(one), str(one)) for one in table["objectId"].to_pylist()[10:]
    }

import json

import pytest
from astropy.table import Table
from typer.testing import CliRunner

from flows.cli import app
from tests.flows.export.export_support import NIGHTS, publish


def run(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_writes_a_votable_of_all_nights_or_one(tmp_path):
    publish(tmp_path)
    result = run(tmp_path, "--to", tmp_path / "o.vot", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["rows"] == 60
    assert len(Table.read(tmp_path / "o.vot")) == 60
    assert "30 rows of object, 1 files" in run(tmp_path, "--to", tmp_path / "n.vot", "--night", NIGHTS[0]).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--dataset", "nothing"), "'nothing' is no dataset"),
        (("--dataset", "dia_source"), "holds no catalogue 'dia_source'"),
        (("--format", "fits"), "votable"),
    ],
)
def test_bad_usage_ends_with_2(tmp_path, arguments, says):
    publish(tmp_path)
    result = run(tmp_path, "--to", tmp_path / "x", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    publish(tmp_path)
    (tmp_path / "file").write_text("mine")
    for form in ("votable", "hats"):
        result = run(tmp_path, "--to", tmp_path / "file/x", "--format", form)
        assert result.exit_code == 2
        assert "file: the folder cannot be made there" in result.stderr
        assert "choose another --to" in result.stderr
    folder = run(tmp_path, "--to", tmp_path / "catalogs")
    assert folder.exit_code == 2
    assert "catalogs: is a folder; a VOTable is one file. To fix, name a file with --to." in folder.stderr

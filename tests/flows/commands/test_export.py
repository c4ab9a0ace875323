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

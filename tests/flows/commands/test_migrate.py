import json

from typer.testing import CliRunner

from flows.cli import app
from tests.flows.test_migrate import older


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_an_older_folder_is_told_of_and_brought_up_to_date(tmp_path):
    out = older(tmp_path, "before causes")
    assert "nightstride migrate OUT" in run("status", out).stdout
    before = run("verify", out)
    assert before.exit_code == 1
    assert "nightstride migrate OUT" in before.stdout
    dry = run("migrate", out, "--dry-run", "--json")
    assert dry.exit_code == 0
    assert len(json.loads(dry.stdout.splitlines()[-1])["steps"]) == 4
    done = run("migrate", out)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "Done: 4 files, 2 to be searched again.")
    assert run("verify", out).exit_code == 0
    assert "nightstride migrate OUT" not in run("status", out).stdout


def test_what_is_no_output_folder_is_2(tmp_path):
    assert run("migrate", tmp_path).exit_code == 2
    assert run("migrate", tmp_path / "absent").exit_code == 2
    assert list(tmp_path.iterdir()) == []  # no folder or lease is left behind

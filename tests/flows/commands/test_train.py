from typer.testing import CliRunner

from flows.cli import app


def test_help_names_the_options():
    result = CliRunner().invoke(app, ["train", "detect", "--help"], env={"COLUMNS": "160"})
    assert result.exit_code == 0
    assert all(option in result.stdout for option in ("--out", "--work", "--seed", "--quick", "--json"))


def test_unknown_stage_is_bad_usage():
    assert CliRunner().invoke(app, ["train", "nonsense"]).exit_code == 2

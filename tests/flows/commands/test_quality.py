import json

import pytest
from typer.testing import CliRunner

from flows.adapters.ledger import Ledger
from flows.cli import app
from tests.flows.report.conftest import NIGHT, make_info, make_rows, publish


@pytest.fixture
def out(tmp_path):
    info = make_info((60, 70))
    publish(tmp_path / "out", info, make_rows(info, 4, 1), 1)
    (tmp_path / "limits.toml").write_text("[quality.limits.all]\nseeing = [0, 1]\n")
    return tmp_path / "out"


def run(*arguments):
    return CliRunner().invoke(app, ["quality", *map(str, arguments)])


def test_a_night_that_passes_is_0_and_one_that_fails_is_1(out):
    assert run(out).exit_code == 0
    ended = run(out, NIGHT, "--config", out.parent / "limits.toml", "--json")
    assert ended.exit_code == 1
    (band,) = json.loads(ended.stdout.splitlines()[-1])["nights"][NIGHT]
    assert (band["band"], band["verdict"]) == ("r", "fail")
    assert Ledger(out).quality(NIGHT).judged[0].verdict == "fail"
    status = CliRunner().invoke(app, ["status", str(out), "--json"])
    assert json.loads(status.stdout.splitlines()[-1])["nights"][0]["quality"][0]["verdict"] == "fail"


def test_no_such_night_is_2(out):
    assert run(out, "20300101").exit_code == 2

import json

from typer.testing import CliRunner

from flows.cli import app


def test_json():
    result = CliRunner().invoke(app, ["doctor", "--json"])
    findings = json.loads(result.stdout.splitlines()[-1])["findings"]
    assert {"python", "memory", "gpu", "import kernels", "output folder"} <= {f["name"] for f in findings}
    assert result.exit_code == int(any(f["verdict"] == "fail" for f in findings)) == 0


def test_a_failure_is_exit_code_1_with_its_remedy():
    result = CliRunner().invoke(app, ["doctor", "--out", "/proc/nowhere"])
    assert result.exit_code == 1
    assert "To fix, choose a folder that you may write to." in result.stdout

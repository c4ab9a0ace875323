import pytest
from typer.testing import CliRunner

from flows.adapters.quarantine import Quarantine
from flows.cli import app
from schemas.errors import BadInput
from schemas.exposure import ExposureKey


@pytest.fixture
def out(tmp_path):
    for night in ("20261103", "20261104"):
        key = ExposureKey(night=night, visit=1, detector=1)
        Quarantine(tmp_path).put(BadInput("code", "where", "problem.", "remedy."), f"file:///{night}", key)
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_makes_the_page_of_every_night(out):
    result = call(out)
    pages = [out / "reports" / night / "index.html" for night in ("20261103", "20261104")]
    assert result.exit_code == 0
    assert result.stdout.split() == [str(page) for page in pages]
    assert all("remedy." in page.read_text() for page in pages)


def test_makes_the_page_of_one_night(out):
    assert call(out, "--night", "20261104").exit_code == 0
    assert [path.name for path in (out / "reports").iterdir()] == ["20261104"]


@pytest.mark.parametrize("arguments", [("--night", "20200101"), ()])
def test_there_is_no_such_night(tmp_path, out, arguments):
    result = call(out if arguments else tmp_path / "none", *arguments)
    assert result.exit_code == 2
    assert ("holds no night 20200101" if arguments else "there is no folder of this name") in result.stderr


def test_a_truth_that_cannot_be_read(out):
    result = call(out, "--truth", out / "none.parquet")
    assert result.exit_code == 2
    assert "none.parquet" in result.output
    assert not (out / "reports").exists()

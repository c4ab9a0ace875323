import json

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.adapters.lease import lease
from flows.cli import app
from tests.flows.forced.forced_support import MJD, at_pixel, plain_info, plain_planes, store


@pytest.fixture
def out(tmp_path):
    store(tmp_path / "out", plain_info(), plain_planes((100.0, 60.0, 12.0, 0.0, 6000.0)))
    return tmp_path / "out"


@pytest.fixture
def listed(tmp_path):
    def write(*rows):
        lines = ["name,ra,dec,epoch,rate_ra_cosdec,rate_dec", *(",".join(map(str, row)) for row in rows)]
        path = tmp_path / "targets.csv"
        path.write_text("\n".join(lines))
        return path

    return write


MOVES = ("moves", *at_pixel(88, 60), MJD - 1 / 2400, -1200.0, 0.0)  # 12 px west of there 36 s later
STANDS = ("stands", *at_pixel(200, 200), "", 0, 0)


def forced(*words):
    return CliRunner().invoke(app, ["forced", *map(str, words)])


def test_targets_are_measured_published_and_shown(out, listed):
    result = forced(listed(MOVES, STANDS), "--out", out)
    assert result.exit_code == 0
    assert "2 targets, 1 exposures: 1 detections, 1 upper limits" in result.stdout
    rows = pq.read_table(out / "catalogs/forced_source/night=20260101/7-0.parquet").to_pylist()
    assert [row["targetName"] for row in rows] == ["moves", "stands"]
    assert (rows[0]["x"], rows[0]["y"]) == pytest.approx((100, 60), abs=0.01)
    assert rows[0]["trailFlux"] == pytest.approx(6000 * 10**2.16, abs=4 * rows[0]["trailFluxErr"])
    assert not (out / "lease.json").exists()


def test_json_is_the_last_line_and_all_of_stdout(out, listed):
    result = forced(listed(MOVES, STANDS, ("wrong", "x", 1, MJD, 1, 1)), "--out", out, "--json", "--sigma", 5)
    summary = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (summary["targets"], summary["rows"], summary["detections"], summary["limits"]) == (2, 2, 1, 1)
    assert summary["left_out"][0]["where"].endswith("targets.csv: row 3, column ra")
    assert "left out: " in result.stderr
    assert "is 'x', must be a number from 0 to 360 (deg). To fix, correct it." in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{list}", "--out", "{out}/nowhere"], "has no exposure that was searched"),
        (["{list}", "--out", "{out}", "--night", "20990101"], "has no exposure that was searched in night 20990101"),
        (["{out}/absent", "--out", "{out}"], "absent: does not exist"),
        (["{out}/ledger/20260101/7-0.json", "--out", "{out}"], "cannot be read as Parquet, ECSV or CSV: ',' expected"),
        (["{list}", "--out", "{out}", "--sigma", "0"], "sigma"),
    ],
)
def test_usage_errors_are_exit_code_2(out, listed, words, message):
    path = listed(STANDS)
    result = forced(*(word.format(out=out, list=path) for word in words))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (out / "nowhere").exists()


def test_folder_of_a_run_that_goes_on_is_left_alone(out, listed):
    with lease(out):
        result = forced(listed(STANDS), "--out", out)
    assert result.exit_code == 2
    assert "another run holds it" in result.stderr
    assert not (out / "catalogs").exists()

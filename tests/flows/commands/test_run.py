import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from flows.commands.run import _nothing_to_search
from flows.plan import Plan
from schemas.ledger import ExposureRecord
from schemas.settings import Settings
from schemas.summary import Trouble

NIGHTSTRIDE = Path(sys.executable).with_name("nightstride")


def test_help_names_every_option_and_loads_nothing_heavy():
    code = (
        "import sys\nfrom flows.cli import app\n"
        "try:\n    app(['run', '--help'])\nexcept SystemExit:\n"
        "    heavy = {'numpy', 'pyarrow', 'astropy', 'torch', 'numba', 'dask', 'distributed', 'prefect', 'zarr'}\n"
        "    print(sorted(heavy & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
    for option in ("--out", "--config", "--scheduler", "--workers", "--where", "--collections", "--json"):
        assert option in run.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument"),
        (("a.fits",), "--out"),
        (("a.fits", "--out", "x", "--workers", "many"), "--workers"),
        (("a.fits", "--out", "x", "--workers", "0"), "execution.workers: Input should be greater than 0, got 0"),
    ],
)
def test_bad_usage_ends_with_2(tmp_path, arguments, says):
    run = subprocess.run([NIGHTSTRIDE, "run", *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 2
    assert says in run.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("bad", [0, 1])
def test_the_page_is_drawn_again_when_there_is_only_something_that_cannot_be_used(tmp_path, bad):
    record = ExposureRecord(
        night="20260101", visit=1, detector=0, source_uri="a", source_sha256="s", digest="d", software="0",
        finished_at="now",
    )  # fmt: skip
    page = tmp_path / "reports" / "20260101" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("old")
    troubles = (Trouble(uri="b", code="truncated", message="b: ends too early."),) * bad
    summary = _nothing_to_search(Plan((), (record,), 1, troubles), tmp_path, Settings(), Console(file=io.StringIO()))
    assert (summary.report, summary.exit_code) == (str(page), bad)
    assert (page.read_text() == "old") is not bool(bad)

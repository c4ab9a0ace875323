import os
import socket
import subprocess
import sys

import pytest

from flows.storage.lease import lease
from tests.support.cli import nightstride


def test_help_names_every_option_and_loads_nothing_heavy():
    code = (
        "import sys\nfrom flows.cli.app import app\n"
        "try:\n    app(['run', '--help'])\nexcept SystemExit:\n"
        "    heavy = {'numpy', 'pyarrow', 'astropy', 'torch', 'numba', 'dask', 'distributed', 'prefect', 'zarr'}\n"
        "    print(sorted(heavy & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
    for option in ("--out", "--config", "--scheduler", "--workers", "--where", "--collections", "--wait", "--json"):
        assert option in run.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument"),
        (("a.fits",), "--out"),
        (("a.fits", "--out", "x", "--workers", "many"), "--workers"),
        (("a.fits", "--out", "x", "--workers", "0"), "execution.workers: must be greater than 0, got 0"),
    ],
)
def test_bad_usage_ends_with_2(tmp_path, arguments, says):
    ended = nightstride("run", *arguments, cwd=tmp_path)
    assert ended.code == 2
    assert says in ended.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("command", ["run", "watch"])
def test_a_command_that_cron_starts_again_ends_at_once_and_names_the_holder(tmp_path, command):
    """Nothing is listed, nothing is served, and the figures of the run that holds OUT stay."""
    figures = tmp_path / "night.prom"
    figures.write_text("of the run that goes on")
    with socket.socket() as taken, lease(tmp_path / "out"):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        before = set(tmp_path.rglob("*"))
        options = ("--out", "out", "--json", "--metrics", taken.getsockname()[1], "--metrics-file", figures)
        ended = nightstride(command, "nowhere", *options, cwd=tmp_path)
        assert set(tmp_path.rglob("*")) == before
    assert ended.code == 4
    assert ended.summary["error"]["code"] == "locked"
    assert f"another run holds it: process {os.getpid()} on {socket.gethostname()}, since " in ended.stderr
    assert figures.read_text() == "of the run that goes on"
    later = nightstride(command, "nowhere", "--out", "out", cwd=tmp_path)
    assert later.code == 2
    assert "nowhere" in later.stderr


def test_results_go_to_a_folder_of_their_own(tmp_path):
    (tmp_path / "night").mkdir()
    ended = nightstride("run", "night", "--out", "night/../night", cwd=tmp_path)
    assert ended.code == 2
    assert "night is an input, too. To fix, give a folder of its own" in " ".join(ended.stderr.split())
    assert list((tmp_path / "night").iterdir()) == []

import subprocess
import sys

import pytest

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

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import cli
from flows.cli.app import app

HEAVY = {
    *("astropy", "dask", "distributed", "galsim", "matplotlib", "multiprocessing", "numba", "numcodecs", "numpy"),
    *("pandas", "photutils", "prefect", "pyarrow", "s3fs", "scipy", "sep", "sqlalchemy", "torch", "zarr"),
}

COMMANDS = (
    "run",
    "backfill",
    "watch",
    "status",
    "explain",
    "prune",
    "release",
    "simulate",
    "forced",
    "evaluate",
    "report",
    "verify",
    "train",
    "doctor",
    "bench",
)


def test_help_lists_every_command():
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--help"], [], ["--version"], ["run", "--help"], ["evaluate", "detect", "--help"], ["forced", "--help"]],
)
def test_help_loads_nothing_but_what_prints_it(arguments):
    code = f"""
import sys
from contextlib import suppress
from flows.cli.app import app
with suppress(SystemExit):
    app({arguments})
print(*{{name.split(".")[0] for name in sys.modules}}, file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ("nightstride" if arguments == ["--version"] else "Usage") in run.stdout
    assert HEAVY & set(run.stderr.split()) == set()


@pytest.mark.parametrize(
    ("command", "code", "out", "error"),
    [
        ("sys.argv[1:] = ['--help']", 0, "Usage", ""),
        ("sys.argv[1:] = ['nonsense']", 2, "", "No such command"),
        ("module.app = lambda: sys.exit(3)", 3, "", ""),
        ("module.app = lambda: sys.exit('wrong')", 1, "", "wrong"),
        ("module.app = lambda: 1 / 0", 1, "", "ZeroDivisionError"),
    ],
)
def test_a_process_ends_with_the_code_of_its_command_after_all_that_is_due_at_its_end(command, code, out, error):
    begin = "import atexit, sys\nimport flows.cli.app as module\natexit.register(print, 'the end')"
    script = "\n".join([begin, command, "module.main()"])
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == code
    assert out in run.stdout
    assert error in run.stderr
    assert run.stdout.endswith("the end\n")


@pytest.mark.parametrize(
    ("streams", "command", "code"),
    [
        (">&-", "sys.exit(0)", 0),
        ("2>&-", "sys.exit(3)", 3),
        (">/dev/full", "sys.stdout.write('held back'); sys.exit(0)", 1),
        (">/dev/full", "sys.stdout.write('held back'); sys.exit(3)", 3),
        ("| true", "time.sleep(1); sys.stdout.write('held back'); sys.exit(4)", 4),
    ],
)
def test_a_process_ends_with_its_code_though_nobody_reads(streams, command, code):
    """Streams that are closed, of a full disk, or that the reader has left."""
    begin = "import sys, time\nimport flows.cli.app as module\n"
    script = f"{begin}def command():\n    {command}\nmodule.app = command\nmodule.main()"
    shell = f'"$0" -c "$1" {streams}; exit "${{PIPESTATUS[0]}}"'
    arguments, buffered = ["bash", "-c", shell, sys.executable, script], {**os.environ, "PYTHONUNBUFFERED": ""}
    run = subprocess.run(arguments, capture_output=True, text=True, check=False, env=buffered)
    assert (run.returncode, run.stderr) == (code, "")


def test_letters_that_the_encoding_of_the_terminal_lacks_are_escaped():
    begin = "import sys\nimport flows.cli.app as module\nmodule.app = lambda: print('tcp://\\u2026')\nmodule.main()"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    run = subprocess.run([sys.executable, "-c", begin], capture_output=True, check=True, env=environment)
    assert run.stdout == b"tcp://\\u2026\n"


def test_bad_usage_is_exit_code_2():
    assert CliRunner().invoke(app, ["nonsense"]).exit_code == 2


@pytest.mark.parametrize(
    "command",
    [
        "run FILE --out PLACE",
        "simulate --visits 1 --out PLACE",
        "simulate --preset star-galaxy --count 100 --out PLACE",
        "train detect --quick --out PLACE",
        "train detect --quick --out GOOD --work PLACE",
        "train screen --out PLACE",
        "train spectral-class --task star --features photometry --models none --out PLACE",
        "train star-galaxy --quick --work PLACE",
        "fetch ztf --from 2018-04-01 --out PLACE",
        "services up PLACE",
    ],
)
def test_a_place_that_takes_no_folder_is_said_at_once(tmp_path, command):
    (tmp_path / "file.fits").write_text("mine")
    place = tmp_path / "file.fits" / "out"
    named = {"FILE": str(tmp_path / "file.fits"), "PLACE": str(place), "GOOD": str(tmp_path / "good")}
    result = CliRunner().invoke(app, [named.get(word, word) for word in command.split()])
    assert result.exit_code == 2
    assert f"{place}: the folder cannot be made there: {tmp_path}/file.fits is a file. To fix, choose" in result.stderr


@pytest.mark.parametrize(
    "command", ["inspect FILE --write PLACE", "link FILE --out PLACE", "ades report GOOD --night 20260302 --to PLACE"]
)
def test_no_folder_of_a_file_is_made_unasked(tmp_path, command):
    (tmp_path / "file.csv").write_text("mine")
    place = tmp_path / "none" / "x.parquet"
    named = {"FILE": str(tmp_path / "file.csv"), "PLACE": str(place), "GOOD": str(tmp_path)}
    result = CliRunner().invoke(app, [named.get(word, word) for word in command.split()])
    assert result.exit_code == 2
    assert f"{place}: {tmp_path}/none is not there. To fix, make it first (mkdir -p {tmp_path}/none)" in result.stderr
    assert not place.parent.exists()


def test_without_a_command_it_helps():
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)


def test_the_version_is_that_of_the_package():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"nightstride {version('nightstride')}\n")


MAIN = "import sys; from flows.cli import main; main()"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["status", "--help"]])
def test_a_full_disk_is_said_in_a_line(arguments):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", MAIN, *arguments]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert len(run.stderr.splitlines()) <= 1


@pytest.mark.parametrize("after", [0.02, 0.1, 0.2, 0.3, 0.5])
def test_ctrl_c_ends_it_quietly_also_while_it_is_imported(after):
    code = "from flows.cli import main; print('begun', flush=True); main()"
    command = [sys.executable, "-c", code, "verify", "/nowhere/at/all"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130, 2)  # 2: the command was faster
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [(signal.default_int_handler, signal.SIG_DFL), (signal.SIG_IGN, signal.SIG_IGN), (signal.SIG_DFL, signal.SIG_DFL)],
)
def test_ctrl_c_ends_a_process_that_is_being_imported_unless_it_was_told_not_to_hear_it(monkeypatch, before, meanwhile):
    class Command:
        @staticmethod
        def main():
            found.append(signal.getsignal(signal.SIGINT))

    def imported(name):
        found.append(signal.getsignal(signal.SIGINT))
        return Command

    found = []
    monkeypatch.setattr(cli, "import_module", imported)
    own = signal.signal(signal.SIGINT, before)
    try:
        cli.main()
    finally:
        signal.signal(signal.SIGINT, own)
    assert found == [meanwhile, before]

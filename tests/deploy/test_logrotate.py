"""The rotation of logs, by logrotate itself, on what the services write."""

import getpass
import gzip
import os
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from flows.nights.services.folder import Addresses, ServiceFolder
from flows.nights.services.processes import Daemon, Postgres
from tests.support.services import absent
from tests.support.wait import until

CONFIG = Path(__file__).parents[2] / "deploy/logrotate/nightstride"
HOME = "/srv/nightstride"
WRITER = "import time\nfor number in range(10**9):\n    print(f'{number:09}', flush=True)\n    time.sleep(0.002)"


def test_every_log_of_the_services_is_named():
    patterns = [line for line in CONFIG.read_text().splitlines() if line.startswith("/")]
    folder = ServiceFolder(Path(HOME) / "services", Addresses())
    logs = [folder.log("server"), folder.log("worker"), Postgres(folder)._log, Path(HOME) / "up.log"]
    for log in logs:
        assert any(fnmatch(str(log), pattern) for pattern in patterns), log


@pytest.fixture
def rotate(tmp_path):
    if shutil.which("logrotate") is None:
        absent("logrotate is not installed")
    user = getpass.getuser()
    ours = CONFIG.read_text().replace(HOME, str(tmp_path)).replace("root root", f"{user} {user}")
    config = tmp_path / "logrotate.conf"
    config.write_text(ours)
    config.chmod(0o644)
    command = ["logrotate", "--state", str(tmp_path / "state"), str(config)]
    return lambda: subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.mark.services
def test_a_service_writes_on_and_what_is_kept_is_bounded(tmp_path, rotate):
    folder = tmp_path / "services"
    folder.mkdir()
    log = folder / "server.log"
    daemon = Daemon(folder / "server.json", log)
    daemon.start([sys.executable, "-c", WRITER], {**os.environ})
    try:
        until(lambda: log.stat().st_size > 100)
        rotate()
        assert [path.name for path in folder.glob("*.log*")] == ["server.log"], "too small"
        for _ in range(6):
            with log.open("ab") as file:
                file.write(b"x" * 53_000_000 + b"\n")
            rotate()
            until(lambda: 0 < log.stat().st_size < 1_000_000)
    finally:
        daemon.stop(5)
    kept = sorted(path.name for path in folder.glob("server.log*"))
    assert kept == ["server.log", "server.log.1", "server.log.2.gz", "server.log.3.gz", "server.log.4.gz"]
    before, after = (folder / "server.log.1").read_text().split(), log.read_text().split()
    assert all(line.isdecimal() and len(line) == 9 for line in after[1:])
    assert int(after[-1]) > int(next(line for line in reversed(before) if line.isdecimal()))
    with gzip.open(folder / "server.log.4.gz", "rt") as file:
        assert any(line.strip().isdecimal() for line in file)

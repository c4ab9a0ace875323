"""Processes that outlive the command that starts them, including PostgreSQL."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
from pydantic import ValidationError

from flows.nights.services.folder import DATABASE, ServiceFolder
from flows.runtime.settings import require_there
from flows.storage.atomic import STAGED, publish_file, write_file
from flows.storage.holder import Holder, is_here, myself, runs, start_of
from flows.storage.writing import writing
from schemas.errors import Misconfigured


@dataclass(frozen=True)
class Daemon:
    """Background process.

    Attributes
    ----------
    record
        File that identifies the process.
    log
        File for its output.
    """

    record: Path
    log: Path

    @property
    def process(self) -> psutil.Process | None:
        """Return the process; None if it is not running."""
        try:
            known = Holder.model_validate_json(self.record.read_bytes())
        except (OSError, ValidationError):
            return None
        # Process numbers mean nothing after a reboot or in another container.
        return psutil.Process(known.pid) if is_here(known) and runs(known) else None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the process in its own session; the caller has checked that it is not running."""
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
                cwd=self.record.parent, preexec_fn=_hear_interrupts,
            )  # fmt: skip
        try:
            started = start_of(psutil.Process(process.pid))
            known = myself().model_copy(update={"pid": process.pid, "started": started})
            write_file(self.record, known.model_dump_json(indent=1).encode(), self.record.parent)
        except BaseException:
            process.kill()  # nothing would find it later
            process.wait()
            raise
        # Suppress Popen's warning at deletion: the process lives on.
        process.returncode = 0

    def stop(self, patience_s: float) -> None:
        """End the process: SIGTERM, SIGKILL after ``patience_s``; then SIGKILL to everything it has started."""
        process = self.process
        if process is not None:
            family = {process}
            with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):  # it may end by itself at any moment
                family.update(process.children(recursive=True))
                process.terminate()
                process.wait(patience_s)
            for one in tuple(family):
                with suppress(psutil.NoSuchProcess):
                    family.update(one.children(recursive=True))  # started meanwhile
            for one in family:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        self.record.unlink(missing_ok=True)


def _hear_interrupts() -> None:
    """Undo what a shell does to background jobs: they ignore SIGINT, by which Prefect's worker ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


PACKAGES = Path("/usr/lib/postgresql")
"""Where Debian installs each version."""

USER = "postgres"
"""User who runs PostgreSQL if root starts it: it refuses to run as root."""

START_S = 120
"""How long a start may take, including recovery after a crash, s."""


LOCK_TIMEOUT = "-c lock_timeout=10s"
"""How long a restore waits for tables that a server still uses."""


@dataclass(frozen=True)
class Postgres:
    """Database server of a services folder.

    It listens only on 127.0.0.1, without a socket file; connecting needs a password (SCRAM). Its superuser has no
    password, so nobody can connect as superuser.

    Attributes
    ----------
    folder
        Folder of the services.
    """

    folder: ServiceFolder

    @property
    def data(self) -> Path:
        """Return the folder of the database."""
        return self.folder.path / "postgres" / "data"

    def start(self) -> None:
        """Start PostgreSQL; create its data first if there are none.

        Raises
        ------
        Misconfigured
            It is not installed, or its data cannot be made or it cannot be started here.
        """
        if not self.data.exists():
            self._make()
        self._run("pg_ctl", "start", "-w", "-t", str(START_S), "-D", str(self.data), "-l", f"{self._log}", "-o",
                  " ".join(self._options))  # fmt: skip

    def stop(self) -> None:
        """Stop it: sessions are closed, and committed data are on disk."""
        if self.running:
            self._run("pg_ctl", "stop", "-w", "-t", str(START_S), "-m", "fast", "-D", str(self.data))

    @property
    def running(self) -> bool:
        """Return whether its process runs."""
        return self.data.exists() and _called([self._program("pg_ctl"), "status", "-D", str(self.data)]).returncode == 0

    @property
    def healthy(self) -> bool:
        """Return whether the Prefect server's role can query the database."""
        return _called([self._program("psql"), *self._role, "-Atc", "SELECT 1"], self._secret).stdout.strip() == "1"

    def dump(self, path: Path) -> None:
        """Write the database of the Prefect server, which may be in use, to an SQL file that only its owner can read.

        Raises
        ------
        Misconfigured
            PostgreSQL is not running, or the file cannot be written.
        """
        staged = path.with_name(f".{path.name}{STAGED}")
        with writing(path):
            staged.unlink(missing_ok=True)
            try:
                with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    self._as_role(["pg_dump", "--clean", "--if-exists", "--no-owner"], stdout=file)
                publish_file(staged, path)
            finally:
                staged.unlink(missing_ok=True)

    def load(self, path: Path) -> None:
        """Replace the database of the Prefect server by a dump from `dump`, completely or not at all.

        Raises
        ------
        Misconfigured
            The file does not exist, PostgreSQL is not running, or the database is in use.
        """
        require_there(path, "a backup that was made with --services.")
        with path.open() as file:
            self._as_role(["psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", "-"], stdin=file)

    def _as_role(self, command: Sequence[str], stdin: IO[str] | None = None, stdout: IO[str] | None = None) -> None:
        ended = subprocess.run(
            [self._program(command[0]), *command[1:], *self._role], stdin=stdin or subprocess.DEVNULL,
            stdout=stdout or subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **self._secret, "PGOPTIONS": LOCK_TIMEOUT},
        )  # fmt: skip
        if ended.returncode != 0:
            raise Misconfigured(
                "postgres",
                str(self.data.parent),
                f"{command[0]} ends with {ended.returncode}: {' '.join(ended.stderr.split())[-500:]}.",
                f"see {self._log}, and `nightstride services status {self.folder.path}`: PostgreSQL must run.",
            )

    @property
    def _role(self) -> list[str]:
        """Arguments by which PostgreSQL's programs connect to the database as the role of the Prefect server."""
        return ["-h", "127.0.0.1", "-p", str(self.folder.addresses.postgres_port), "-U", DATABASE, "-d", DATABASE]

    @property
    def _secret(self) -> dict[str, str]:
        return {"PGPASSWORD": self.folder.database_password, "PGCONNECT_TIMEOUT": "5"}

    @property
    def _log(self) -> Path:
        return self.data.parent / "log"

    @property
    def _options(self) -> list[str]:
        port = self.folder.addresses.postgres_port
        return [f"-c {one}" for one in ("listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=")]

    def _make(self) -> None:
        """Make the data in a temporary folder, which is renamed when complete."""
        home, new = self.data.parent, self.data.with_name("new")
        self._program("initdb")  # its package also makes the user
        home.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(home, USER)
        shutil.rmtree(new, ignore_errors=True)
        self._run(
            "initdb", "-D", str(new), "-U", "postgres", "--auth-local=peer", "--auth-host=scram-sha-256",
            "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums",
        )  # fmt: skip
        password = self.folder.database_password.replace("'", "''")
        # No server is listening, and the password is on no command line.
        role = f"CREATE ROLE {DATABASE} LOGIN PASSWORD '{password}'"
        statements = f"{role}\nCREATE DATABASE {DATABASE} OWNER {DATABASE}\n"
        single = ["--single", "-D", str(new), "-c", "exit_on_error=on", "-c", "log_min_error_statement=panic"]
        self._run("postgres", *single, "postgres", stdin=statements)
        new.rename(self.data)

    def _run(self, name: str, *arguments: str, stdin: str = "") -> None:
        ended = _called([self._program(name), *arguments], stdin=stdin)
        if ended.returncode != 0:
            said = " ".join((ended.stderr or ended.stdout).split())
            raise Misconfigured(
                "postgres",
                str(self.data.parent),
                f"{name} ends with {ended.returncode}: {said[-500:]}.",
                f"see {self._log}; user {_user()} must be able to reach the folder, and port "
                f"{self.folder.addresses.postgres_port} must be free.",
            )

    def _program(self, name: str) -> str:
        """Return the path of a program: of the version that made the data, or of the newest one installed."""
        version = self.data / "PG_VERSION"
        installed = sorted((path for path in PACKAGES.glob("*/bin") if path.is_dir()), key=_version)
        places: Sequence[Path] = installed[-1:]
        if version.exists():
            places = [PACKAGES / version.read_text().strip() / "bin"]
        found = shutil.which(name, path=":".join(map(str, places))) or (None if places else shutil.which(name))
        if found is None:
            raise Misconfigured(
                "postgres", name, f"is not installed in {', '.join(map(str, places)) or PACKAGES}.",
                "apt-get install postgresql; data of an older version are taken along by pg_upgrade.",
            )  # fmt: skip
        return found


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.parent.name.split(".") if part.isdecimal())


def _user() -> str:
    return USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def _called(
    command: Sequence[str], secret: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    root = os.geteuid() == 0
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **(secret or {})},
        user=USER if root else None, group=USER if root else None, extra_groups=[] if root else None,
    )  # fmt: skip

"""Folder of the services: addresses, secrets, and the environment of clients."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.nights.cluster.prefect_server import PRIVATE
from flows.runtime.settings import require_there
from flows.storage.atomic import write_file
from flows.storage.file_lock import file_lock
from flows.storage.folder import writable_folder
from flows.storage.writing import writing
from schemas.errors import Misconfigured

POOL = "nightstride"
"""Work pool of the deployments, of Prefect type `process`."""

DATABASE = "prefect"
"""Name of the database, and of the role that owns it."""

LONGEST_S = 600.0
"""How long a command may take to make the folder of the services, or to start or stop them, s."""


class Addresses(BaseModel):
    """Addresses of the services; kept in ``services.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(
        default="127.0.0.1", description="Address of the Prefect server; its database is on this machine alone."
    )
    port: int = Field(default=4200, gt=0, lt=65536, description="Port of the Prefect server.")
    postgres_port: int = Field(default=5442, gt=0, lt=65536, description="Port of PostgreSQL.")


@dataclass(frozen=True)
class ServiceFolder:
    """Folder with everything that the services store.

    Attributes
    ----------
    path
        Absolute path.
    addresses
        Addresses on which the services listen.
    """

    path: Path
    addresses: Addresses

    @property
    def api(self) -> str:
        """Return the address of Prefect's API as seen from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.addresses.host, self.addresses.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.addresses.port}/api"

    @cached_property
    def database_password(self) -> str:
        """Return the password of the database role of the Prefect server."""
        return _secret(self.path / "database-password")

    @cached_property
    def auth(self) -> str:
        """Return user and password of Prefect's API and pages, separated by a colon."""
        return f"nightstride:{_secret(self.path / 'api-password')}"

    @property
    def database_url(self) -> str:
        """Return the database URL for SQLAlchemy, with its password."""
        password = quote(self.database_password, safe="")
        return f"postgresql+asyncpg://{DATABASE}:{password}@127.0.0.1:{self.addresses.postgres_port}/{DATABASE}"

    @property
    def client(self) -> dict[str, str]:
        """Return the environment for clients of the server."""
        return {**PRIVATE, "PREFECT_API_URL": self.api, "PREFECT_API_AUTH_STRING": self.auth}

    @property
    def home(self) -> Path:
        """Return the folder for Prefect's own files."""
        return self.path / "prefect"

    def log(self, part: str) -> Path:
        """Return the path of the log of a service."""
        return self.path / f"{part}.log"


def opened(path: Path) -> ServiceFolder:
    """Return a folder made by `made`.

    Raises
    ------
    Misconfigured
        It is not such a folder, or cannot be read.
    """
    file = path.resolve() / "services.json"
    require_there(file, "a folder that `nightstride services up` has made.")
    try:
        return ServiceFolder(path.resolve(), Addresses.model_validate_json(file.read_bytes()))
    except (OSError, ValidationError) as error:
        reason = error if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise Misconfigured(
            "services",
            str(file),
            f"cannot be read: {reason}.",
            "correct it, or name another folder that `nightstride services up` has made.",
        ) from error


def made(path: Path, wanted: dict[str, object]) -> ServiceFolder:
    """Return the folder, and make it if it does not exist.

    Parameters
    ----------
    path
        Path of the folder.
    wanted
        Fields of `Addresses`; None: the stored value, or else the default.

    Raises
    ------
    Misconfigured
        The folder was made for other addresses, or cannot be written.
    """
    path = path.resolve()
    given = {name: value for name, value in wanted.items() if value is not None}
    folder = ServiceFolder(path, _addresses(given))
    # Others may pass through, since PostgreSQL runs as another user; secrets have modes of their own.
    writable_folder(path, "DIR", 0o755)
    with alone(path):
        if (path / "services.json").exists():
            return _unchanged(opened(path), given)
        with writing(path):
            folder.home.mkdir(mode=0o700, exist_ok=True)
        lines = [f"{name}={value}" for name, value in folder.client.items()]
        private_file(path / "client.env", "\n".join([*lines, ""]))
        _ = folder.database_password
        write_file(path / "services.json", folder.addresses.model_dump_json(indent=1).encode(), path)
    return folder


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lock the folder while no other command makes it, or starts or stops its services.

    Raises
    ------
    Misconfigured
        ``lock_held``: waiting took longer than any of these takes.
    """
    with writing(path), file_lock(path / "lock", LONGEST_S):
        yield


def private_file(path: Path, text: str) -> None:
    """Write a file that is never readable by others and appears complete or not at all."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with writing(path):
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)


def _unchanged(folder: ServiceFolder, given: dict[str, object]) -> ServiceFolder:
    if folder.addresses != folder.addresses.model_copy(update=given):
        raise Misconfigured(
            "services",
            str(folder.path / "services.json"),
            f"says {folder.addresses!r}; asked for were {given}.",
            "leave the options out, or run `nightstride services down` and edit that file.",
        )
    return folder


def _addresses(given: dict[str, object]) -> Addresses:
    try:
        return Addresses.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise Misconfigured(
            "services",
            f"--{first['loc'][0]}",
            f"{first['msg'].replace('Input should', 'must')}, got {first['input']!r}.",
            "name a free port.",
        ) from error


def _secret(path: Path) -> str:
    """Read a secret, after making a random one if there is none."""
    if not path.exists():
        private_file(path, secrets.token_urlsafe(32))
    if path.stat().st_mode & 0o077:
        raise Misconfigured("services", str(path), "others may read this secret.", f"chmod 600 {path}.")
    found = path.read_text().strip()
    if not found:
        raise Misconfigured("services", str(path), "this secret is empty.", "write a long random word into it.")
    return found

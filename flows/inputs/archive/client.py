"""HTTP client for an archive that classifies failures."""

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from flows.inputs.files import failure_words
from schemas.archive_settings import FetchSettings
from schemas.errors import BadInput, Misconfigured, NightstrideError, Retryable


def stated_digest(headers: Mapping[str, str], *, whole: bool) -> tuple[str, str] | None:
    """Return the digest of a file, if stated (RFC 9530, RFC 3230; if it is sent as a whole, also RFC 1864)."""
    for field in (headers.get("Repr-Digest", ""), headers.get("Digest", "")):
        for entry in field.split(","):
            name, _, value = entry.strip().partition("=")
            algorithm = {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5"}.get(name.lower())
            if algorithm and (digest := _hexadecimal(value.strip(":"), algorithm)):
                return algorithm, digest
    if whole and (digest := _hexadecimal(headers.get("Content-MD5", ""), "md5")):
        return "md5", digest
    return None


def _hexadecimal(encoded: str, algorithm: str) -> str | None:
    """Convert a base64 digest to hexadecimal; return None if invalid, as some servers send hexadecimal digits."""
    try:
        digest = base64.b64decode(encoded)
    except ValueError:
        return None
    return digest.hex() if len(digest) == hashlib.new(algorithm).digest_size else None


USER, PASSWORD = "NIGHTSTRIDE_ARCHIVE_USER", "NIGHTSTRIDE_ARCHIVE_PASSWORD"
"""Environment variables with the credentials for data that are not public."""

_PASSING = (408, 425, 429)  # and all from 500 on
_LONGEST_WAIT = 300.0  # s, whatever the archive asks for
_CHUNK = 2**20  # bytes
_LOCAL = ("localhost", "127.0.0.1", "::1")


class TryAgain(Exception):
    """Raised when a request failed, perhaps temporarily.

    Parameters
    ----------
    error
        Error to report if the failure persists.
    wait_s
        Waiting time that the archive asks for, s; None: it does not say.
    """

    def __init__(self, error: NightstrideError, wait_s: float | None = None) -> None:
        super().__init__(error, wait_s)
        self.error, self.wait_s = error, wait_s


@dataclass(frozen=True)
class RemoteFile:
    """Current version of a file in the archive.

    Attributes
    ----------
    url
        Its address.
    size
        Size, bytes.
    validator
        Strong ETag or time of the last change, which identifies a version; None: the archive does not say.
    """

    url: str
    size: int
    validator: str | None

    @property
    def version(self) -> str:
        """Return eight hexadecimal digits that differ between versions."""
        return sha256(f"{self.url} {self.size} {self.validator}".encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Answer:
    """Beginning of a response with a file.

    Attributes
    ----------
    start
        Position of its first byte in the file.
    digest
        (algorithm, hex) for the whole file; None: the archive does not say.
    chunks
        Contents of the response.
    """

    start: int
    digest: tuple[str, str] | None
    chunks: AsyncIterator[bytes]


class ArchiveClient:
    """Connection to an archive, to be used in ``async with``.

    Parameters
    ----------
    settings
        Section ``fetch``. User and password come from the environment, `USER` and `PASSWORD`; they are sent only to the
        archive's own host, and never logged.

    Raises
    ------
    Misconfigured
        ``credentials``: only one of them is set, the address includes them, or they would be sent unencrypted.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self.settings = settings
        self.received = 0  # bytes of files
        self._authorization = _authorization(settings.url)

    async def __aenter__(self) -> Self:
        # Without Accept-Encoding the bytes sent are those of the file.
        self._session = aiohttp.ClientSession(
            headers={"Accept-Encoding": "identity", "User-Agent": "nightstride", **self._authorization},
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self.settings.timeout_s, sock_read=self.settings.timeout_s
            ),
            connector=aiohttp.TCPConnector(limit=self.settings.connections),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def text(self, path: str, query: Mapping[str, str]) -> str:
        """Return the answer to a query; retry if necessary.

        Raises
        ------
        Misconfigured
            ``refused``: the credentials are missing or wrong; ``bad_answer``: the archive rejects the query;
            ``no_such_service``: the address is not that of an archive.
        Retryable
            ``archive_error``: the archive cannot be reached, or is out of order.
        """
        url = f"{self.settings.url}/{path}"
        for failed in range(self.settings.retries + 1):
            try:
                async with self._request(url, query=query) as response:
                    return await response.text(errors="replace")
            except TryAgain as again:
                last = again
                if failed < self.settings.retries:
                    await self.pause(failed + 1, again)
            except BadInput as error:
                raise Misconfigured(error.code, error.where, error.problem, error.remedy) from error
            except _NotThere as error:
                raise Misconfigured(
                    "no_such_service",
                    url,
                    "there is no image search.",
                    "check fetch.url: it must be that of the archive.",
                ) from error
        raise last.error

    async def probe(self, path: str) -> RemoteFile | None:
        """Return the current version of a file, by requesting its first byte; None: there is no such file.

        Raises
        ------
        BadInput
            ``refused``, or ``bad_answer``.
        Retryable
            ``archive_error``.
        """
        url = f"{self.settings.url}/data/ztf/products/{path}"
        for failed in range(self.settings.retries + 1):
            try:
                async with self._request(url, {"Range": "bytes=0-0"}) as response:
                    return _remote(url, response)
            except _NotThere:
                return None
            except TryAgain as again:
                last = again
                if failed < self.settings.retries:
                    await self.pause(failed + 1, again)
        raise last.error

    @asynccontextmanager
    async def read(self, file: RemoteFile, start: int) -> AsyncIterator[Answer]:
        """Request a file from byte ``start`` on, or from its beginning if it has changed.

        Raises
        ------
        TryAgain
            Also raised while the bytes are read.
        BadInput
            ``refused``, ``bad_answer``, or ``gone``: the file no longer exists.
        """
        ranged = {"Range": f"bytes={start}-", **({"If-Range": file.validator} if file.validator else {})}
        try:
            async with self._request(file.url, ranged if start else {}) as response:
                partial = response.status == 206
                first = _range_of(file.url, response)[0] if partial else 0
                yield Answer(first, stated_digest(response.headers, whole=not partial), self._counted(response))
        except _NotThere as error:
            raise BadInput(
                "gone", file.url, "the archive does not have it any more.", "run the command again."
            ) from error

    async def _counted(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        async for chunk in response.content.iter_chunked(_CHUNK):
            self.received += len(chunk)
            yield chunk

    async def pause(self, failed: int, again: TryAgain) -> None:
        """Wait after consecutive failures: as long as the archive asks, or twice as long each time."""
        wait = self.settings.backoff_s * 2 ** (failed - 1) if again.wait_s is None else again.wait_s
        await asyncio.sleep(min(wait, _LONGEST_WAIT))

    @asynccontextmanager
    async def _request(
        self, url: str, headers: Mapping[str, str] | None = None, query: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._session.get(url, headers=headers, params=query) as response:
                _require_success(response, url)
                yield response
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            problem = f"the connection failed: {failure_words(error)}."
            remedy = "check the network, and run the command again; it goes on."
            raise TryAgain(Retryable("archive_error", url, problem, remedy)) from error


class _NotThere(Exception):
    """Raised if the archive does not have a file."""


def _require_success(response: aiohttp.ClientResponse, url: str) -> None:
    status = response.status
    if status in (200, 206):
        return
    said = f"the archive answers {status} {response.reason}."
    if status in (404, 410):
        raise _NotThere(url)
    if status in _PASSING or status >= 500:
        wait = response.headers.get("Retry-After", "")
        raise TryAgain(
            Retryable("archive_error", url, said, "run the command again later; it goes on."),
            float(wait) if wait.isdigit() else None,
        )
    if status in (401, 403):
        raise BadInput("refused", url, said, f"set {USER} and {PASSWORD} to those of an account that may read it.")
    raise BadInput("bad_answer", url, said, "check fetch.url: it must be that of the archive.")


def _remote(url: str, response: aiohttp.ClientResponse) -> RemoteFile:
    size = _range_of(url, response)[1] if response.status == 206 else response.content_length
    if not size:
        raise BadInput("bad_answer", url, "the archive does not say how long the file is.", "check fetch.url.")
    tag = response.headers.get("ETag", "")
    strong = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    return RemoteFile(url, size, strong)


def _range_of(url: str, response: aiohttp.ClientResponse) -> tuple[int, int]:
    """Return first byte and size of the whole file from ``Content-Range: bytes 0-0/1234``."""
    stated = response.headers.get("Content-Range", "")
    try:
        unit, _, rest = stated.partition(" ")
        span, _, size = rest.partition("/")
        if unit != "bytes":
            raise ValueError(unit)
        return int(span.split("-")[0]), int(size)
    except ValueError as error:
        raise BadInput(
            "bad_answer", url, f"Content-Range is {stated!r}.", "check fetch.url, and proxies between."
        ) from error


def _authorization(url: str) -> dict[str, str]:
    """Return the header with the credentials, which aiohttp drops when redirected to another host."""
    parts = urlsplit(url)
    if parts.username is not None:  # not shown: it may include the password
        raise Misconfigured(
            "credentials", "fetch.url", "holds a user or password.", f"set {USER} and {PASSWORD} instead."
        )
    user, password = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")
    if not user and not password:
        return {}
    if not user or not password:
        raise Misconfigured("credentials", f"{USER}, {PASSWORD}", "only one of them is set.", "set both, or none.")
    if parts.scheme != "https" and parts.hostname not in _LOCAL:
        raise Misconfigured(
            "credentials", "fetch.url", f"{url} would send the password unencrypted.", "use https://, or unset them."
        )
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}

"""Guard of the server: requests need the token, a name of this server and, for changes, a page of this server."""

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from schemas.errors import Misconfigured

TOKEN_VARIABLE = "NIGHTSTRIDE_VET_TOKEN"
"""Environment variable for a token chosen by the user."""

LEAST_TOKEN = 20
"""Minimum number of characters of such a token."""

MOST_BODY = 2**16
"""Largest size of a request's body, bytes."""

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
"""Headers of every response."""

Scope = dict[str, Any]

_REFUSAL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · nightstride</title>
<link rel="icon" href="data:,">
</head>
<body><main><h1>{title}</h1><p>{text}</p></main></body>
</html>
"""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@\s]+)(?::\d{1,5})?")


@dataclass(frozen=True)
class Doors:
    """Address of a server, and who is let in.

    Attributes
    ----------
    host, port
        Address to listen on.
    token
        Secret that lets users in.
    names
        Names allowed in the header ``Host``, without the port.
    """

    host: str
    port: int
    token: str = field(repr=False)
    names: tuple[str, ...] = LOOPBACK

    @property
    def address(self) -> str:
        """Return the address to open in a browser, including the token."""
        host = self.names[0] if _unspecified(self.host) else self.host
        shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"http://{shown}:{self.port}/?{urlencode({'token': self.token})}"

    @property
    def cookie(self) -> str:
        """Return the name of the cookie; it has the port, since browsers share cookies between ports."""
        return f"nightstride-vet-{self.port}"

    def secret(self, purpose: str) -> str:
        """Return a secret for a purpose, from which the token cannot be derived."""
        return hmac.new(self.token.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def doors(host: str, port: int, names: Sequence[str], environment: Mapping[str, str]) -> Doors:
    """Return the address and who is let in.

    Parameters
    ----------
    host, port
        Address to listen on.
    names
        Further names of this machine.
    environment
        Environment, which may have a token.

    Raises
    ------
    Misconfigured
        The token is not usable (``short_token``), or missing although others could reach the server (``no_token``).
    """
    given = environment.get(TOKEN_VARIABLE, "")
    if given and (len(given) < LEAST_TOKEN or not given.isascii() or not given.isprintable() or " " in given):
        raise Misconfigured(
            "short_token", TOKEN_VARIABLE, f"must have {LEAST_TOKEN} printable ASCII characters or more.",
            "set one, as of `openssl rand -hex 32`.",
        )  # fmt: skip
    local = _is_loopback(host)
    if not local and not given:
        raise Misconfigured(
            "no_token", f"--host {host}", f"lets others reach the page, and {TOKEN_VARIABLE} is not set.",
            "set it to a secret, as of `openssl rand -hex 32`, or leave out --host.",
        )  # fmt: skip
    own = () if local else (socket.gethostname(), socket.getfqdn())
    shown = f"[{host}]" if ":" in host else host
    first = () if _unspecified(host) or local else (shown,)
    known = dict.fromkeys(one.lower() for one in (*first, *names, *own, *LOOPBACK, *((shown,) if local else ())))
    return Doors(host, port, given or secrets.token_urlsafe(32), tuple(known))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def same(given: str, wanted: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())


class Guard:
    """ASGI application wrapped around another one.

    It refuses requests with a name that is not the server's (400: DNS rebinding), without token or cookie (401),
    changes that were not requested by a page of this server (403), and large bodies (413). A correct ``?token=`` sets
    the cookie. All responses get `HEADERS`.
    """

    def __init__(self, app: Any, let_in: Doors) -> None:
        self._app, self._doors = app, let_in
        self._session, self._csrf = let_in.secret("session"), let_in.secret("csrf")

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no other protocol is supported
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if not self._is_ours(headers.get("host", "")):
            await _answer(send, 400, "This server is not known by that name. To fix, open it by the address that "
                          "<code>nightstride vet</code> printed, or start it with "
                          "<code>--name NAME</code>.")  # fmt: skip
            return
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        if "token" in query and scope["method"] == "GET" and same(query.pop("token"), self._doors.token):
            await _answer(send, 303, "", self._entrance(scope["path"], query))
            return
        if not same(_cookie(headers.get("cookie", ""), self._doors.cookie), self._session):
            await _answer(send, 401, "This page needs its token. To fix, open the address that "
                          "<code>nightstride vet</code> printed; if you just did, from another page, load this one "
                          "again.")  # fmt: skip
            return
        if scope["method"] not in ("GET", "HEAD"):
            if not self._from_own_page(headers):
                await _answer(send, 403, "This change was not asked for by a page of this server.")
                return
            if not _short(headers.get("content-length", "")):
                await _answer(send, 413, "The request is too large.")
                return
        await self._app(scope, receive, _with_headers(send))

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host.lower())  # any port is allowed, since a tunnel may use another one
        return found is not None and found[1] in self._doors.names

    def _from_own_page(self, headers: Mapping[str, str]) -> bool:
        origin = headers.get("origin")
        if origin is not None and _place_of(origin) != headers.get("host", "").lower():
            return False
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return False
        return same(headers.get("x-csrf-token", ""), self._csrf)

    def _entrance(self, path: str, query: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        # A path like //elsewhere would lead to another server.
        place = "/" + path.lstrip("/\\") + (f"?{urlencode(query)}" if query else "")
        place = place if place.isascii() and place.isprintable() and "\\" not in place else "/"
        cookie = f"{self._doors.cookie}={self._session}; Path=/; HttpOnly; SameSite=Strict"
        return [(b"location", place.encode()), (b"set-cookie", cookie.encode())]


def _place_of(origin: str) -> str | None:
    """Return the host and port of an origin; None if it is not one."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # an address in brackets that is none
        return None


def _short(length: str) -> bool:
    """Return whether a body has a length, and a small one; without a length it would have to be counted."""
    return length.isascii() and length.isdigit() and int(length) <= MOST_BODY


def _cookie(header: str, name: str) -> str:
    """Return the value of a cookie, among any cookies of other servers on this machine."""
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return next((value for key, _, value in pairs if key == name), "")


def _with_headers(send: Any) -> Any:
    async def sent(message: Scope) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            more = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [*message["headers"], *more]
            if b"cache-control" not in given:
                message["headers"].append((b"cache-control", b"no-store"))
        await send(message)

    return sent


async def _answer(send: Any, status: int, text: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    kind = (b"content-type", b"text/html; charset=utf-8")
    page = _REFUSAL.format(title=HTTPStatus(status).phrase, text=text) if text else ""
    sent = _with_headers(send)
    await sent({"type": "http.response.start", "status": status, "headers": [kind, *headers]})
    await sent({"type": "http.response.body", "body": page.encode()})

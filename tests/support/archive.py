"""An archive on this machine that answers like the one of ZTF: same addresses, table, ranges and failures.

Conditions in SQL are judged by SQLite, so that a question that is not SQL is refused, as it would be there.
"""

import csv
import io
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from urllib.parse import parse_qs, urlsplit

from astropy.io import fits

SEARCH, DATA = "/ibe/search/ztf/products/sci", "/ibe/data/ztf/products/"
_PARTS = re.compile(r"ztf_(?P<day>\d{14})_(?P<field>\d{6})_(?P<filter>z\w)_c(?P<ccd>\d\d)_(?P<kind>\w)_q(?P<q>\d)_")


def archive_path(name: str) -> str:
    """Give the place of a product by its name, as the archive's documentation has it."""
    if parts := _PARTS.match(name):
        day = parts["day"]
        return f"sci/{day[:4]}/{day[4:8]}/{day[8:]}/{name}"
    _, number, code, ccd, quadrant, _ = name.split("_")
    return f"ref/{number[:3]}/field{number}/{code}/ccd{ccd[1:]}/{quadrant}/{name}"


def row_of(path: Path) -> dict[str, str | int | float]:
    """Describe a difference image as the archive's table does."""
    header, parts = fits.getheader(path, 1), _PARTS.match(path.name)
    return {
        "ra": header["CRVAL1"], "dec": header["CRVAL2"], "infobits": 0, "field": int(parts["field"]),
        "ccdid": int(parts["ccd"]), "qid": int(parts["q"]), "fid": header["FILTERID"], "filtercode": parts["filter"],
        "expid": header["EXPID"], "imgtypecode": parts["kind"], "obsjd": header["OBSJD"],
        "filefracday": int(parts["day"]), "maglimit": 20.5,
    }  # fmt: skip


@dataclass
class Archive:
    """What it holds, how it behaves, and what it was asked.

    Attributes
    ----------
    files
        Place -> bytes.
    rows
        The table of science exposures.
    trouble
        Called with place, number of the request for it and its headers; what it returns is done instead of sending
        the file: a status, or ("cut", bytes to send first).
    headers
        Further headers of a file with these bytes.
    authorization
        Header that is asked for; None: everything is public.
    location
        Where a status of 302 points to.
    ranges
        Whether parts of files are sent.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    rows: list[dict] = field(default_factory=list)
    trouble: Callable | None = None
    headers: Callable = lambda data: {}
    authorization: str | None = None
    location: str = ""
    ranges: bool = True
    asked: list = field(default_factory=list)
    sent: int = 0
    counts: Counter = field(default_factory=Counter)
    lock: Lock = field(default_factory=Lock)
    url: str = ""

    def add(self, path: Path, name: str | None = None) -> str:
        """Take a file in, and list it if it is a difference image."""
        place = archive_path(name or path.name)
        self.files[place] = path.read_bytes()
        if "scimrefdiffimg" in place:
            self.rows.append(row_of(path))
        return place

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"archive": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/ibe"
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def table(self, query: dict[str, list[str]]) -> str:
        """Answer a question as CSV."""
        names = list(self.rows[0])
        with closing(sqlite3.connect(":memory:")) as table:
            table.execute(f"create table sci ({','.join(names)})")
            table.executemany(
                f"insert into sci values ({','.join('?' * len(names))})", [[*r.values()] for r in self.rows]
            )
            wanted = query.get("COLUMNS", [",".join(names)])[0]
            found = table.execute(f"select {wanted} from sci where {query['WHERE'][0]}").fetchall()
        out = io.StringIO()
        csv.writer(out).writerows([wanted.split(","), *found])
        return out.getvalue()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    archive: Archive

    def log_message(self, *_):
        pass

    def do_GET(self):
        archive, parts = self.archive, urlsplit(self.path)
        place = parts.path.removeprefix(DATA)
        with archive.lock:
            archive.asked.append((place, dict(self.headers)))
            archive.counts[place] += 1
            number = archive.counts[place]
        wrong = archive.trouble and archive.trouble(place, number, self.headers)
        if archive.authorization is not None and self.headers.get("Authorization") != archive.authorization:
            self.reply(401, b"proprietary")
        elif isinstance(wrong, int):
            self.reply(wrong, b"later", {"Retry-After": "0", "Location": archive.location})
        elif parts.path == SEARCH:
            self.search(parse_qs(parts.query))
        elif parts.path.startswith(DATA) and place in archive.files:
            self.file(archive.files[place], wrong)
        else:
            self.reply(404, b"<html>not found</html>")

    def search(self, query):
        try:
            assert query["ct"] == ["csv"]
            self.reply(200, self.archive.table(query).encode(), {"Content-Type": "text/csv"})
        except (sqlite3.Error, KeyError, AssertionError) as error:
            self.reply(400, f"<?xml version='1.0'?><error>{error!r}</error>".encode())

    def file(self, data, wrong):
        tag = f'"{sha256(data).hexdigest()[:16]}"'
        given = {"ETag": tag, "Accept-Ranges": "bytes", **self.archive.headers(data)}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status, body = 200, data
        if asked and self.archive.ranges and self.headers.get("If-Range", tag) == tag:
            first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
            status, body = 206, data[first : last + 1]
            given["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self.reply(status, body, given, wrong[1] if wrong else None)

    def reply(self, status, body, headers=None, cut=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        part = body if cut is None else body[:cut]
        self.close_connection = cut is not None
        try:
            self.wfile.write(part)
        except ConnectionError:  # the client has had enough
            self.close_connection = True
        with self.archive.lock:
            self.archive.sent += len(part)

"""State of the server, shared by requests: index, verdicts and tiles."""

import errno
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.results.page.night import chosen_nights
from flows.storage.bucket_path import change_of
from flows.storage.layout import dataset_folder
from flows.storage.ledger import Ledger
from flows.vetting.candidate import CandidateContent, read_candidate
from flows.vetting.guard import Doors, Guard
from flows.vetting.index import CandidateIndex, read_index
from flows.vetting.pyramid import TilePyramid
from flows.vetting.selection import REVIEWED, JudgedRows, Selection, select, sorted_verdicts
from flows.vetting.turn import RECHECK, next_row, rows_around
from flows.vetting.verdicts import VerdictStore
from schemas.class_table import STAR_GALAXY
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured, NightstrideError, Retryable
from schemas.night_range import EVERY_NIGHT, NightRange
from schemas.objects import DIA_LINK
from schemas.settings import AssociationSettings
from schemas.tracklets import TRACKLET

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

LOOK_S = 10.0
"""How often to check whether the nights have changed, s."""

_INDEXED = (DIA_SOURCE, TRACKLET, DIA_LINK, STAR_GALAXY)  # datasets that the index is made of

_KEPT = 32  # number of selections whose rows are kept


@dataclass
class Workplace:
    """Content of an output folder that a server shows.

    Parameters
    ----------
    out
        Output folder.
    nights
        Nights to show.
    association
        Where objects are stored.
    recheck
        Fraction of blind re-checks.
    """

    out: Path
    nights: NightRange = EVERY_NIGHT
    association: AssociationSettings = field(default_factory=AssociationSettings)
    recheck: float = RECHECK

    def __post_init__(self) -> None:
        """Read the index."""
        self.verdicts, self.pyramid = VerdictStore(self.out), TilePyramid(self.out)
        self._mutex, self._looked = Lock(), monotonic()
        self._stamp = self._now()
        self._index = read_index(self.out, self._nights())
        self._orders: dict[tuple[object, ...], NDArray[np.int64]] = {}
        self._judged: dict[tuple[int, int, str], JudgedRows] = {}

    def _nights(self) -> Sequence[str]:
        return self.nights.among(chosen_nights(self.out), str(self.out))

    def _now(self) -> tuple[object, ...]:
        """Return a value that changes when a night gets another exposure, its tracklets, or classes of its objects."""
        ledger, nights = Ledger(self.out), self._nights()
        folders = [dataset_folder(self.out, one.name, night) for night in nights for one in _INDEXED]
        changed = [_change_of(folder) for folder in folders]
        return (*nights, *(ledger.stamp(night) for night in nights), *changed)

    def index(self) -> CandidateIndex:
        """Return the index, read again if the nights have changed."""
        with self._mutex:
            if monotonic() - self._looked > LOOK_S:
                self._looked = monotonic()
                if (stamp := self._now()) != self._stamp:
                    self._index, self._stamp = read_index(self.out, self._nights()), stamp
                    self._orders.clear()
                    self._judged.clear()
            return self._index

    def judged(self, index: CandidateIndex, user: str) -> JudgedRows:
        """Return the standing verdicts as seen by a user."""
        name = (id(index), self.verdicts.version, user)
        if name not in self._judged:
            if len(self._judged) >= _KEPT:
                self._judged.clear()
            self._judged[name] = sorted_verdicts(index, self.verdicts.standing(), user)
        return self._judged[name]

    def rows(self, index: CandidateIndex, wanted: Selection, user: str) -> NDArray[np.int64]:
        """Return the rows of a selection, in order."""
        version = self.verdicts.version if wanted.state else 0
        name = (id(index), wanted.at(1), user if wanted.state else "", version)
        if name not in self._orders:
            if len(self._orders) >= _KEPT:
                self._orders.clear()
            self._orders[name] = select(index, wanted, self.judged(index, user))
        return self._orders[name]

    def candidate(self, index: CandidateIndex, row: int) -> CandidateContent:
        """Return the content of a candidate's page; errors as in `read_candidate`."""
        return read_candidate(self.out, index, row, self.association)

    def warm_up(self) -> None:
        """Read the first candidate, so that its imports and compilation are done before the first visit."""
        index = self.index()
        with suppress(NightstrideError):
            for row in self.rows(index, Selection(), "")[:1].tolist():
                self.candidate(index, row)

    def next(self, index: CandidateIndex, wanted: Selection, user: str, after: int | None) -> tuple[int, bool] | None:
        """Return the id of the next candidate and whether it is a re-check; None if nothing is left."""
        rows, whole = (self.rows(index, one, user) for one in (wanted, replace(wanted, state="")))
        # A verdict may have taken the one shown now out of the rows: it keeps its place among them.
        ordered = whole[np.isin(whole, rows) | (whole == after)]
        if wanted.state in REVIEWED:
            row, blind = next(iter(rows_around(ordered, after)[0].tolist()), None), False
        else:
            row, blind = next_row(index, ordered, after, self.verdicts.standing(), user, self.recheck)
        return None if row is None else (int(index.columns["diaSourceId"][row]), blind)

    def last_verdict(self, index: CandidateIndex, user: str) -> str:
        """Return the id of a user's last standing verdict on any of the candidates; "" if there is none."""
        own = [one for one in self.verdicts.standing() if one.user == user]
        rows = np.flatnonzero(index.rows_of(own) >= 0)
        return own[int(rows[-1])].id if len(rows) else ""

    def row(self, index: CandidateIndex, source_id: int) -> int:
        """Return the row of a detection.

        Raises
        ------
        BadInput
            It is not among the candidates (``no_candidate``).
        """
        row = index.row_of(source_id)
        if row is None:
            raise BadInput(
                "no_candidate", str(source_id), "is not a candidate of these nights.", "go back to the list."
            )
        return row


def _change_of(folder: Path) -> object:
    try:
        return change_of(folder)
    except FileNotFoundError:
        return 0


def make_server(app: "FastAPI", let_in: Doors) -> "uvicorn.Server":
    """Return a server for the application behind its guard; ``run(sockets=[...])`` serves until told to stop."""
    import uvicorn

    config = uvicorn.Config(
        Guard(app, let_in), log_level="warning", access_log=False, server_header=False, date_header=False,
        proxy_headers=False, timeout_graceful_shutdown=3, ws="none", lifespan="off",
    )  # fmt: skip
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; port 0: any free port.

    Raises
    ------
    Retryable
        The port is taken or reserved (``port_taken``).
    Misconfigured
        The address does not belong to this machine (``bad_host``).
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)  # asyncio sends without delay if the protocol is TCP
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise Retryable(
                "port_taken", f"--port {port}", f"cannot be listened on: {error.strerror}.", "choose another --port."
            ) from error
        raise Misconfigured(
            "bad_host", f"--host {host}", f"cannot be listened on: {error}.", "name an address of this machine."
        ) from error
    listening.listen()
    return listening

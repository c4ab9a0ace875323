"""Next candidate of a selection; now and then one that was judged before, to check it blind."""

import hashlib
import hmac
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flows.vetting.index import CandidateIndex
from schemas.vetting import VerdictRecord

RECHECK = 0.05
"""Share of the candidates shown that were judged before."""

REST = 10
"""Least number of other verdicts before a re-check."""


def next_row(
    index: CandidateIndex,
    ordered: NDArray[np.int64],
    after: int | None,
    records: Sequence[VerdictRecord],
    user: str,
    share: float = RECHECK,
) -> tuple[int | None, bool]:
    """Return the row of the candidate to show next, and whether it is a re-check.

    Parameters
    ----------
    index, ordered
        The candidates, and rows of the selection in its order.
    after
        Row that is shown now; None: none is.
    records
        Standing verdicts.
    user
        Who asks.
    share
        Of re-checks.

    Returns
    -------
    row, blind
        The first after ``after`` that the user has not judged, else the first before it; None where nothing is left.
        By a hash of the user and their number of verdicts, a share of the time one that they judged ``REST`` verdicts
        ago or more and that was not checked yet.
    """
    own = [one for one in records if one.user == user]
    rows = index.rows_of(own).tolist()
    done = {row for row in rows if row >= 0}
    if after is not None:
        done.add(after)  # which is being judged
    chance = _chance(user, len(own), after)
    if chance < share and (again := _recheck(own, rows, after, chance / max(share, 1e-9))) is not None:
        return again, True
    place = np.flatnonzero(ordered == after)
    start = int(place[0]) + 1 if len(place) else 0
    for row in (*ordered[start:].tolist(), *ordered[:start].tolist()):
        if row not in done:
            return row, False
    return None, False


def _chance(user: str, count: int, after: int | None) -> float:
    """Return a number in [0, 1) that looks random and is the same each time."""
    content = f"{user}\0{count}\0{after}".encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:6], "big") / 2**48


def _recheck(own: Sequence[VerdictRecord], rows: Sequence[int], after: int | None, place: float) -> int | None:
    """Return one of the rows that a user judged some time ago and was not shown again."""
    checked = {row for row, one in zip(rows, own, strict=True) if one.blind}
    old = [row for row, one in zip(rows[:-REST], own, strict=False) if row >= 0 and not one.blind]
    fit = sorted(set(old) - checked - {after} - set(rows[-REST:]))
    return fit[min(int(place * len(fit)), len(fit) - 1)] if fit else None


def ticket(key: bytes, user: str, source_id: int, blind: bool) -> str:
    """Return what a page carries of whether it shows a re-check: none can tell by it but the server."""
    return hmac.new(key, f"{user}\0{source_id}\0{blind:d}".encode(), hashlib.sha256).hexdigest()


def is_blind(key: bytes, user: str, source_id: int, given: str) -> bool | None:
    """Return what a ticket says; None if it is of nobody's making, or of another user or candidate."""
    for blind in (False, True):
        if hmac.compare_digest(ticket(key, user, source_id, blind).encode(), given.encode("utf-8", "replace")):
            return blind
    return None

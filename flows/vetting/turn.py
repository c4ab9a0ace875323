"""Next candidate of a selection; occasionally one that was judged before, for a blind re-check."""

import hashlib
import hmac
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flows.vetting.index import CandidateIndex
from schemas.vetting import VerdictRecord

RECHECK = 0.05
"""Fraction of shown candidates that were judged before."""

REST = 10
"""Minimum number of other verdicts before a re-check."""


def next_row(
    index: CandidateIndex,
    ordered: NDArray[np.int64],
    after: int | None,
    records: Sequence[VerdictRecord],
    user: str,
    share: float,
) -> tuple[int | None, bool]:
    """Return the row of the next candidate to show, and whether it is a re-check.

    Parameters
    ----------
    index, ordered
        Index of candidates, and rows of the selection in order.
    after
        Row shown now; None: none.
    records
        Standing verdicts.
    user
        Vetter who asks.
    share
        Fraction of re-checks.

    Returns
    -------
    row, blind
        The first row after ``after`` that the user has not judged, or else the first before it; None if nothing is
        left. With probability ``share``, from a hash of the user and their number of verdicts, a row that they judged
        at least ``REST`` verdicts ago and that was not re-checked yet.
    """
    own = [one for one in records if one.user == user]
    rows = index.rows_of(own).tolist()
    done = {row for row in rows if row >= 0}
    if after is not None:
        done.add(after)  # being judged now
    chance = _chance(user, len(own), after)
    if chance < share and (again := _recheck(own, rows, after, chance / max(share, 1e-9))) is not None:
        return again, True
    for row in np.concatenate(rows_around(ordered, after)).tolist():
        if row not in done:
            return row, False
    return None, False


def rows_around(ordered: NDArray[np.int64], after: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that follow one of them, and those up to it; all and none if it is not among them."""
    place = np.flatnonzero(ordered == after)
    start = int(place[0]) + 1 if len(place) else 0
    return ordered[start:], ordered[:start]


def _chance(user: str, count: int, after: int | None) -> float:
    """Return a number in [0, 1) that looks random but is always the same for these arguments."""
    content = f"{user}\0{count}\0{after}".encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:6], "big") / 2**48


def _recheck(own: Sequence[VerdictRecord], rows: Sequence[int], after: int | None, place: float) -> int | None:
    """Return a row that the user judged some time ago and that was not re-checked yet; None if there is none."""
    checked = {row for row, one in zip(rows, own, strict=True) if one.blind}
    old = [row for row, one in zip(rows[:-REST], own, strict=False) if row >= 0 and not one.blind]
    fit = sorted(set(old) - checked - {after} - set(rows[-REST:]))
    return fit[min(int(place * len(fit)), len(fit) - 1)] if fit else None


def ticket(key: bytes, user: str, source_id: int, blind: bool) -> str:
    """Return a token for whether a page shows a re-check, which only the server can read."""
    return hmac.new(key, f"{user}\0{source_id}\0{blind:d}".encode(), hashlib.sha256).hexdigest()


def is_blind(key: bytes, user: str, source_id: int, given: str) -> bool | None:
    """Return whether a token marks a re-check; None if it is invalid, or of another user or candidate."""
    for blind in (False, True):
        if hmac.compare_digest(ticket(key, user, source_id, blind).encode(), given.encode("utf-8", "replace")):
            return blind
    return None

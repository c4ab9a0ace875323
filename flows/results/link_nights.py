"""Links over nights: windows of a table, each linked by heliolinx in a separate process."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kernels.linking.detections import SkyDetections, first_copies
from kernels.linking.nights import Window, find_links, three_nights
from kernels.linking.orbits import Link, choose_links, without_rivals
from kernels.linking.tracklets import PAIR_RATE, Tracklet
from kernels.linking.windows import MOST_TRACKLETS, pairs_between, window_of
from kernels.sky.observatories import OBSERVATORIES
from schemas.errors import Misconfigured, missing_extra

SECONDS = 900.0
"""Maximum time for a window, s."""

_BYTES = 8 * 2**30  # maximum memory of the process for a window


class NightDetections(Protocol):
    """Detections of some nights by time, the code of the observatory of each, and the scale of the times."""

    @property
    def detections(self) -> SkyDetections:
        """Return the detections."""

    @property
    def obscode(self) -> NDArray[np.str_]:
        """Return the codes."""

    @property
    def scale(self) -> Literal["utc", "tai"]:
        """Return the scale."""


def require_heliolinx() -> None:
    """Raise unless the package heliolinx is installed.

    Raises
    ------
    Misconfigured
        The package is not installed.
    """
    if find_spec("heliolinx") is None:
        raise missing_extra("heliolinx", "link")


def link_over_nights(
    table: NightDetections, tracklets: Sequence[Tracklet], stationary: NDArray[np.bool_], nights: int
) -> tuple[list[Link], list[str]]:
    """Return the links of tracklets, and of pairs of detections without a tracklet.

    Parameters
    ----------
    table, tracklets, stationary
        Input and results of `flows.results.linking.link_table`.
    nights
        Largest number of days from the first to the last detection of a link.

    Returns
    -------
    list of Link
        Links by their first detection; members are row numbers of the table, and each detection is in at most one.
    list of str
        Warnings.

    Raises
    ------
    Misconfigured
        heliolinx is not installed, failed, or took too long; there are too many tracklets.
    """
    require_heliolinx()
    notes = unknown_places(table.obscode)
    links: list[Link] = []
    rate = PAIR_RATE
    single, alone = _without_copies(table, tracklets)
    for start, stop in _windows(table.detections.mjd, nights):
        groups = [one for one in single if start <= one[0] and one[-1] < stop]
        if len(groups) > MOST_TRACKLETS:
            problem = f"{len(groups)} tracklets within {nights} days are more than {MOST_TRACKLETS}."
            raise Misconfigured("too_many_tracklets", "--nights", problem, "take fewer nights, or a part of the sky.")
        usable = alone & ~stationary
        usable[[place for group in groups for place in group]] = False
        rows, most = np.arange(start, stop), MOST_TRACKLETS - len(groups)
        pairs, limit = pairs_between(table.detections, table.obscode, rows, usable, most)
        rate = min(rate, limit)
        if len(three_nights(table.detections.mjd[[group[0] for group in [*groups, *pairs]]])):
            window, places = window_of(table.detections, table.obscode, [*groups, *pairs], table.scale)
            links += [one._replace(members=tuple(places[list(one.members)].tolist())) for one in linked(window)]
    if rate < PAIR_RATE:
        notes.append(f"too many detections: of pairs only those up to {rate:.2g} deg / day were linked over nights")
    return without_rivals(links), notes


def _without_copies(
    table: NightDetections, tracklets: Sequence[Tracklet]
) -> tuple[list[tuple[int, ...]], NDArray[np.bool_]]:
    """Return the members of tracklets that are not copies of others, and which detections are in no tracklet."""
    inside = np.zeros(len(table.obscode), np.bool_)
    inside[[place for one in tracklets for place in one.members]] = True
    first = first_copies(table.detections, table.obscode, inside)
    groups = dict.fromkeys(tuple(sorted({int(first[place]) for place in one.members})) for one in tracklets)
    return list(groups), first == np.arange(len(first))


def unknown_places(codes: NDArray[np.str_]) -> list[str]:
    """Return a warning if the places of some observatories are not known."""
    unknown = sorted(set(codes.tolist()) - set(OBSERVATORIES))
    if not unknown:
        return []
    names = ", ".join(code or "none" for code in unknown)
    remedy = "" if unknown[0] else "; --obscode CODE gives one to rows that have none"
    return [f"obscode {names}: the place is not known, and taken to be the centre of the Earth{remedy}"]


def _windows(mjd: NDArray[np.float64], nights: int) -> Iterator[tuple[int, int]]:
    """Yield the row ranges (end excluded) of windows of several days that overlap by half."""
    begin, before = (float(mjd[0]) if len(mjd) else 0.0), (0, 0)
    while before[1] < len(mjd):
        start, stop = (int(place) for place in np.searchsorted(mjd, [begin, begin + nights]))
        if stop > before[1]:
            yield start, stop
        before, begin = (start, stop), max(begin + nights / 2, float(mjd[min(stop, len(mjd) - 1)]) - nights)


def linked(window: Window) -> list[Link]:
    """Return the links of a window from another process, since heliolinx writes to standard output and may crash.

    Raises
    ------
    Misconfigured
        heliolinx failed, or took too long.
    """
    with TemporaryDirectory(prefix="nightstride-link-") as folder:
        asked, answered = Path(folder) / "window.npz", Path(folder) / "links.json"
        np.savez(asked, **window._asdict())
        command = [sys.executable, "-P", "-m", "flows.results.link_nights", str(asked), str(answered)]
        try:
            ended = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                errors="replace", timeout=SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            problem = f"took more than {SECONDS:g} s for {window.group[-1] + 1} tracklets."
            raise Misconfigured("too_slow", "heliolinx", problem, "take fewer nights, or a part of the sky.") from error
        if ended.returncode or not answered.exists():
            said = (ended.stderr.strip().splitlines() or ["nothing"])[-1]
            problem = f"ended with {ended.returncode} and said: {said}"
            raise Misconfigured("linking_failed", "heliolinx", problem, "take other nights, or link without --nights.")
        return [Link(tuple(members), *rest) for members, *rest in json.loads(answered.read_text())]


def main(asked: str, answered: str) -> None:
    """Link the window of a file and write the links to another."""
    resource.setrlimit(resource.RLIMIT_DATA, (_BYTES, _BYTES))
    with np.load(asked) as file:
        window = Window(**file)
    Path(answered).write_text(json.dumps(choose_links(window, find_links(window))))


if __name__ == "__main__":
    main(*sys.argv[1:])

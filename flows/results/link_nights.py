"""Links over nights: windows of a table, each linked by heliolinx in a process of its own."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kernels.linking.nights import Window, find_links, three_nights
from kernels.linking.orbits import Link, choose_links, without_rivals
from kernels.linking.tracklets import PAIR_RATE, Tracklet, find_pairs
from kernels.sky.observatories import GEOCENTRE, OBSERVATORIES, heliocentric_km
from kernels.sky.positions import sky_position
from schemas.errors import Misconfigured, missing_extra

if TYPE_CHECKING:
    from flows.results.linking import DetectionTable

MOST_TRACKLETS = 20_000
"""In a window, with pairs."""

SECONDS = 900.0
"""For a window."""

_BYTES = 8 * 2**30  # of memory that the process of a window may have
_EARTH_DAYS = 5  # before and after


def require_heliolinx() -> None:
    """Make sure that the package heliolinx is there.

    Raises
    ------
    Misconfigured
        It is not installed.
    """
    if find_spec("heliolinx") is None:
        raise missing_extra("heliolinx", "link")


def link_nights(
    table: "DetectionTable", tracklets: Sequence[Tracklet], stationary: NDArray[np.bool_], nights: int
) -> tuple[list[Link], list[str]]:
    """Link tracklets, and pairs of detections that are in none.

    Parameters
    ----------
    table, tracklets, stationary
        As `flows.results.linking.link_table` takes and returns them.
    nights
        Days from the first to the last detection of a link at most.

    Returns
    -------
    list of Link
        By their first detection; members are places in the table, and no detection is in two.
    list of str
        Sentences about what is not as it should be.

    Raises
    ------
    Misconfigured
        heliolinx is not installed, failed, or took too long; there are too many tracklets.
    """
    require_heliolinx()
    notes = _unknown(table.obscode)
    links: list[Link] = []
    rate = PAIR_RATE
    for start, stop in _windows(table.detections.mjd, nights):
        groups = [one.members for one in tracklets if start <= one.members[0] and one.members[-1] < stop]
        if len(groups) > MOST_TRACKLETS:
            problem = f"{len(groups)} tracklets within {nights} days are more than {MOST_TRACKLETS}."
            raise Misconfigured("too_many_tracklets", "--nights", problem, "take fewer nights, or a part of the sky.")
        pairs, limit = _pairs(table, groups, stationary, start, stop)
        rate = min(rate, limit)
        if len(three_nights(table.detections.mjd[[group[0] for group in [*groups, *pairs]]])):
            window, places = _window(table, [*groups, *pairs])
            links += [one._replace(members=tuple(places[list(one.members)].tolist())) for one in _linked(window)]
    if rate < PAIR_RATE:
        notes.append(f"too many detections: of pairs only those up to {rate:.2g} deg / day were linked over nights")
    return without_rivals(links), notes


def _unknown(codes: NDArray[np.str_]) -> list[str]:
    unknown = sorted(set(codes.tolist()) - set(OBSERVATORIES))
    if not unknown:
        return []
    names = ", ".join(code or "none" for code in unknown)
    return [f"obscode {names}: the place is not known, and taken to be the centre of the Earth"]


def _windows(mjd: NDArray[np.float64], nights: int) -> Iterator[tuple[int, int]]:
    """Yield first and last place + 1 of the detections of so many days, half of them in the next window, too."""
    begin, before = (float(mjd[0]) if len(mjd) else 0.0), (0, 0)
    while before[1] < len(mjd):
        start, stop = (int(place) for place in np.searchsorted(mjd, [begin, begin + nights]))
        if stop > before[1]:
            yield start, stop
        before, begin = (start, stop), max(begin + nights / 2, float(mjd[min(stop, len(mjd) - 1)]) - nights)


def _pairs(
    table: "DetectionTable", groups: Sequence[tuple[int, ...]], stationary: NDArray[np.bool_], start: int, stop: int
) -> tuple[list[tuple[int, ...]], float]:
    """Return pairs of each observatory between two places, and the fastest that were looked for, deg / day."""
    usable = ~stationary
    usable[[place for group in groups for place in group]] = False
    pairs: list[tuple[int, ...]] = []
    rate = PAIR_RATE
    codes = np.unique(table.obscode[start:stop])
    for code in codes:
        here = start + np.flatnonzero(table.obscode[start:stop] == code)
        most = (MOST_TRACKLETS - len(groups)) // len(codes)
        found, limit = find_pairs(table.detections.take(here), usable[here], most)
        pairs += [(int(i), int(j)) for i, j in here[found]]
        rate = min(rate, limit)
    return pairs, rate


def _window(table: "DetectionTable", groups: Sequence[tuple[int, ...]]) -> tuple[Window, NDArray[np.int64]]:
    """Return what is asked, and the places of its detections in the table."""
    flat = np.array([place for group in groups for place in group], np.int64)
    places = np.unique(flat)
    mjd, codes = table.detections.mjd[places], table.obscode[places]
    ra, dec = sky_position(table.detections.vectors[places])
    observer = np.zeros((len(places), 3))
    sites = np.unique(codes)
    for code in sites:
        times, of = np.unique(mjd[codes == code], return_inverse=True)
        known = str(code) if str(code) in OBSERVATORIES else GEOCENTRE
        observer[codes == code] = heliocentric_km(known, times, table.scale)[0][of]
    days = np.arange(np.floor(mjd[0]) - _EARTH_DAYS, mjd[-1] + _EARTH_DAYS + 1)
    earth = np.column_stack([days, *heliocentric_km(GEOCENTRE, days, table.scale)])
    group = np.repeat(np.arange(len(groups)), [len(one) for one in groups])
    window = Window(
        mjd,
        ra,
        dec,
        np.searchsorted(sites, codes),
        table.detections.sigma[places],
        observer,
        earth,
        np.searchsorted(places, flat),
        group,
    )
    return window, places


def _linked(window: Window) -> list[Link]:
    """Have a window linked by another process: heliolinx writes to standard output, and may crash."""
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

"""Capacity model of a survey, from measured constants."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from benchmarks.scale.capacity_constants import FILE
from benchmarks.speed.exposure_cost import SIZES, STEPS, tasks_of
from flows.nights.cluster.memory import BASE, projected_bytes
from schemas.settings import Settings

YEARS = 10
"""Duration of a survey, for its backfill."""


@dataclass(frozen=True)
class Survey:
    """Images of a survey in a night.

    Attributes
    ----------
    name
        Name of the survey, as of its simulation preset.
    shape
        (ny, nx) of an image, px.
    detectors, visits
        Images of a visit, visits of a night.
    cadence_s
        Time from one visit to the next, s.
    nights
        Nights of a year.
    """

    name: str
    shape: tuple[int, int]
    detectors: int
    visits: int
    cadence_s: float
    nights: int

    @property
    def exposures(self) -> int:
        """Return the number of images of a night."""
        return self.detectors * self.visits


SURVEYS = {
    "ztf": Survey("ztf", (3080, 3072), 64, 700, 45.0, 275),
    "rubin": Survey("rubin", (4000, 4072), 189, 1000, 37.0, 275),
}
"""ZTF: 3,760 square degrees an hour in fields of 47 are one in 45 s, and 700 in 8.75 h (Masci et al. 2019, PASP 131,
018003). Rubin: 189 detectors, 30 s of exposure, 2 of readout, 5 of slew, about 1,000 visits a night, 2.75 million in
ten years, so 275 nights a year (Ivezić et al. 2019, ApJ 873, 111); as many are assumed for ZTF."""


@dataclass(frozen=True)
class Constants:
    """Measured constants: a line for each quantity of an exposure, and the cost of handing it out.

    Attributes
    ----------
    lines
        Quantity -> what an exposure takes whatever its size, and for each pixel; s of processor time, or bytes.
    flop_per_pixel
        Floating-point operations of the network.
    ms, kib
        Kind of process -> processor time, ms, and growth of memory, KiB, for each exposure.
    """

    lines: Mapping[str, Mapping[str, float]]
    flop_per_pixel: float
    ms: Mapping[str, float]
    kib: Mapping[str, float]

    def of(self, quantity: str, pixels: int) -> float:
        """Return the cost of an exposure of ``pixels`` pixels."""
        line = self.lines[quantity]
        return line["fixed"] + line["per_pixel"] * pixels


def constants(survey: str, science: bool) -> Constants:
    """Read what was measured on a survey's images, with or without science images beside them."""
    known: dict[str, Any] = json.loads(FILE.read_text())
    exposure, overhead = known["exposure"], known["overhead"]
    lines = exposure["surveys"][survey]["science" if science else "difference"]
    growth = {kind: max(0.0, found["slope"]) for kind, found in overhead["kib"].items()}
    return Constants(lines, exposure["search_flop_per_pixel"], overhead["ms"], growth)


@dataclass(frozen=True)
class Need:
    """Cost of an exposure.

    Attributes
    ----------
    bytes
        Kind of file -> bytes.
    seconds
        Step -> processor time, s; `plan` and `book` are the flow's.
    flop
        Floating-point operations of the network.
    tasks
        Tasks of Dask.
    scheduler_s, flow_s
        Processor time of scheduler and flow, s.
    """

    bytes: Mapping[str, float]
    seconds: Mapping[str, float]
    flop: float
    tasks: Mapping[str, int]
    scheduler_s: float
    flow_s: float

    @property
    def worker_s(self) -> float:
        """Return the processor time of workers, s."""
        return self.seconds["store"] + self.seconds["search"] + self.seconds["finish"]

    @property
    def path_s(self) -> float:
        """Return the least time from file to catalogue, however many workers there are, s."""
        return self.seconds["store"] + self.seconds["search"] / self.tasks.get("search", 1) + self.seconds["finish"]


def need(shape: tuple[int, int], known: Constants, settings: Settings, searches: int = 1) -> Need:
    """Return the cost of an exposure of (ny, nx) px whose tiles ``searches`` tasks share."""
    pixels = shape[0] * shape[1]
    return Need(
        bytes={name: known.of(name, pixels) for name in SIZES},
        seconds={name: known.of(name, pixels) for name in STEPS},
        flop=known.flop_per_pixel * pixels,
        tasks=tasks_of(shape, settings, searches),
        scheduler_s=known.ms["scheduler"] / 1000,
        flow_s=known.ms["flow"] / 1000,
    )


def worker_bytes(shape: tuple[int, int], siblings: int, settings: Settings) -> int:
    """Return the memory that a worker needs, bytes."""
    return max(projected_bytes(shape, siblings, settings).values())


def flow_bytes(exposures: int, known: Constants) -> float:
    """Return the memory of the flow's process after a number of exposures, bytes."""
    return BASE + exposures * known.kib["flow"] * 1024


def workers_for(survey: Survey, found: Need, within_s: float) -> int | None:
    """Return the fewest workers that publish each visit within ``within_s`` of its shutter's close; None: none do.

    Whatever the order of the tasks, W workers end within total / W + path (Graham 1969, SIAM J. Appl. Math. 17, 416).
    W is such that this is in time, and that a visit is done before the next has come.
    """
    total = survey.detectors * found.worker_s
    if within_s <= found.path_s or survey.detectors * found.flow_s > min(within_s, survey.cadence_s):
        return None
    return max(ceil(total / (within_s - found.path_s)), ceil(total / survey.cadence_s))

"""Capacity for a survey, in bytes, seconds and workers: ``python -m benchmarks.scale.capacity``.

Computed from capacity.json, which `benchmarks.scale.capacity_constants` and `benchmarks.scale.rubin_overhead --record`
measure.
"""

import argparse
import json
from dataclasses import replace

from benchmarks.scale.capacity_constants import FILE
from benchmarks.scale.capacity_model import (
    SURVEYS,
    YEARS,
    Constants,
    Need,
    Survey,
    constants,
    flow_bytes,
    need,
    worker_bytes,
    workers_for,
)
from benchmarks.support.page import show, table
from schemas.settings import Settings

WITHIN_S = (60, 300, 780)
"""Time limits, s: for Rubin's alerts, five minutes, and the time of ZTF's own alerts."""

YEAR_S = 365.25 * 86400
MONTHS = 12


def size(count: float) -> str:
    """Return bytes in the largest unit that leaves at least one."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} PB" if count < 1000 else f"{count:,.0f} PB"


def bytes_table(survey: Survey, found: Need) -> str:
    """Return the table of bytes of an exposure, a night, a year and all years."""
    totals = {**found.bytes, "**kept (all but input)**": sum(found.bytes.values()) - found.bytes["input"]}
    each = (1, survey.exposures, survey.exposures * survey.nights, survey.exposures * survey.nights * YEARS)
    rows = [(name, *(size(count * value) for count in each)) for name, value in totals.items()]
    return table(("", "exposure", "night", "year", f"{YEARS} years"), rows)


def time_table(survey: Survey, found: Need, known: Constants, settings: Settings, science: bool) -> str:
    """Return the table of processor time, tasks and memory."""
    night = survey.exposures
    rows = [
        (f"{step}, core s", f"{found.seconds[step]:.3f}", f"{found.seconds[step] * night / 3600:,.1f} h")
        for step in ("store", "search", "finish")
    ]
    rows += [
        ("**workers, core s**", f"{found.worker_s:.2f}", f"{found.worker_s * night / 3600:,.0f} h"),
        ("network, GFLOP", f"{found.flop / 1e9:.0f}", f"{found.flop * night / 1e15:,.2f} PFLOP"),
        ("tasks", sum(found.tasks.values()), f"{sum(found.tasks.values()) * night:,}"),
        ("scheduler, core s", f"{found.scheduler_s:.4f}", f"{found.scheduler_s * night / 60:.1f} min"),
        ("flow, core s", f"{found.flow_s:.4f}", f"{found.flow_s * night / 60:.1f} min"),
        ("memory of a worker", size(worker_bytes(survey.shape, int(science), settings)), ""),
        ("memory of the flow, at most", size(flow_bytes(0, known)), size(flow_bytes(night, known))),
    ]
    return table(("", "exposure", "night"), rows)


def workers_table(survey: Survey, found: Need) -> str:
    """Return the table of workers by the time in which each visit is to be published, and for all years in one."""
    rows = []
    for within in WITHIN_S:
        count = workers_for(survey, found, within)
        rows.append((f"each visit within {within} s of its shutter's close", "no number" if count is None else count))
    backlog = survey.exposures * survey.nights * YEARS * found.worker_s
    rows.append((f"{YEARS} years searched again in one", f"{backlog / YEAR_S:,.0f}"))
    return table(("", "workers"), rows)


def price_line(survey: Survey, found: Need, core_hour: float | None, gib_month: float | None) -> str:
    """Return the line of what that costs at the prices given, in their currency."""
    parts = []
    if core_hour is not None:
        hours = found.worker_s * survey.exposures / 3600
        parts.append(
            f"Workers: {hours:,.1f} core hours a night, at {core_hour:g} each: {hours * core_hour:,.2f} a night, "
            f"{hours * core_hour * survey.nights:,.2f} a year of {survey.nights} nights."
        )
    if gib_month is not None:
        kept = (sum(found.bytes.values()) - found.bytes["input"]) * survey.exposures * survey.nights / 2**30
        parts.append(
            f"Storage: tiles and catalogues of a year, {kept:,.0f} GiB, at {gib_month:g} for a GiB and month: "
            f"{kept * gib_month * MONTHS:,.2f} for each year that all of it is kept."
        )
    return "\n".join(parts)


def section(survey: Survey, science: bool, prices: tuple[float | None, float | None] = (None, None)) -> str:
    """Return everything about a survey, as Markdown."""
    settings, known = Settings(), constants(survey.name, science)
    found = need(survey.shape, known, settings)
    kind = "with science images" if science else "difference images alone"
    parts = (
        f"### {survey.name}, {kind}",
        f"{survey.visits:,} visits a night of {survey.detectors} images of {survey.shape[0]} x {survey.shape[1]} px, "
        f"{survey.exposures:,} exposures; a visit every {survey.cadence_s:g} s; {survey.nights} nights a year.",
        bytes_table(survey, found),
        time_table(survey, found, known, settings, science),
        workers_table(survey, found),
        price_line(survey, found, *prices),
    )
    return "\n\n".join(part for part in parts if part)


def measured_on() -> str:
    """Return in words what the constants were measured on."""
    known = json.loads(FILE.read_text())
    return "\n".join(f"- {part}: `{one['command']}`, {one['machine']}" for part, one in known.items())


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--survey", choices=SURVEYS, help="default: all")
    parser.add_argument("--visits", type=int, help="of a night; default: the survey's")
    parser.add_argument("--detectors", type=int, help="images of a visit; default: the survey's")
    parser.add_argument("--side", nargs=2, type=int, metavar=("NY", "NX"), help="of an image, px; likewise")
    parser.add_argument(
        "--core-hour", type=float, help="price of a core for an hour, in any currency: costs are printed in the same"
    )
    parser.add_argument("--gib-month", type=float, help="price of keeping a GiB for a month, in the same")
    chosen = parser.parse_args()
    names = [chosen.survey] if chosen.survey else list(SURVEYS)
    prices = (chosen.core_hour, chosen.gib_month)
    given = {"visits": chosen.visits, "detectors": chosen.detectors, "shape": chosen.side and tuple(chosen.side)}
    own = {name: value for name, value in given.items() if value is not None}
    texts = [section(replace(SURVEYS[name], **own), science, prices) for name in names for science in (False, True)]
    show("\n\n".join((measured_on(), *texts)), weights=None)


if __name__ == "__main__":
    main()

"""Outcomes as tables: on the terminal, in JSON and in the docs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from benchmarks.faults.fault import Outcome
from benchmarks.faults.lab import Lab
from benchmarks.support.page import table

HEADINGS = (
    "fault", "rows lost", "rows double", "exposures lost", "exposures double", "files that differ",
    "association", "verify", "left over", "exit codes", "recovery, s", "in all, s",
)  # fmt: skip


def cells(outcome: Outcome) -> list[str]:
    """Return one row of the table."""
    recovery = "" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f}"
    counts = (
        outcome.rows_lost, outcome.rows_duplicated, outcome.exposures_lost, outcome.exposures_duplicated,
        outcome.files_differing, outcome.associated_differing, outcome.problems, len(outcome.leftovers),
    )  # fmt: skip
    shown = [str(count) for count in counts] if outcome.failure is None else ["?"] * len(counts)
    codes = ", ".join(map(str, outcome.exit_codes))
    return [outcome.name, *shown, codes, recovery, f"{outcome.elapsed_s:.1f}"]


def terminal(outcomes: Sequence[Outcome]) -> Table:
    """Return the table for a terminal, invalid rows and rows with damage in red."""
    shown = Table(*HEADINGS)
    for outcome in outcomes:
        shown.add_row(*cells(outcome), style=None if outcome.survived else "red")
    return shown


def summary(lab: Lab, seed: int, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return everything as JSON-serialisable values."""
    night = {
        "exposures": lab.size.exposures, "shape": lab.size.shape, "rows": lab.expected.rows.total(),
        "files": len(lab.expected.files), "seconds": round(lab.elapsed_s, 1),
    }  # fmt: skip
    rows = [asdict(one) | {"survived": one.survived} for one in outcomes]
    return {"seed": seed, "night": night, "faults": rows, "survived": all(one.survived for one in outcomes)}


def damage(outcome: Outcome) -> str:
    """Return the counts above 0 with their headings, ``none``, or ``?`` of a fault that did not take place."""
    if outcome.failure is not None:
        return "?"
    counts = list(zip(HEADINGS, cells(outcome), strict=True))[1:9]
    return ", ".join(f"{heading}: {count}" for heading, count in counts if count != "0") or "none"


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the table of the page: how each fault was done, the evidence, and what it did."""
    headings = ("fault", "what is done", "what shows that it was", "damage", *HEADINGS[9:])
    rows = [(o.name, o.how, o.evidence, damage(o), *cells(o)[9:]) for o in outcomes]
    return table(headings, rows).replace("---: |", "--- |", 3)

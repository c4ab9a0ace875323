"""Run of each fault on a simulated night, with what is lost, duplicated, different or left behind.

    python -m benchmarks.faults [--small] [--only NAME]... [--json] [--docs]

Exit code 1 if a fault did not take place, or the night did not survive it. Needs root (for a small disk), and Debian's
packages faketime and postgresql.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.faults.driver import FAULTS, suffer
from benchmarks.faults.fault import Outcome
from benchmarks.faults.lab import LARGE, SMALL, Lab, lab
from benchmarks.faults.table import markdown, summary, terminal
from benchmarks.support.page import processor, show


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=11, help="of the night, the moments and the victims")
    parser.add_argument("--small", action="store_true", help="the night of CI: 8 exposures of 200 x 210 px")
    names = [fault.name for fault in FAULTS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of: {'; '.join(names)}")
    parser.add_argument("--postgres", action="store_true", help="keep the association in PostgreSQL, not in SQLite")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--docs", action="store_true", help="print what docs/measured/faults.md holds, too")
    return parser.parse_args()


def section(night: Lab, outcomes: list[Outcome]) -> str:
    """Return the Markdown of the page."""
    size, known, where = night.size, night.expected, "PostgreSQL" if night.postgres else "SQLite"
    machine = f"{processor()}, {len(os.sched_getaffinity(0))} cores"
    said = (
        f"{size.exposures} exposures of {size.shape[1]} x {size.shape[0]} px, "
        f"{night.parts['patches']} patches of the sky, {known.rows.total()} rows, {len(known.files)} published files, "
        f"{known.associated.total()} rows of the association's store in {where}; "
        f"undisturbed {night.elapsed_s:.1f} s. {machine}."
    )
    return f"{said}\n\n{markdown(outcomes)}"


def main() -> None:
    """Run the faults and show the table."""
    given = options()
    console = Console(stderr=given.json, width=200)
    folder = Path(tempfile.mkdtemp(prefix="nightstride-faults-"))
    outcomes: list[Outcome] = []
    with lab(folder, SMALL if given.small else LARGE, given.seed, postgres=given.postgres) as night:
        for fault in FAULTS:
            if given.only is None or fault.name in given.only:
                outcomes.append(suffer(night, fault, given.seed))
                one = outcomes[-1]
                verdict = "survived" if one.survived else f"NOT SURVIVED {one.failure or one}"
                console.print(f"{one.name}: {verdict} ({one.elapsed_s:.1f} s; {one.evidence})", highlight=False)
    console.print(terminal(outcomes))
    console.print(f"undisturbed: {night.elapsed_s:.1f} s for {night.size.exposures} exposures")
    if given.json:
        print(json.dumps(summary(night, given.seed, outcomes)))
    if given.docs:
        show(section(night, outcomes), weights=())
    if not all(one.survived for one in outcomes):
        console.print(f"What is left of the nights that did not survive is in {folder}.")
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""Requests that nights kept in a bucket cost: see `benchmarks.scale.years`, which this is `--s3` of.

moto's server is the store, and a proxy before it counts. Left out are those of the lease, whose heart beats by time,
and those that find out what the store can do, once in a process.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.fault_proxy import FaultProxy, Faults
from benchmarks.support.moto_server import start_moto
from benchmarks.support.rubin_visits import write_visits
from flows.storage.bucket_path import located
from flows.storage.object_store import configure
from schemas.settings import StoreSettings

NEW_EACH = 2
"""Requests per new exposure at the start of a run: records of its source, before and after the plan."""

PUBLISHED_EACH = 4
"""Requests per published exposure: objects compared with its ledger record, and records of its source."""

FIXED = 24
"""Maximum number of a command's requests that do not depend on exposures or nights."""


@dataclass(frozen=True)
class Asked:
    """Requests of a command: of the ledger, and all; and how many exposures it is about, each of which costs some."""

    what: str
    nights: int
    ledger: int
    total: int
    exposures: int = 0
    each: int = 0

    @property
    def passes(self) -> bool:
        """Return whether it asked no more than it may."""
        return self.total <= FIXED + self.each * self.exposures


Command = Callable[..., None]


def in_process(*arguments: object) -> None:
    """Run a command as a process of its own."""
    command = [str(Path(sys.executable).with_name("nightstride")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode > 1:
        raise RuntimeError(done.stdout + done.stderr)


def start_of_run(new: Path, out: str) -> None:
    """Plan a run under the lease, as its start does."""
    from flows.inputs.sources import list_sources
    from flows.nights.run import planner
    from flows.storage.lease import lease
    from schemas.settings import Settings

    with lease(located(out)):
        plan = planner(located(out), Settings()).plan(list_sources([str(new)], Settings()))
    if len(plan.todo) != len(list(new.iterdir())):
        raise RuntimeError(f"{len(plan.todo)} exposures are to be searched")


def measure_s3(folder: Path, exposures: int, nights: int, new: int, command: Command = in_process) -> list[Asked]:
    """Fill a bucket with half of the nights, then with all; count what each command asks. The folder must be empty."""
    from benchmarks.scale.years import FIRST, fill_night

    server, process = start_moto()
    before = dict(os.environ)
    try:
        with FaultProxy("127.0.0.1", server.port, Faults()) as proxy:
            os.environ.update(server.environment)
            configure(StoreSettings(endpoint=server.endpoint))
            out, raw = f"s3://{server.new_bucket()}/out", folder / "raw"
            arrived = write_visits(folder, 1, new)[0].parent
            counted, found = _Counted(proxy, command), list[Asked]()
            kept = 0
            for wanted in sorted({max(2, nights // 2), nights}):
                for number in range(kept, wanted):
                    fill_night(raw / str(FIRST + number), located(out), FIRST + number, exposures, published=not number)
                first = str(FIRST)
                if not kept:  # judges the night, which no later run does
                    counted("prepared", 0, "run", raw / first, "--out", out)
                kept = wanted
                found.append(counted("status", wanted, "status", out))
                found.append(counted("status NIGHT", wanted, "status", out, "--night", first))
                found.append(counted("start", wanted, arrived, out, by=start_of_run, exposures=new, each=NEW_EACH))
                many = {"exposures": exposures, "each": PUBLISHED_EACH}
                found.append(counted("run, nothing to do", wanted, "run", raw / first, "--out", out, **many))
                found.append(counted("verify NIGHT", wanted, "verify", out, "--night", first, **many))
        return found
    finally:
        os.environ.clear()
        os.environ.update(before)
        configure(StoreSettings())
        process.kill()
        process.wait()


class _Counted:
    """Commands behind a proxy that counts their requests."""

    def __init__(self, proxy: FaultProxy, command: Command) -> None:
        self._proxy, self._command = proxy, command

    def __call__(
        self, what: str, nights: int, *arguments: object, by: Command | None = None, exposures: int = 0, each: int = 0
    ) -> Asked:
        direct = os.environ["AWS_ENDPOINT_URL"]
        os.environ["AWS_ENDPOINT_URL"] = self._proxy.endpoint
        configure(StoreSettings(endpoint=self._proxy.endpoint))
        lines = self._proxy.faults.lines
        lines.clear()
        try:
            (by or self._command)(*arguments)
        finally:
            os.environ["AWS_ENDPOINT_URL"] = direct
            configure(StoreSettings(endpoint=direct))
        asked = [line for line in lines if "/lease.json" not in line and "/staging/" not in line]
        of_ledger = sum("/out/ledger" in line or "out%2Fledger" in line for line in asked)
        return Asked(what, nights, of_ledger, len(asked), exposures, each)


def growth(found: list[Asked]) -> dict[str, int]:
    """Return by how many requests each command asks more with all nights than with the fewest."""
    few, many = min(one.nights for one in found), max(one.nights for one in found)
    asked = {(one.what, one.nights): one.total for one in found}
    return {what: asked[what, many] - asked[what, few] for what, nights in asked if nights == few}


def report(exposures: int, nights: int, new: int) -> int:
    """Measure, print a table, and return the exit code."""
    with tempfile.TemporaryDirectory() as temporary:
        found = measure_s3(Path(temporary), exposures, nights, new)
    print(f"{exposures} exposures a night, {new} new\n\n| command | nights kept | requests | of the ledger | limit |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for one in found:
        limit = FIXED + one.each * one.exposures
        print(f"| {one.what} | {one.nights} | {one.total:,} | {one.ledger:,} | {limit:,} |")
    grown = growth(found)
    more = ", ".join(f"{what} {requests:+d}" for what, requests in grown.items())
    print(f"\nWith {nights} nights each asks more than with the fewest by: {more}.")
    return int(not all(one.passes for one in found) or any(n > 0 for n in grown.values()))

"""Alerts of one visit: how fast they are packaged, checked against the schema, and written.

`python -m benchmarks.alerting.alerts [--alerts 10000] [--detectors 20] [--size 1008] [--earlier 3] [--schema 11.1]
[--folder DIR] [--to URL] [--validate]`. Objects at rest that were seen on earlier visits too, which are in the
histories; each alert has cutouts of difference, science and template. The exposures are put into an output folder as a
run does; that is not counted. Then `nightstride alerts publish` is run in a process of its own; with --validate also
`alerts validate`.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.support.command_line import command_line
from flows.nights.association import associate
from schemas.settings import AssociationSettings
from tests.support.alert_night import exposure_planes, info_of, put, rows_of, visit_of

SIDES = (9, 24, 36, 60, 110)  # bboxSize, px: most are points
SHARES = (0.8, 0.1, 0.05, 0.03, 0.02)


def make_visits(out, alerts, detectors, size, earlier):
    """Publish a visit with its pixels, and earlier ones of the same field without."""
    rng = np.random.default_rng(7)
    for detector in range(detectors):
        count = alerts // detectors + (detector < alerts % detectors)
        x, y = (rng.uniform(0, size - 1, count) for _ in range(2))
        order = np.lexsort((x, y))
        x, y = x[order], y[order]
        bboxes = rng.choice(SIDES, count, p=SHARES)
        for n in range(earlier + 1):
            info = info_of(n, detector, (size, size))
            last = n == earlier
            put(out, info, rows_of(info, x, y, bboxSize=bboxes),
                exposure_planes(info, x, y, detector) if last else None, chunk=252)  # fmt: skip
    assert not associate(out, AssociationSettings(), None).summary.failed


def command(*arguments):
    """Run nightstride; return its result, and the seconds by the clock and of processors that it took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [Path(sys.executable).with_name("nightstride"), *map(str, arguments), "--json"], capture_output=True, text=True
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr + done.stdout)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout.splitlines()[-1]), wall, busy


def publish_visit(out, to, visit, schema, validate):
    """Return the figures of the command that publishes a visit."""
    found, wall, busy = command("alerts", "publish", out, "--to", to, "--visit", visit, "--schema", schema)
    figures = {
        "alerts": found["alerts"], "MB": round(found["bytes"] / 1e6, 1), "dead": found["dead"],
        "kB_each": round(found["bytes"] / found["alerts"] / 1e3, 1), "seconds": found["seconds"],
        "command_s": round(wall, 2), "processor_s": round(busy, 2),
        "alerts_per_s": round(found["alerts"] / found["seconds"]),
        "alerts_per_processor_s": round(found["alerts"] / busy),
    }  # fmt: skip
    if validate and "://" not in str(to):
        checked, wall, busy = command("alerts", "validate", *sorted(Path(to).glob("*.avro")))
        figures |= {"valid": checked["valid"], "validate_s": round(wall, 2), "validate_processor_s": round(busy, 2)}
    return figures


def main():
    given = command_line(
        __doc__, alerts=10_000, detectors=20, size=1008, earlier=3, schema="11.1", folder=Path, to=str, validate=False
    )
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        out = Path(folder) / "out"
        make_visits(out, given.alerts, given.detectors, given.size, given.earlier)
        to = given.to or Path(folder) / "alerts"
        figures = publish_visit(out, to, visit_of(given.earlier), given.schema, given.validate)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

"""Budget of a visit: how long after a visit's files arrive its alerts are out, while visits keep arriving.

    python -m benchmarks.alerting.visit_budget [--visits 6] [--detectors 20] [--size 1000] [--every 40] [--deadline 60]

simulates the visits with their science images, delivers the files of one every 40 s to a folder that `nightstride
watch` searches with a deadline, and sends the alerts to a folder. The lag of an alert is from the arrival of its
visit's first file to its acknowledgement. Exit code 1 if an exposure was lost, or an alert took longer than the
deadline.
"""

import json
import subprocess
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path

from benchmarks.support.command_line import command_line
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset

DIFFERENCE = "_scimrefdiffimg"


def visit_of(path):
    """Return the part of a ZTF file's name that is the visit's: the fraction of the night."""
    return path.name.split("_")[1]


def deliver(files, folder):
    """Move the files of a visit to a folder, difference images last: what arrives is whole, with its siblings."""
    for path in sorted(files, key=lambda one: DIFFERENCE in one.name):
        path.rename(folder / path.name)


def watch(raw, arriving, out, config, every):
    """Deliver the visits while they are searched; return the summary of the stream."""
    files = sorted((one for one in raw.iterdir() if one.name.startswith("ztf_")), key=visit_of)
    visits = [list(group) for _, group in groupby(files, visit_of)]
    options = ["--still", "0", "--poll", "0.2", "--quiet", "100000", "--idle-exit", str(every + 5), "--json"]
    command = [Path(sys.executable).with_name("nightstride"), "watch", arriving, "--out", out, "--config", config]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        time.sleep(15)  # the stream stands before the first shutter opens
        begin = time.monotonic()
        for number, visit in enumerate(visits):
            time.sleep(max(0.0, begin + number * every - time.monotonic()))
            deliver(visit, arriving)
        stdout = process.communicate()[0]
    return json.loads(stdout.splitlines()[-1])


def main():
    given = command_line(__doc__, visits=6, detectors=20, size=1000, every=40, deadline=60, seed=5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arriving, raw = folder / "arriving", folder / "raw"
        arriving.mkdir()
        preset = find_preset("ztf", 20, (given.size, given.size), subtract="none")
        simulate_night(SimulatedNight(preset, given.seed, given.visits, given.detectors, raw), workers=2)
        config = folder / "budget.toml"
        config.write_text(f'[alerts]\nto = "{folder / "alerts"}"\n[execution]\nvisit_deadline_s = {given.deadline}\n')
        summary = watch(raw, arriving, folder / "out", config, given.every)
    counts, alerts = summary["exposures"], summary["alerts"]
    shed = sum(one["code"] == "deadline" for one in summary.get("failed", ()))
    late = alerts["lag_s"] is None or alerts["lag_s"]["p99"] > given.deadline
    print(json.dumps({"exposures": counts, "shed": shed, "alerts": alerts, "late": late}))
    sys.exit(int(late or counts["done"] + shed != given.visits * given.detectors))


if __name__ == "__main__":
    main()

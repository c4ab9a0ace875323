"""Cost of traces and JSON logs for a worker: ``python -m benchmarks.speed.observe [--rounds N]``.

The tasks of one exposure (store, search, finish; a simulated ZTF quadrant with shipped models) take turns in one
process, with and without; a receiver in another process takes the spans in. Compared is processor time, that of the
thread that sends spans included, so other work on the machine hardly matters. Here the exporter starts and ends with
each exposure, in a worker once: what is found is an upper limit.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import process_time

from benchmarks.support.command_line import command_line
from flows.inputs.probe import probe
from flows.inputs.sources import list_sources
from flows.nights.exposure_run import shared_out
from flows.nights.exposure_work import finish_exposure, search_tiles, store_exposure
from flows.nights.nightly import LEAST_TASKS
from flows.pipeline.stage_run import search_grid
from flows.runtime import log, traces
from flows.runtime.log import observed, origin
from flows.runtime.traces import bound, of_exposure
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from flows.storage.layout import tile_path
from flows.training.bench.exposure import use_threads
from flows.training.bench.ways import interleaved
from schemas.settings import Settings

RECEIVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def exposure(source, out, settings, seen):
    """Run the tasks of an exposure as the flow and its workers do, one after the other."""
    shutil.rmtree(out, ignore_errors=True)
    key = probe(source, settings)
    path, fields = tile_path(out, key), of_exposure(key)

    def run(task, *arguments):
        came = origin() if seen else None
        return task(*arguments) if came is None else observed(came, task, *arguments)

    with bound(fields), traces.span("exposure", fields):
        stored = run(store_exposure, source, key, None, out, settings)
        tiles = search_grid(settings.detect).tiling(stored.info.shape, settings.tiles.tile).tiles()
        parts = [run(search_tiles, path, some, settings) for some in shared_out(tiles, LEAST_TASKS)]
        return run(finish_exposure, path, parts, stored.lineage, out, settings)


def observed_exposure(source, out, settings):
    """Do that with traces and logs, and send the spans."""
    traces.start_traces()
    log.LOGGER.disabled = False
    exposure(source, out, settings, True)
    traces.stop_traces()
    log.LOGGER.disabled = True


def main():
    """Measure, and print one line."""
    given = command_line(__doc__, rounds=9, side=(3072, "px"))
    use_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate_night(
            SimulatedNight(find_preset("ztf", 3, (given.side, given.side)), 7, 1, 1, folder / "raw"), 1, lambda _: None
        )
        settings = Settings()
        (source,) = list_sources([str(folder / "raw")], settings)
        receiver = subprocess.Popen([sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE, text=True)
        port = receiver.stdout.readline().strip()
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
        with Path(os.devnull).open("w") as nowhere:
            sys.stderr, before = nowhere, sys.stderr
            log.log_as_json()
            sys.stderr = before
            ways = {
                "plain": partial(exposure, source, folder / "out", settings, False),
                "observed": partial(observed_exposure, source, folder / "out", settings),
            }
            for way in ways.values():
                way()  # loads models and libraries
            timed = interleaved(ways, given.rounds, clock=process_time)
        receiver.terminate()
        receiver.wait()
    seconds = ", ".join(f"{name} {value:.3f} s" for name, value in timed.medians.items())
    print(f"processor time of an exposure: {seconds}; ratio {timed.ratio('observed', 'plain'):.3f}")


if __name__ == "__main__":
    main()

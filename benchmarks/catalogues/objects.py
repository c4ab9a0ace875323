"""Cost of objects: cutouts per second of one core, and the stages on a full quadrant in four bands.

`python -m benchmarks.catalogues.objects [--quadrant]`
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.support.command_line import command_line
from kernels.image.cutouts import cut
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.psf.psf_field import PsfField, draw_psfs
from schemas.objects import SIDE

SHAPE = (3080, 3072)
OBJECTS = 10_000
BANDS = 4


def cutting(rounds=7):
    """Return objects per second, all 8 planes of 26 x 26 px, into allocated memory: best and median of some rounds."""
    rng = np.random.default_rng(1)
    images = [rng.normal(0, 5, SHAPE).astype(np.float32) for _ in range(BANDS)]
    bad = rng.uniform(size=SHAPE) < 0.01
    y, x = (rng.integers(0, side, OBJECTS) for side in SHAPE)
    rows = np.arange(OBJECTS)
    out = np.zeros((OBJECTS, 2 * BANDS, SIDE, SIDE), np.float32)
    psf, field = (
        moffat_mixture(2.5, 3.0),
        PsfField(rng.normal(0, 0.02, (3, 6)), SHAPE, 100, np.array([[-1, -1], [1, 1]])),
    )

    def once():
        start = time.process_time()
        for plane, image in enumerate(images):
            cut(image, bad, 1.0, y, x, rows, plane, out)
            out[rows, BANDS + plane] = draw_psfs(psf, field.at(x, y), SIDE)
        return OBJECTS / (time.process_time() - start)

    once()  # compiles
    rates = [once() for _ in range(rounds)]
    return {"objects_per_core_second": round(max(rates)), "median": round(float(np.median(rates)))}


def quadrant(folder):
    """Return core seconds of each stage on four exposures of a simulated ZTF quadrant, in g, r and i."""
    from flows.inputs.ingest import prepare
    from flows.inputs.sources import list_sources
    from flows.simulation.night import SimulatedNight, simulate_night
    from flows.simulation.presets import find_preset
    from schemas.settings import Settings
    from schemas.stage import Context
    from stages import cut_cutouts, find_sources, gather_objects
    from tests.support.science_night import FakeNight

    simulate_night(SimulatedNight(find_preset("ztf", bands=("g", "r", "i")), 3, BANDS, 1, folder))
    settings = Settings()
    prepared = [prepare(source, settings) for source in list_sources([str(folder)], settings)]
    night = FakeNight({info.visit: planes for info, planes in prepared}, [info for info, _ in prepared])
    found, seconds = [], {}

    def timed(name, work):
        start = time.process_time()
        result = work()
        seconds[name] = round(time.process_time() - start, 2)
        return result

    for attempt in ("compiles", "find_sources, 4 exposures"):
        found = timed(
            attempt,
            lambda: [
                find_sources.STAGE(planes, Context(info, settings=settings.find_sources)).rows
                for info, planes in prepared
            ],
        )
    import pyarrow as pa

    inputs = {"source": pa.concat_tables(found)}
    night.source = inputs["source"]
    for attempt in ("compiles", "gather_objects"):
        context = Context(settings=settings.gather_objects, pixels=night)
        inputs["object"] = timed(attempt, lambda context=context: gather_objects.STAGE(inputs, context).rows)
    context = Context(settings=settings.cut_cutouts, pixels=night)
    for attempt in ("compiles", "cut_cutouts"):
        timed(attempt, lambda: cut_cutouts.STAGE(inputs, context).rows)
    del seconds["compiles"]
    return {"sources": len(inputs["source"]), "objects": len(inputs["object"]), "core_seconds": seconds}


def main():
    asked = command_line(__doc__, quadrant=(False, "also time the stages on a simulated quadrant"))
    result = {"cutouts": cutting()}
    if asked.quadrant:
        with tempfile.TemporaryDirectory() as folder:
            result["quadrant"] = quadrant(Path(folder))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

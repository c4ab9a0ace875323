"""Speed of the classification of 10,000 objects: ``python -m benchmarks.catalogues.spectral_speed [--objects 10000]``.

Times the stage `spectral_class`, both its models and the table it gives, on simulated stars; loading and compiling are
left out, for a worker does them once a night.
"""

from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.support.command_line import command_line
from benchmarks.support.page import machine, table
from flows.pipeline.models import load_model
from flows.simulation.star_colours import star_table
from flows.training.bench.exposure import use_threads
from schemas.objects import BANDS, OBJECT
from schemas.settings import SpectralClassSettings
from schemas.stage import Context
from stages.spectral_class import STAGE
from tests.support.filled import filled


def objects(count):
    """Return objects with magnitudes in ugriz."""
    columns, _ = star_table(count, 1)
    seen = {f"{band}_apMag": values for band, values in columns.items() if band in BANDS}
    errors = {f"{name}Err": 0.02 for name in seen}
    return filled(OBJECT.schema, count, objectId=np.arange(count), **seen, **errors)


def main():
    count = command_line(__doc__, objects=10_000).objects
    context = Context(
        models={
            "superclass": load_model("superclass", "colours"),
            "star_subclass": load_model("star_subclass", "ugriz"),
        },
        settings=SpectralClassSettings(photometric_system="sdss"),
    )
    rows = []
    for threads in (1, 2):
        use_threads(threads)
        given = {"object": objects(count)}
        STAGE({"object": given["object"].slice(0, 10)}, context)
        seconds = []
        for _ in range(5):
            started = perf_counter()
            STAGE(given, context)
            seconds.append(perf_counter() - started)
        rows.append([str(threads), f"{median(seconds):.2f}", f"{count / median(seconds):.0f}"])
    print(f"{count} objects; {machine(2)}\n")
    print(table(["threads", "seconds, median of 5", "objects per second"], rows))


if __name__ == "__main__":
    main()

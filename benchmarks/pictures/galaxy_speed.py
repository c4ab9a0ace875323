"""Time that a night's galaxies take, on one core: ``python -m benchmarks.pictures.galaxy_speed [--galaxies 2000]``.

Galaxies of half-light radii of 8 to 20 px on images in three bands: cutting, the picture, and both verdicts of the
shipped models, as the stages `cut_pictures`, `morphology` and `anomaly` call them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.support.command_line import command_line
from flows.pipeline.weights import read_weights
from kernels.image.science_image import ScienceImage
from kernels.pictures.anomaly_model import AnomalyModel
from kernels.pictures.galaxy_stamps import coloured, stamp
from kernels.pictures.picture_model import build_picture_model
from schemas.galaxy_pictures import PICTURE_SIDE

BANDS = 3
SIDE = 3072
ASKED = 10_000
CORES = 2


def images(rng: np.random.Generator) -> list[ScienceImage]:
    """Return a noisy image of each band with a gradient, so that no stamp is like another."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    light = (30 * np.sin(40 * x) * np.cos(30 * y)).astype(np.float32)
    bad, one = np.zeros((SIDE, SIDE), np.bool_), np.ones((SIDE, SIDE), np.float32)
    return [ScienceImage(light + rng.normal(0, 1, light.shape).astype(np.float32), bad, one) for _ in range(BANDS)]


def measure(count: int, rng: np.random.Generator) -> dict[str, float]:
    """Return the seconds that each step takes for so many galaxies."""
    torch.set_num_threads(1)
    seconds: dict[str, float] = {}

    @contextmanager
    def lap(name: str) -> Iterator[None]:
        start = perf_counter()
        yield
        seconds[name] = perf_counter() - start

    planes, pictures = images(rng), list[NDArray[np.uint8]]()
    places, radii = rng.integers(200, SIDE - 200, (count, 2)).tolist(), rng.uniform(8, 20, count).tolist()
    morphology = build_picture_model(*read_weights("morphology", "default"))
    anomaly = AnomalyModel(*read_weights("anomaly", "default"))
    with lap("cut"):
        stamps = [
            np.stack([found.pixels for one in planes if (found := stamp(one, x, y, radius, PICTURE_SIDE)) is not None])
            for (x, y), radius in zip(places, radii, strict=True)
        ]
    with lap("picture"):
        pictures = [coloured(one) for one in stamps]
    with lap("morphology"):
        morphology(pictures, whole=True)
    with lap("anomaly"):
        anomaly(pictures, whole=True)
    return seconds


def main() -> None:
    """Measure and print."""
    count = command_line(__doc__, galaxies=2000).galaxies
    seconds = measure(count, np.random.default_rng(1))
    for name, one in seconds.items():
        print(f"{name}: {1000 * one / count:.2f} ms a galaxy")
    total = sum(seconds.values())
    print(
        f"{count / total:.0f} galaxies a second on one core; {ASKED} on {CORES}: {ASKED * total / count / CORES:.1f} s"
    )


if __name__ == "__main__":
    main()

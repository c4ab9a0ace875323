"""Warm-up of a worker: a small exposure runs through all compiled code, so that the first real one need not wait.

Compiling takes half a minute once per installation; loading compiled code takes a second once per process. An
installation compiles for the default search, or for the named detectors:

    python -m flows.nights.cluster.warm_up [MODEL ...]
"""

import sys
from collections.abc import Sequence
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from flows.inputs.described import described
from flows.inputs.source import RawExposure
from flows.nights.cluster.local import uses_gpu
from flows.pipeline.graph import OF_EXPOSURE, resolve
from flows.pipeline.stage_run import as_results, run_stages, search_grid
from flows.runtime.parallel import end_with_parent
from flows.runtime.traces import Timer
from kernels.image.order_statistic import median
from kernels.image.variation import evened
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.psf.psf_field import fit_psf_field
from schemas.exposure import ExposureKey, PsfModel, Variation
from schemas.pixels import MaskPlane
from schemas.settings import DetectSettings, Settings
from schemas.stage import Rehearsal, Stage
from stages import PIPELINE, REGISTRY

SIDE = 224
TRAILS = (((60.0, 60.0), 0.0, 0.0), ((60.0, 200.0), 12.0, 0.5), ((200.0, 120.0), 60.0, 2.5))
"""Centre (x, y) and length in pixels, and angle in radians: a point, a short trail, one longer than a window."""


_AHEAD: list[DetectSettings] = []
"""Search settings with which this process, or the one it was forked from, has been warmed up."""


def warm_up_ahead() -> None:
    """Warm up for workers to be forked whose settings are not known yet: with the defaults, on the CPU.

    Only our own stages run: others may start threads, which a fork would lose.
    """
    settings = Settings.model_construct(detect=DetectSettings(device="cpu"))
    warm_up_worker(settings, PIPELINE[: len(REGISTRY)])
    _AHEAD.append(settings.detect)


def compile_apart() -> None:
    """Compile in a separate process if nothing is compiled yet: compiling leaves 0.5 GiB that every fork would inherit.

    One small function shows whether the others are compiled.
    """
    median(np.zeros(1))
    if any(median.dispatcher.stats.cache_misses.values()):
        process = get_context("fork").Process(target=_compile)
        process.start()
        process.join()


def _compile() -> None:
    end_with_parent()
    warm_up_ahead()


def warm(settings: Settings) -> None:
    """Warm up, unless `warm_up_ahead` did so for the same search and stages."""
    same = settings.detect.model_copy(update={"device": "cpu"}) in _AHEAD and len(PIPELINE) == len(REGISTRY)
    if not same or uses_gpu(settings):
        warm_up_worker(settings)


def warm_up_worker(settings: Settings, stages: Sequence[Stage] = PIPELINE) -> dict[str, int]:
    """Run ingest and every stage that has a warm-up on a simulated image of three trails.

    Returns
    -------
    dict
        Dataset -> number of rows made by its stage.
    """
    info, planes = described(_exposure())
    _fit_stars(info.psf)
    # The noise of the image is uniform, so no stage evens it.
    evened(planes["difference"], info.background, Variation(values=(((1.0,),),), y=(0.0, 1.0), x=(0.0, 1.0)))
    grid = search_grid(settings.detect)
    rehearsal = Rehearsal(grid, info.shape, TRAILS)
    (tile,) = grid.tiling(info.shape, SIDE * grid.stride).tiles()
    graph = resolve(stages, planes, OF_EXPOSURE)
    results = as_results(planes)
    for stage in graph.stages:
        if stage.warm_up is not None:
            here = (slice(tile.y0, tile.y1), slice(tile.x0, tile.x1)) if stage.per == "tile" else ...
            inputs = {**results, **as_results({name: plane[here] for name, plane in planes.items()})}
            made = run_stages(
                [stage], inputs, info, tile if stage.per == "tile" else None, settings, Timer(spans=False)
            )
            results[stage.gives.name] = stage.warm_up(made[stage.gives.name], rehearsal)
    return {name: len(result.rows) for name, result in results.items() if name not in planes}


def _fit_stars(psf: PsfModel) -> None:
    """Fit a PSF field to made-up stars, since the image has none."""
    middle = SIDE // 2
    stamp = _trail((middle, middle), 0.0, 0.0)[middle - 12 : middle + 13, middle - 12 : middle + 13]
    places = np.linspace(20.0, SIDE - 20.0, 20)
    stamps = np.repeat(stamp[None].astype(np.float32), len(places), 0)
    fit_psf_field(stamps, places, places[::-1].copy(), moffat_mixture(psf.fwhm_px, psf.beta), (SIDE, SIDE))


def _exposure() -> RawExposure:
    rng = np.random.default_rng(1)
    image = rng.normal(0.0, 1.0, (SIDE, SIDE)) + sum(_trail(*trail) for trail in TRAILS)
    image[:8, :8] = 0.0  # a corner without sky
    mask = np.where(rng.random((SIDE, SIDE)) < 0.01, MaskPlane.BAD, 0).astype(np.uint16)
    return RawExposure(
        key=ExposureKey(night="20260101", visit=1, detector=0),
        instrument="warm-up",
        band="r",
        midpoint_mjd_tai=61000.0,
        exposure_time_s=30.0,
        zero_point=26.0,
        zero_point_err=0.02,
        gain=6.0,
        saturation=None,
        wcs_header=None,
        psf=None,
        pixel_unit="DN",
        planes={"difference": image.astype(np.float32), "mask": mask, "science": image.astype(np.float32)},
        flags=("no_wcs",),
        source_uri="memory://warm-up",
        source_sha256="0" * 64,
    )


def _trail(centre: tuple[float, float], length: float, angle: float) -> NDArray[np.float64]:
    """Return the brightness of a trail with a Gaussian profile of sigma 1 px, bright enough to be fitted."""
    y, x = np.mgrid[:SIDE, :SIDE]
    dx, dy = x - centre[0], y - centre[1]
    along = np.clip(dx * np.cos(angle) + dy * np.sin(angle), -length / 2, length / 2)
    distance = (dx - along * np.cos(angle)) ** 2 + (dy - along * np.sin(angle)) ** 2
    return 20.0 * np.exp(-distance / 2)


def main(models: Sequence[str]) -> None:
    """Warm up with each of the named detectors, or with the default one."""
    for settings in [Settings(detect=DetectSettings(model=name)) for name in models] or [Settings()]:
        warm_up_worker(settings)


if __name__ == "__main__":
    main(sys.argv[1:])

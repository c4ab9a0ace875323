"""Cost of the patches of the sky: a field of quadrants at the density of a real sky, with 1 to 10 visits.

    python -m benchmarks.scale.patches --quadrants 64 --visits 10 --sources 3000 [--scale 2] [--workers 2] [--out DIR]

publishes exposures of quadrants side by side, 51 arcmin wide, of coarse pixels (2 arcsec: what patches cost is mostly a
matter of sources), finds their sources, and makes their patches on a local cluster: of all visits and quadrants, of
fewer visits, and of fewer quadrants. Printed as JSON: seconds, the highest memory of a worker and growth of this
process, rows, and the exponents with which time grows with visits and with area (1: linear).
"""

import json
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from benchmarks.support.command_line import command_line
from flows.nights.cluster.cluster import cluster
from flows.nights.patches import run_nights
from flows.pipeline.night_plan import plan_nights
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.lease import lease
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import write_exposure
from kernels.sky.patches import cover
from kernels.sky.projection import celestial_wcs
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureInfo, ExposureKey, PsfModel
from schemas.ledger import ExposureRecord
from schemas.objects import SOURCE
from schemas.settings import ExecutionSettings, FindSourcesSettings, Settings, TileSettings
from schemas.stage import Context
from stages import PIPELINE
from stages.find_sources import STAGE as FIND_SOURCES

NIGHT, SIDES, STEP = "20260101", (3080, 3072), 51.4 / 60
"""Night, sides (ny, nx) of a quadrant, arcsec, and distance of their centres, deg."""

FWHM, BETA, NOISE, HALF = 2.2, 3.0, 5.0, 8
STAGES = tuple(stage for stage in PIPELINE if stage.per != "night")


def header(ra: float, dec: float, dither: NDArray[np.float64], scale: float) -> str:
    """Return the cards of a WCS, north up; ``scale`` in arcsec per pixel."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra, dec]
    wcs.wcs.crpix = [SIDES[1] / scale / 2 + dither[0], SIDES[0] / scale / 2 + dither[1]]
    wcs.wcs.cd = np.diag([-scale, scale]) / 3600
    return str(wcs.to_header(relax=True).tostring(sep="\n"))


def image(
    shape: tuple[int, int], x: NDArray[np.float64], y: NDArray[np.float64], flux: NDArray[np.float64], seed: int
) -> NDArray[np.float32]:
    """Return Moffat profiles on a noisy sky of 300."""
    alpha = FWHM / (2 * np.sqrt(2 ** (1 / BETA) - 1))
    made = np.random.default_rng(seed).normal(300, NOISE, shape).astype(np.float32)
    step = np.arange(-HALF, HALF + 1)
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    u = column[:, None, None] + step[None, None, :]
    v = row[:, None, None] + step[None, :, None]
    radius = np.square(u - x[:, None, None]) + np.square(v - y[:, None, None])
    light = flux[:, None, None] * (BETA - 1) / (np.pi * alpha**2) * (1 + radius / alpha**2) ** -BETA
    u, v = np.broadcast_arrays(u, v)
    inside = (u >= 0) & (u < shape[1]) & (v >= 0) & (v < shape[0])
    np.add.at(made, (v[inside], u[inside]), light[inside].astype(np.float32))
    return made


def publish(task: tuple[Path, int, int, int, int, float]) -> ExposureRecord:
    """Publish one exposure of a quadrant, and return its record."""
    out, visit, detector, side, count, scale = task
    shape = round(SIDES[0] / scale), round(SIDES[1] / scale)
    rng = np.random.default_rng(detector)
    row, column = divmod(detector, side)
    dec = 10.0 + STEP * (row - side / 2)
    ra = 150.0 + STEP * (column - side / 2) / np.cos(np.radians(dec))
    sky = celestial_wcs(header(ra, dec, np.zeros(2), scale))
    stars = sky.all_pix2world(rng.uniform(0, shape[1], count), rng.uniform(0, shape[0], count), 0)
    flux = NOISE * 25 * rng.pareto(1.2, count).clip(0.5, 400)
    text = header(ra, dec, np.random.default_rng(visit).uniform(-3, 3, 2), scale)
    x, y = celestial_wcs(text).all_world2pix(*stars, 0)
    info = ExposureInfo(
        night=NIGHT, visit=visit, detector=detector, instrument="ZTF", band="gr"[visit % 2], shape=shape, gain=6.0,
        midpoint_mjd_tai=61000.0 + visit / 100, exposure_time_s=30.0, psf=PsfModel(fwhm_px=FWHM, beta=BETA),
        background=0.0, noise=NOISE, zero_point=26.0, wcs_header=text, source_uri=f"memory://{visit}/{detector}",
        source_sha256="0" * 64, planes=("science",),
    )  # fmt: skip
    planes: dict[str, Any] = {"science": image(shape, x, y, flux, visit * 1000 + detector)}
    planes |= {"mask": np.zeros(shape, np.uint16), "difference": np.zeros(shape, np.float32)}
    context = Context(info, settings=FindSourcesSettings())
    found = FIND_SOURCES({name: planes[name] for name in ("science", "mask")}, context).rows
    key = ExposureKey(night=NIGHT, visit=visit, detector=detector)
    write_exposure(tile_path(out, key), info, planes, TileSettings(tile=784, chunk=196), "d")
    store = CatalogStore(out)
    tables = {SOURCE: found, DIA_SOURCE: DIA_SOURCE.empty()}
    datasets = {form.name: store.record(store.publish(form, key, rows, key.name)) for form, rows in tables.items()}
    return ExposureRecord(
        **key.model_dump(), source_uri=info.source_uri, source_sha256=info.source_sha256, digest=key.name,
        datasets=datasets, sky=cover(text, shape), software="0", finished_at="now",
    )  # fmt: skip


def measured(out: Path, records: Iterable[ExposureRecord], processes: int) -> dict[str, float]:
    """Return seconds, memory and rows of the patches of some published exposures, made from nothing."""
    shutil.rmtree(out / "ledger", ignore_errors=True)
    for name in ("object", "object_margin", "cutouts", "dia_link", "star_galaxy", "spectral_class"):
        shutil.rmtree(out / "catalogs" / name, ignore_errors=True)
    ledger, listed = Ledger(out), list(records)
    settings = Settings(execution=ExecutionSettings(workers=processes))
    with lease(out):
        for record in listed:
            ledger.put(record)
        with cluster(settings, out) as workers, workers.client() as client:
            client.run(peak)  # what a worker is before its first patch
            before, start = memory("VmRSS"), perf_counter()
            works = plan_nights([NIGHT], out, settings, STAGES)
            planned = perf_counter() - start
            result = run_nights(works, out, settings, workers)[NIGHT]
            seconds, grown = perf_counter() - start, memory("VmHWM") - before
            peaks = client.run(peak)
    assert result.failed == [], result.failed[:3]
    return {
        "exposures": len(listed), "patches": len(works[0].patches), "objects": result.rows["object"],
        "seconds": round(seconds, 1), "plan_s": round(planned, 2), "worker_mib": max(peaks.values()) >> 20,
        "flow_grows_mib": grown >> 20,
    }  # fmt: skip


def peak() -> int:
    """Return the highest memory of this process so far, bytes."""
    return memory("VmHWM")


def memory(name: str) -> int:
    """Return a figure of this process's memory, as Linux tells it, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def main() -> None:
    """Publish, measure, print."""
    asked = command_line(__doc__, quadrants=64, visits=10, sources=3000, workers=2, scale=2.0, out=Path)
    side = round(asked.quadrants**0.5)
    with tempfile.TemporaryDirectory() as folder:
        out = asked.out or Path(folder) / "out"
        each = [(visit, n) for visit in range(asked.visits) for n in range(asked.quadrants)]
        tasks = [(out, *one, side, asked.sources, asked.scale) for one in each]
        with ProcessPoolExecutor(asked.workers, get_context("spawn")) as pool:
            records = list(pool.map(publish, tasks, chunksize=8))
        runs = {}
        fewer = {(max(1, asked.visits // part), asked.quadrants) for part in (1, 2, 5)}
        for visits, quadrants in sorted(fewer | {(asked.visits, asked.quadrants // part) for part in (2, 4)}):
            chosen = [one for one in records if one.visit < visits and one.detector < quadrants]
            runs[visits, quadrants] = measured(out, chosen, asked.workers)
            print(json.dumps({"visits": visits, "quadrants": quadrants, **runs[visits, quadrants]}), flush=True)
        fewest = min(runs)
        alone = measured(out, [one for one in records if one.visit < fewest[0]], 1)
    told = {
        "times_one_worker": round(alone["seconds"] / runs[fewest]["seconds"], 2),
        "exponent_visits": exponent({v: run["seconds"] for (v, q), run in runs.items() if q == asked.quadrants}),
        "exponent_area": exponent({q: run["seconds"] for (v, q), run in runs.items() if v == asked.visits}),
        "sources_a_quadrant": round(np.mean([one.datasets["source"].rows for one in records])),
        "workers": asked.workers,
    }
    print(json.dumps(told))


def exponent(seconds: dict[int, float]) -> float:
    """Return the power with which seconds grow, by least squares of their logarithms."""
    return round(float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0]), 3)


if __name__ == "__main__":
    main()

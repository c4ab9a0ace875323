"""Memory, time and completeness of a run on one image that is larger than a worker.

``python -m benchmarks.scale.huge_image --side 30000 --memory-gib 2`` writes a difference image of noise, stars and
streaks, some rows at a time, runs `nightstride run` on it, and prints the wall time, the peak resident memory of the
largest process below the command (its workers), and how many streaks were found, lost and found twice. Exit code 1: a
process was larger than ``--memory-gib``, or the run failed. Every second streak lies across a row or column where bands
or tiles meet; a satellite crosses the whole image. ``--mask`` adds a mask file, ``--science`` a science image: the same
stars on a sky, with a WCS. ``--form`` compresses all: ``tiles`` (Rice, in tiles of a row, .fits.fz) or ``gzip``.
``--rows`` makes it lower than wide: what a worker takes depends on the width.
"""

import argparse
import json
import math
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import NamedTuple

import numpy as np
import psutil
import pyarrow.parquet as pq
from astropy.io import fits
from scipy.spatial import KDTree

from flows.storage.catalog_store import read_table
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.trail_model import trail_image
from schemas.dia_source import DIA_SOURCE
from schemas.objects import SOURCE
from schemas.pixels import BAND

NOISE, FWHM, BETA = 8.0, 2.4, 3.0
SCALE = 0.5  # arcsec per px
SKY = 300.0  # of the science image
PIXELS_EACH = 4_000_000  # of the image, for one streak and two stars
STEP = 252  # rows written at once
NEAR = 5.0  # px: maximum distance of a detection from a streak's centre
PSF = moffat_mixture(FWHM, BETA)

SETTINGS = """
[fits]
[fits.time]
value = 60700.25
format = "mjd"
[fits.exposure_time]
value = 30.0
[fits.band]
value = "r"
[fits.zero_point]
value = 26.0
[fits.gain]
value = 6.0
[execution]
worker_memory_gib = {memory}
workers = {workers}
"""


class Light(NamedTuple):
    """Star or streak: centre and length, px; angle, deg; matched-filter S/N."""

    x: float
    y: float
    length: float
    angle: float
    snr: float


class Peaks(NamedTuple):
    """Wall time, s, and peak resident memory of the largest process below the command and of the command, MiB."""

    seconds: float
    below: float
    command: float


def lights(side, seed=3, pixels_each=PIXELS_EACH, height=None):
    """Return streaks, and stars, of an image: apart from each other, the same for the same sides and seed."""
    rng = np.random.default_rng(seed)
    cell = math.isqrt(pixels_each // 3)
    tall = side if height is None else height
    corners = [(y, x) for y in range(0, tall - cell + 1, cell) for x in range(0, side - cell + 1, cell)]
    rng.shuffle(corners)
    streaks, stars = [], []
    for i, (y0, x0) in enumerate(corners):
        margin = min(100, cell // 3)
        y, x = rng.uniform((y0 + margin, x0 + margin), (y0 + cell - margin, x0 + cell - margin))
        if i % 3:
            stars.append(Light(x, y, 0.0, 0.0, float(np.exp(rng.uniform(math.log(15), math.log(150))))))
            continue
        if i % 2:
            x = _on_seam(x, x0 + margin, x0 + cell - margin)
            y = _on_seam(y, y0 + margin, y0 + cell - margin)
        length = float(np.exp(rng.uniform(math.log(3), math.log(60))))
        streaks.append(Light(x, y, length, float(rng.uniform(0, 180)), float(rng.uniform(12, 40))))
    return streaks, stars


def satellite(side, length=None, height=None):
    """Return a trail that crosses the image from one border to the other, or one of another length, px."""
    angle = 41.0 if height is None else math.degrees(math.atan2(0.8 * height, side))
    length = 1.2 * side / math.cos(math.radians(angle)) if length is None else length
    return Light(0.5 * side, 0.47 * (side if height is None else height), length, angle, 6 * math.sqrt(length))


def write_image(path, side, some, seed=4, sky=0.0, height=None):
    """Write noise and light, `STEP` rows at a time; a part of the image is in memory."""
    header = fits.PrimaryHDU(np.zeros((1, 1), np.float32)).header
    header["NAXIS1"], header["NAXIS2"] = side, side if height is None else height
    header["INSTRUME"] = "huge"
    for axis, name, value in ((1, "RA---TAN", 150.0), (2, "DEC--TAN", 20.0)):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"], header[f"CRPIX{axis}"] = name, value, header[f"NAXIS{axis}"] / 2
        header[f"CDELT{axis}"] = (-1) ** axis * SCALE / 3600
    rng = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(header.tostring().encode())
        for y0 in range(0, header["NAXIS2"], STEP):
            rows = rng.standard_normal((min(STEP, header["NAXIS2"] - y0), side), np.float32) * np.float32(
                NOISE
            ) + np.float32(sky)
            for one in some:
                _add(rows, y0, one)
            file.write(rows.astype(">f4").tobytes())
        file.write(b"\0" * (-file.tell() % 2880))


def write_mask(path, side, height=None):
    """Write a mask of one bad column, as `write_image` does."""
    header = fits.PrimaryHDU(np.zeros((1, 1), np.uint8)).header
    header["NAXIS1"], header["NAXIS2"] = side, side if height is None else height
    row = np.zeros(side, np.uint8)
    row[side // 3] = 1
    with path.open("wb") as file:
        file.write(header.tostring().encode())
        for _ in range(header["NAXIS2"]):
            file.write(row.tobytes())
        file.write(b"\0" * (-file.tell() % 2880))


def packed(path, form):
    """Compress a FITS file some rows at a time, and remove it; return the path of what is left."""
    if form == "plain":
        return path
    if form == "gzip":
        subprocess.run(["gzip", "-1", path], check=True)
        return path.with_name(f"{path.name}.gz")
    with fits.open(path, memmap=True) as file:
        kind = {"quantize_level": 16} if file[0].header["BITPIX"] < 0 else {}
        image = fits.CompImageHDU(file[0].data, file[0].header, compression_type="RICE_1", **kind)
        image.writeto(path.with_name(f"{path.name}.fz"))
    path.unlink()
    return path.with_name(f"{path.name}.fz")


def _on_seam(place, low, high):
    """Return the multiple of `BAND` nearest to a place, if it lies between two limits; else the place."""
    seam = BAND * round(place / BAND)
    return float(seam) if low <= seam <= high else place


def _add(rows, y0, one, margin=14.0):
    """Add a light to rows from y0 on, where it reaches them."""
    dx, dy = (0.5 * one.length * trig(math.radians(one.angle)) for trig in (math.cos, math.sin))
    low, high = y0 - margin, y0 + len(rows) + margin
    steps = np.linspace(-1, 1, 2 + int(one.length))
    near = steps[(one.y + steps * dy >= low) & (one.y + steps * dy <= high)]
    if not near.size:
        return
    left = max(0, math.floor(one.x + (near * dx).min() - margin))
    right = min(rows.shape[1], math.ceil(one.x + (near * dx).max() + margin) + 1)
    if left < right:
        shape = trail_image((len(rows), right - left), one.x - left, one.y - y0, one.length, one.angle, PSF)
        rows[:, left:right] += (_flux(one) * shape).astype(np.float32)


@cache
def _flux(one):
    """Return the flux of a light of the S/N that it has, in white noise."""
    side = math.ceil(min(one.length, 60) + 30)
    shape = trail_image((side, side), side / 2, side / 2, min(one.length, 60), one.angle, PSF)
    return one.snr * NOISE / math.sqrt(float(np.square(shape).sum()) / max(one.length / 60, 1))


def run(folder, memory, workers, arguments=()):
    """Run nightstride on the image in a folder; return its `Peaks` and its summary.

    Raises
    ------
    RuntimeError
        The run failed.
    """
    config = folder / "huge.toml"
    config.write_text(SETTINGS.format(memory=memory, workers=workers))
    code = "from flows.cli.app import app; app()"
    images = [str(folder / "exposures.csv")]
    command = [sys.executable, "-c", code, "run", *images, "--out", folder / "out", "--config", config, "--json"]
    start = perf_counter()
    with subprocess.Popen([str(part) for part in (*command, *arguments)], stdout=subprocess.PIPE, text=True) as process:
        below = command_peak = 0.0
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                own = psutil.Process(process.pid)
                command_peak = max(command_peak, _peak_mib(own.pid))
                below = max([below, *(_peak_mib(one.pid) for one in own.children(recursive=True))])
            sleep(0.2)
        output = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"the run ended with exit code {process.returncode}: {output[-2000:]}")
    return Peaks(perf_counter() - start, below, command_peak), json.loads(output.splitlines()[-1])


def _peak_mib(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return max((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM")), default=0.0)


def found(folder, streaks):
    """Return how many streaks were found once, and more than once."""
    (path,) = (folder / "out" / "catalogs" / "dia_source").rglob("*.parquet")
    table = read_table(path, DIA_SOURCE)
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    count = [int((np.hypot(x - one.x, y - one.y) < NEAR).sum()) for one in streaks]
    return sum(one == 1 for one in count), sum(one > 1 for one in count), table


def measure(
    folder, side, memory, workers, mask=False, trail=None, arguments=(), *, science=False, form="plain", height=None
):
    """Write an image, run on it, and return a report: name -> value."""
    streaks, stars = lights(side, height=height)
    start = perf_counter()
    write_image(folder / "huge.fits", side, [*streaks, *stars, satellite(side, trail, height)], height=height)
    if mask:
        write_mask(folder / "mask.fits", side, height)
    if science:
        write_image(folder / "science.fits", side, stars, seed=5, sky=SKY, height=height)
    planes = {"difference": "huge", "mask": "mask", "science": "science"}
    files = {
        plane: packed(path, form).name for plane, name in planes.items() if (path := folder / f"{name}.fits").exists()
    }
    (folder / "exposures.csv").write_text(f"{','.join(files)}\n{','.join(files.values())}\n")
    written = perf_counter() - start
    peaks, summary = run(folder, memory, workers, arguments)
    once, twice, table = found(folder, streaks)
    return {
        "columns, rows": (side, side if height is None else height),
        "files, GB": {name: round((folder / name).stat().st_size / 1e9, 2) for name in files.values()},
        "written, s": round(written),
        "run, s": round(peaks.seconds),
        "seconds of the run": {name: round(value, 1) for name, value in summary["seconds"].items()},
        "peak of a worker, MiB": round(peaks.below),
        "peak of the command, MiB": round(peaks.command),
        "detections": len(table),
        "classed as satellite": sum(name == "satellite" for name in table["trailClass"].to_pylist()),
        "streaks": len(streaks),
        "found": once + twice,
        "found twice": twice,
        **(_sources(folder, stars) if science else {}),
    }


def _sources(folder, stars):
    """Return how many of the stars are sources, once and more often, and how many sources and objects there are."""
    (path,) = (folder / "out" / "catalogs" / "source").rglob("*.parquet")
    table = read_table(path, SOURCE)
    tree = KDTree(np.stack([table["x"].to_numpy(), table["y"].to_numpy()], 1))
    count = [len(near) for near in tree.query_ball_point([(one.x, one.y) for one in stars], 1.5)]
    objects = sum(pq.read_metadata(one).num_rows for one in (folder / "out" / "catalogs" / "object").rglob("Npix*"))
    return {
        "stars": len(stars),
        "stars that are sources": sum(one > 0 for one in count),
        "twice": sum(one > 1 for one in count),
        "sources": len(table),
        "objects": objects,
    }


def main():
    """Measure, print, and say by the exit code whether the limit held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=30_000)
    parser.add_argument("--memory-gib", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=int, help="default: as many as columns")
    parser.add_argument("--mask", action="store_true")
    parser.add_argument("--science", action="store_true")
    parser.add_argument("--form", choices=["plain", "tiles", "gzip"], default="plain")
    parser.add_argument("--trail", type=float, help="length of the satellite's trail, px; default: across the image")
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    with TemporaryDirectory(dir=given.folder) as folder:
        kind = {"science": given.science, "form": given.form, "height": given.rows}
        report = measure(Path(folder), given.side, given.memory_gib, given.workers, given.mask, given.trail, **kind)
    print(json.dumps(report, indent=2))
    return report["peak of a worker, MiB"] > 1024 * given.memory_gib


if __name__ == "__main__":
    sys.exit(main())

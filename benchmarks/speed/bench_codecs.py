"""Compression and codec pipelines of the tiles, side by side: `python -m benchmarks.speed.bench_codecs`.

One 3080 x 3072 image of correlated noise with a few stars, and a mask, in the layout of the tiles (shards 1008 px,
chunks 252 px, a CRC-32C per chunk). For each compression and pipeline: raw over stored size, time to write, to read
everything, and to read a 200 x 200 cutout; best of several rounds in which all take turns, on a warm page cache.
`quantised` rounds the pixels to an eighth of the noise first, which loses information: for comparison only.
"""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import zarr
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter

from benchmarks.support.command_line import command_line
from flows.storage.zarr_tiles import compressors
from schemas.settings import TileSettings

PIPELINES = {"zarr": "zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrs": "zarrs.ZarrsCodecPipeline"}
CODECS = ("none", "lz4", "zstd")
NOISE = 8.0


@dataclass(frozen=True)
class Case:
    """Case of a comparison: what is stored, how, and its cost; times in ms, `ratio` is raw over stored size."""

    data: str
    codec: str
    pipeline: str
    ratio: float = 0.0
    write: float = np.inf
    read: float = np.inf
    cutout: float = np.inf


def image(shape: tuple[int, int], seed: int = 1) -> np.ndarray:
    """Return an image of noise as after resampling (neighbours correlated by about 0.25), and stars."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=shape).astype(np.float32), 0.6)
    noise *= NOISE / noise.std()
    stars = np.zeros(shape, np.float32)
    stars[rng.integers(0, shape[0], 300), rng.integers(0, shape[1], 300)] = rng.pareto(1.0, 300) * 1000
    return noise + gaussian_filter(stars, 1.0)


def mask(shape: tuple[int, int], seed: int = 1) -> np.ndarray:
    """Return a mask of discs around stars and a bad column, about 1 % of the image."""
    rng = np.random.default_rng(seed)
    plane = np.zeros(shape, np.uint16)
    for y, x in zip(rng.integers(0, shape[0], 60), rng.integers(0, shape[1], 60), strict=True):
        plane[max(y - 20, 0) : y + 20, max(x - 20, 0) : x + 20] = 2
    plane[:, shape[1] // 3] = 1
    return plane


def measure(case: Case, plane: np.ndarray, folder: Path, layout: TileSettings) -> Case:
    """Store ``plane`` once and read it back; return the case with its cost."""
    with zarr.config.set({"codec_pipeline.path": PIPELINES[case.pipeline]}):
        start = perf_counter()
        array = zarr.create_array(
            folder / "plane.zarr",
            shape=plane.shape,
            dtype=plane.dtype,
            chunks=(layout.chunk, layout.chunk),
            shards=(layout.tile, layout.tile),
            compressors=compressors(case.codec, plane.dtype),
            fill_value=-1 if plane.dtype.kind == "f" else 65535,
            overwrite=True,
        )
        array[...] = plane
        write = perf_counter() - start
        stored = sum(file.stat().st_size for file in (folder / "plane.zarr").rglob("*") if file.is_file())
        start = perf_counter()
        back = zarr.open_array(folder / "plane.zarr", mode="r")[...]
        read = perf_counter() - start
        y0, x0 = (side // 2 - 60 for side in plane.shape)
        array = zarr.open_array(folder / "plane.zarr", mode="r")
        start = perf_counter()
        part = array[y0 : y0 + 200, x0 : x0 + 200]
        cutout = perf_counter() - start
    assert np.array_equal(back, plane)
    assert np.array_equal(part, plane[y0 : y0 + 200, x0 : x0 + 200])
    best = (min(old, 1000 * new) for old, new in ((case.write, write), (case.read, read), (case.cutout, cutout)))
    return Case(case.data, case.codec, case.pipeline, plane.nbytes / stored, *best)


def compare(shape: tuple[int, int], rounds: int, layout: TileSettings) -> Iterator[Case]:
    """Return the best of ``rounds`` for every case; within a round all take turns."""
    difference = image(shape)
    quantised = np.round(difference * (8 / NOISE)) * np.float32(NOISE / 8)
    planes = {"difference": difference, "quantised": quantised, "mask": mask(shape)}
    cases = [Case(data, codec, pipeline) for data in planes for codec in CODECS for pipeline in PIPELINES]
    with TemporaryDirectory() as folder:
        for _ in range(rounds):
            cases = [measure(case, planes[case.data], Path(folder), layout) for case in cases]
    yield from cases


def main() -> None:
    """Print the table."""
    rounds = command_line(__doc__, rounds=5).rounds
    table = Table(title=f"3080 x 3072 px, best of {rounds}, {platform.machine()}, zarr {zarr.__version__}")
    for name in ("data", "codec", "pipeline", "ratio", "write ms", "read ms", "cutout ms"):
        table.add_column(name, justify="left" if name in ("data", "codec", "pipeline") else "right")
    for case in compare((3080, 3072), rounds, TileSettings()):
        figures = (f"{case.ratio:.2f}", f"{case.write:.0f}", f"{case.read:.0f}", f"{case.cutout:.1f}")
        table.add_row(case.data, case.codec, case.pipeline, *figures)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()

"""Tiles and small files in an object store beside a local folder:
`python -m benchmarks.speed.bench_object_store [URL...]`.

One exposure of 3080 x 3072 px, image and mask, in the layout of the tiles: written, read as a whole, and read as the
search does, tile by tile with its halo; and 64 files of 20 kB, as catalogues and records are, put one after the other
and read together. Best of several rounds in which all take turns. The same tiles are also put and fetched by s3fs, to
see what another client gives. Give `s3://BUCKET/PREFIX` for each store; endpoint and keys come from the environment.
Without one, moto's server is started: an emulator, no measure of a real service.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from uuid import uuid4

import numpy as np
import s3fs
from rich.console import Console
from rich.table import Table

from benchmarks.speed.bench_codecs import image, mask
from benchmarks.support.moto_server import start_moto
from flows.storage.atomic import remove, write_file
from flows.storage.bucket_path import BucketPath, files_below, located, read_files
from flows.storage.object_store import configured
from flows.storage.zarr_tiles import TileStore, write_exposure
from schemas.exposure import ExposureInfo, PsfModel
from schemas.settings import TileSettings

SHAPE = (3080, 3072)
HALO = 112
SMALL = 64

WORK = ("write tiles", "read tiles whole", "read tiles with halos", "put 64 small", "get 64 small")
BY_S3FS = ("s3fs: put tiles", "s3fs: get tiles")


def info(shape: tuple[int, int]) -> ExposureInfo:
    """Return the metadata of the exposure."""
    return ExposureInfo(
        night="20260101", visit=5, detector=3, instrument="test", band="r", midpoint_mjd_tai=61041.25,
        exposure_time_s=30.0, shape=shape, psf=PsfModel(fwhm_px=2.2, beta=3.5, source="stamp"), background=0.0,
        noise=7.5, noise_correlation=((0.0, 0.2, 0.0), (0.2, 1.0, 0.2), (0.0, 0.2, 0.0)),
        source_uri="file:///x.fits", source_sha256="ab" * 32,
    )  # fmt: skip


def rounds(out: Path, planes: Mapping[str, np.ndarray], settings: TileSettings) -> dict[str, float]:
    """Run every step once under ``out``; return seconds by name."""
    shape = planes["difference"].shape
    path, small = out / "tiles" / "20260101" / "5-3.zarr", [out / "ledger" / f"{n}.json" for n in range(SMALL)]
    content = os.urandom(20_000)
    steps: dict[str, Callable[[], object]] = {
        "write tiles": lambda: write_exposure(path, info(shape), planes, settings, "ab" * 32),
        "read tiles whole": lambda: [TileStore.open(path).read_all(name) for name in planes],
        "read tiles with halos": lambda: with_halos(TileStore.open(path), settings.tile),
        "put 64 small": lambda: [write_file(one, content, out / "staging") for one in small],
        "get 64 small": lambda: read_files(small),
    }
    took = {name: timed(step) for name, step in steps.items()}
    if isinstance(out, BucketPath):
        took |= by_s3fs(path)
    np.testing.assert_array_equal(TileStore.open(path).read_all("mask"), planes["mask"])
    remove(path)
    return took


def with_halos(store: TileStore, tile: int) -> None:
    """Read every tile and what lies right of it and below."""
    ny, nx = store.info.shape
    for y in range(0, ny, tile):
        for x in range(0, nx, tile):
            for plane in store.planes:
                store.read(plane, y, x, min(y + tile + HALO, ny), min(x + tile + HALO, nx))


def by_s3fs(path: BucketPath) -> dict[str, float]:
    """Fetch the objects of the tiles by s3fs, and put them again."""
    names = [str(one) for one in files_below(path)]
    fs = s3fs.S3FileSystem(endpoint_url=configured().endpoint or os.environ.get("AWS_ENDPOINT_URL"))
    found: dict[str, bytes] = {}
    get = timed(lambda: found.update(fs.cat(names)))
    return {"s3fs: put tiles": timed(lambda: fs.pipe(found)), "s3fs: get tiles": get}


def timed(step: Callable[[], object]) -> float:
    """Return the seconds that a step takes."""
    start = perf_counter()
    step()
    return perf_counter() - start


def compare(outs: Mapping[str, Path], shape: tuple[int, int], count: int, settings: TileSettings) -> dict[str, dict]:
    """Return the best of ``count`` rounds for each place: name -> step -> seconds."""
    planes = {"difference": image(shape), "mask": mask(shape)}
    best: dict[str, dict[str, float]] = {name: {} for name in outs}
    for _ in range(count):
        for name, out in outs.items():
            for step, seconds in rounds(out, planes, settings).items():
                best[name][step] = min(seconds, best[name].get(step, np.inf))
    return best


@contextmanager
def moto() -> Iterator[str]:
    """Start moto's server on a port of its own and make a bucket; yield a place in it."""
    server, process = start_moto()
    os.environ.update(server.environment)
    try:
        yield f"s3://{server.new_bucket()}/out"
    finally:
        process.kill()
        process.wait()


def show(best: Mapping[str, Mapping[str, float]]) -> None:
    """Print a table, ms."""
    table = Table("step, ms", *best)
    for step in (*WORK, *BY_S3FS):
        table.add_row(step, *(f"{1000 * one[step]:.0f}" if step in one else "" for one in best.values()))
    Console().print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("urls", nargs="*", metavar="URL", help="s3://BUCKET/PREFIX")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        local = {"local": Path(folder)}
        if arguments.urls:
            places = {url: located(f"{url}/bench-{uuid4().hex[:8]}") for url in arguments.urls}
            show(compare(local | places, SHAPE, arguments.rounds, TileSettings()))
        else:
            with moto() as url:
                show(compare(local | {"moto": located(url)}, SHAPE, arguments.rounds, TileSettings()))


if __name__ == "__main__":
    main()

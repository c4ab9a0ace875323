"""Memory that tasks need, by a written model, and that workers use.

How much memory a task needs, by a written model, and whether the workers have it.
The figures are rounded up from peaks measured on Linux with numpy 2.4, torch 2.13 (CPU) and astropy 8.0:
`tests/flows/nights/cluster/test_memory.py` measures them again.
"""

from collections.abc import Mapping

from distributed.worker import Worker

from flows.inputs.ingest import shape_of
from flows.inputs.source import Source
from flows.pipeline.stage_run import search_grid
from flows.runtime.metrics import GPU
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.settings import Settings

BASE = 640 * 2**20
"""A worker with all libraries, models and compiled code, bytes (600 MiB measured)."""

INGEST_PIXEL = 24
"""A pixel being read, checked and stored: file, decompressed image, mask, copies for the statistics (18 measured)."""

INGEST_SIBLING_PIXEL = 8
"""A pixel of each further plane: its file and its image."""

WINDOW = 64 * 2**10
"""A window of a batch: its pixels and the activations of the network (45 kB measured for `basic_cnn`)."""

TILE_PIXEL = 128
"""A pixel of a tile with its halo: image, mask, copies, what a network sees, its share of the logits (7 measured), and
what the threads that compute its blocks leave in the allocator (up to 75 more where cores are shared)."""

EXPOSURE_PIXEL = 30
"""A pixel of a whole exposure while candidates are merged and measured (13 measured), and while sources are found on
its science image (28). Stages of a whole night hold one exposure at a time, and less of it."""

HELD_PIXEL = 12
"""A pixel of a whole exposure while copies of its tiles are searched: image, mask and science image."""

COPY_SIDE = 1700
"""Side of the largest copied tile with its margins, px (`stages/inject.py`: 1,512 px and twice 85)."""

NIGHT_SOURCE = 600
"""A source while all of a night are merged: its row, and what is made of its columns, bytes (450 measured)."""

NIGHT_OBJECT = 1500
"""An object of a night: its row, its fluxes in each band, its verdicts, bytes (1,100 measured). Its cutout lies in a
mapped file."""

NIGHT_DETECTION = 2000
"""A detection while a night's are linked to objects, bytes: its row, and the row again."""

SPARE = 32 * 2**20
"""What the allocator keeps beside all that, bytes."""


def projected_bytes(shape: tuple[int, int], siblings: int, settings: Settings) -> dict[str, int]:
    """Peak memory of a worker for each kind of task.

    Parameters
    ----------
    shape
        (ny, nx) of the image, px.
    siblings
        Number of planes in files of their own.
    settings
        Of the run: side of a tile, windows in a batch.

    Returns
    -------
    dict
        Task -> bytes.
    """
    tiles = search_grid(settings.detect).tiling(shape, settings.tiles.tile).tiles()
    tile_pixels = max(((tile.y1 - tile.y0) * (tile.x1 - tile.x0) for tile in tiles), default=0)
    pixels = shape[0] * shape[1]
    batch = settings.detect.batch * WINDOW
    copied = min(shape[0], COPY_SIDE) * min(shape[1], COPY_SIDE)
    inject = {"inject": BASE + SPARE + pixels * HELD_PIXEL + copied * EXPOSURE_PIXEL + tile_pixels * TILE_PIXEL + batch}
    return {
        "ingest": BASE + SPARE + pixels * (INGEST_PIXEL + siblings * INGEST_SIBLING_PIXEL),
        "search of a tile": BASE + SPARE + tile_pixels * TILE_PIXEL + batch,
        "merge and measure": BASE + SPARE + pixels * EXPOSURE_PIXEL,
        **(inject if settings.inject.share else {}),
    }


def projected_night_bytes(shape: tuple[int, int], sources: int, detections: int) -> int:
    """Peak memory of the process that makes what a night has as a whole, bytes.

    Parameters
    ----------
    shape
        (ny, nx) of an image, px: one is in memory at a time.
    sources, detections
        Of all exposures of the night. How many objects they are is known too late: each source may be one.
    """
    held = sources * (NIGHT_SOURCE + NIGHT_OBJECT) + detections * NIGHT_DETECTION
    return BASE + SPARE + shape[0] * shape[1] * EXPOSURE_PIXEL + held


def require_night_fit(night: str, shape: tuple[int, int], sources: int, detections: int, memory_bytes: int) -> None:
    """Refuse to bring together a night that would not fit the memory of this process.

    Parameters
    ----------
    night
        Which.
    shape, sources, detections
        As of `projected_night_bytes`.
    memory_bytes
        Of this process.

    Raises
    ------
    Misconfigured
        There is too little; both figures and the remedy are in the message.
    """
    projected = projected_night_bytes(shape, sources, detections)
    if projected > memory_bytes:
        raise Misconfigured(
            "memory",
            f"night {night}",
            f"bringing together {sources:,} sources and {detections:,} detections takes up to {_gib(projected)}, "
            f"this process has {_gib(memory_bytes)}.",
            f"run it with {projected / 2**30 + 0.05:.1f} GiB, or parts of the sky each with an --out of its own, "
            "or with a larger find_sources.min_snr.",
        )


def require_fit(source: Source, settings: Settings, worker_bytes: int) -> None:
    """Refuse to start where a task would not fit a worker's memory, as told by the first exposure of the night.

    Raises
    ------
    Misconfigured
        The workers have too little memory; both figures and the remedy are in the message.
    """
    try:
        shape = shape_of(source)
    except (BadInput, Retryable):
        return  # the exposure will be quarantined or tried again, with the reason
    projected = projected_bytes(shape, len(source.siblings), settings)
    task = max(projected, key=lambda name: projected[name])
    if projected[task] > worker_bytes:
        raise Misconfigured(
            "memory",
            _where(settings),
            f"{task} of an image of {shape[0]} x {shape[1]} px takes up to {_gib(projected[task])}, "
            f"a worker has {_gib(worker_bytes)}.",
            _remedy(task, projected, settings),
        )


def host_memory() -> int:
    """Memory that the machine or container of this process has, bytes."""
    from distributed.system import MEMORY_LIMIT  # takes a while

    return int(MEMORY_LIMIT)


def _where(settings: Settings) -> str:
    if settings.cluster.kind == "address":
        return str(settings.cluster.address)
    return "execution.worker_memory_gib" if settings.cluster.kind == "local" else "cluster.slurm.memory_gib"


def _remedy(task: str, projected: Mapping[str, int], settings: Settings) -> str:
    gib = f"{projected[task] / 2**30 + 0.05:.1f}"
    enough = f"set execution.worker_memory_gib to {gib} with fewer workers"
    if settings.cluster.kind == "address":
        enough = f"start the workers of {settings.cluster.address} with a memory limit of {gib} GiB or more"
    elif settings.cluster.kind == "slurm":
        enough = f"set cluster.slurm.memory_gib to {settings.cluster.slurm.cores} times {gib} or more"
    if task in ("search of a tile", "inject"):
        return f"{enough}, or a smaller tiles.tile ({settings.tiles.tile}) or detect.batch ({settings.detect.batch})."
    return f"{enough}."


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def tell_gpu_memory(worker: Worker) -> None:
    """Let a worker tell its scheduler how much GPU memory torch holds, if it has a GPU."""
    import torch

    if torch.cuda.is_available():
        worker.metrics[GPU] = lambda _: torch.cuda.memory_reserved()  # 0 before torch has used it

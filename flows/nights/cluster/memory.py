"""Memory that tasks need, by a written model, and that workers use.

How much memory a task needs, by a written model, and whether the workers have it.
The figures are rounded up from peaks measured on Linux with numpy 2.4, torch 2.13 (CPU) and astropy 8.0:
`tests/flows/nights/cluster/test_memory.py` measures them again.
"""

from collections.abc import Mapping
from math import prod

from distributed.worker import Worker

from flows.inputs.described import shape_of
from flows.inputs.source import Source
from flows.pipeline.graph import OF_EXPOSURE
from flows.pipeline.stage_run import search_grid
from flows.runtime.metrics import GPU
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.settings import Settings
from schemas.stage import EXPOSURE_PIXEL, Stage
from stages import PIPELINE

BASE = 640 * 2**20
"""A worker with all libraries, models and compiled code, bytes (600 MiB measured)."""

INGEST_PIXEL = 24
"""A pixel being read, checked and stored: file, decompressed image, mask, copies for the statistics (18 measured)."""

INGEST_SIBLING_PIXEL = 8
"""A pixel of each further plane: its file and its image."""

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
    """Return the peak memory of a worker for each kind of task.

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
    sides = [(tile.y1 - tile.y0, tile.x1 - tile.x0) for tile in tiles]
    tile = max(sides, key=prod, default=(0, 0))
    searching = max((_of_call(stage, tile, settings) for stage in PIPELINE if stage.per == "tile"), default=0)
    found = {"ingest": shape[0] * shape[1] * (INGEST_PIXEL + siblings * INGEST_SIBLING_PIXEL)}
    for stage in PIPELINE:
        if stage.per in OF_EXPOSURE and (own := _of_call(stage, tile if stage.per == "tile" else shape, settings)):
            found[stage.name] = own + (searching if stage.searches else 0)
    return {task: BASE + SPARE + size for task, size in found.items()}


def _of_call(stage: Stage, shape: tuple[int, int], settings: Settings) -> int:
    return 0 if stage.memory is None else stage.memory(shape, stage.section(settings))


def projected_night_bytes(shape: tuple[int, int], sources: int, detections: int) -> int:
    """Return the peak memory of the process that makes what a night has as a whole, bytes.

    Parameters
    ----------
    shape
        (ny, nx) of an image, px: one is in memory at a time.
    sources, detections
        Of all exposures of the night. The number of objects is known too late: each source may be one.
    """
    held = sources * (NIGHT_SOURCE + NIGHT_OBJECT) + detections * NIGHT_DETECTION
    return BASE + SPARE + shape[0] * shape[1] * EXPOSURE_PIXEL + held


def require_night_fit(night: str, shape: tuple[int, int], sources: int, detections: int, memory_bytes: int) -> None:
    """Refuse to combine a night that would not fit the memory of this process.

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
            f"combining {sources:,} sources and {detections:,} detections takes up to {_gib(projected)}, "
            f"this process has {_gib(memory_bytes)}.",
            f"run it with {projected / 2**30 + 0.05:.1f} GiB, or parts of the sky each with an --out of its own, "
            "or with a larger find_sources.min_snr.",
        )


def require_fit(source: Source, settings: Settings, worker_bytes: int) -> None:
    """Refuse to start where a task would not fit a worker's memory, by the first exposure of the night.

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
    """Return the memory of the machine or container of this process, bytes."""
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
    if task in ("detect", "inject"):
        return f"{enough}, or a smaller tiles.tile ({settings.tiles.tile}) or detect.batch ({settings.detect.batch})."
    return f"{enough}."


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def tell_gpu_memory(worker: Worker) -> None:
    """Report to the scheduler how much GPU memory torch holds in a worker, if it has a GPU."""
    import torch

    if torch.cuda.is_available():
        worker.metrics[GPU] = lambda _: torch.cuda.memory_reserved()  # 0 before torch has used it

"""Memory that tasks need, by a written model, and that workers use.

How much memory a task needs, by a written model, and whether the workers have it.
The figures are rounded up from peaks measured on Linux with numpy 2.4, torch 2.13 (CPU) and astropy 8.0:
`tests/flows/nights/cluster/test_memory.py` measures them again.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

from distributed.worker import Worker, get_worker

from flows.inputs.described import size_of
from flows.inputs.image_rows import BLOCK, BLOCKS
from flows.inputs.source import Source, name_of
from flows.nights.cluster.local import gpu_host_bytes
from flows.pipeline.graph import OF_EXPOSURE
from flows.pipeline.stage_run import search_grid
from flows.runtime.metrics import GPU
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.pixels import BAND, band_rows, is_large
from schemas.settings import Settings
from schemas.stage import Stage, piecewise_memory
from stages import PIPELINE

BASE = 672 * 2**20
"""A worker with all libraries, models and compiled code, bytes (632 MiB measured)."""

INGEST_PIXEL = 24
"""A pixel being read, checked and stored: file, decompressed image, mask, copies for the statistics (18 measured)."""

INGEST_SIBLING_PIXEL = 12
"""A pixel of each further plane: its file and its image (7 measured), and what the allocator may be slow to return."""

READ_PIXEL = 12
"""A pixel while files are read, beside the bytes of the files: image, mask, what is being checked or converted."""

LARGE_PIXEL, LARGE_SIBLING_PIXEL = 28, 12
"""A pixel of a band of a large image that is read, checked and stored; and of the same band of each further plane."""

PATCH_ROW = 2100
"""A source of a patch, bytes: its row, and the object that it may be of, with its fluxes and verdicts (1,600 measured
where each source is an object). Cutouts lie in a mapped file, of which little is in memory at a time."""

HISTORY_ROW = 600
"""A detection, of any night, of an object that was seen in a night, bytes (370 measured for 2,000,000); or what an
object of the science images was in any night (530 measured for 800,000)."""

NIGHT_ROW = 1500
"""A detection of a night that is linked, bytes (1,200 measured for 200,000)."""

ORBITS = 400 * 2**20
"""Orbits of all known asteroids in a worker, bytes, where they are asked for (340 MiB measured, of 1.4 million)."""

SPARE = 32 * 2**20
"""What the allocator keeps beside all that, bytes."""


def projected_bytes(shape: tuple[int, int], siblings: int, settings: Settings, held: int = 0) -> dict[str, int]:
    """Return the peak memory of a worker for each kind of task; that of a large image does not depend on its height.

    Parameters
    ----------
    shape
        (ny, nx) of the image, px.
    siblings
        Number of planes in files of their own.
    settings
        Of the run: side of a tile, windows in a batch.
    held
        Bytes of its files in memory while they are read (`flows.inputs.described.SourceSize`): more than its pixels
        take where a file has images of other detectors, or large tables.

    Returns
    -------
    dict
        Task -> bytes.
    """
    tiles = search_grid(settings.detect).tiling(shape, settings.tiles.tile).tiles()
    sides = [(tile.y1 - tile.y0, tile.x1 - tile.x0) for tile in tiles]
    tile = max(sides, key=prod, default=(0, 0))
    searching = max((_of_call(stage, tile, settings) for stage in PIPELINE if stage.per == "tile"), default=0)
    found = {"ingest": (_large_ingest if is_large(shape) else _ingest)(shape, siblings, held)}
    for stage in PIPELINE:
        if stage.per in OF_EXPOSURE and (own := _of_call(stage, tile if stage.per == "tile" else shape, settings)):
            found[stage.name] = own + (searching if stage.searches else 0)
    known = 0 if settings.predict_known.orbits is None else ORBITS
    return {task: BASE + SPARE + known + size for task, size in found.items()}


def _ingest(shape: tuple[int, int], siblings: int, held: int) -> int:
    others = siblings * INGEST_SIBLING_PIXEL
    return max(prod(shape) * (INGEST_PIXEL + others), held + prod(shape) * (READ_PIXEL + others))


def _large_ingest(shape: tuple[int, int], siblings: int, held: int) -> int:
    band, sample = (
        band_rows(shape[1], BAND) * shape[1] * (LARGE_PIXEL + siblings * LARGE_SIBLING_PIXEL),
        (BLOCK * BLOCKS) ** 2,
    )
    return held + max(band, sample * (INGEST_PIXEL + siblings * INGEST_SIBLING_PIXEL))


def _of_call(stage: Stage, shape: tuple[int, int], settings: Settings) -> int:
    return 0 if stage.memory is None else stage.memory(shape, stage.section(settings))


def projected_patch_bytes(shape: tuple[int, int], rows: int) -> int:
    """Return the peak memory of a worker that makes what is known of a patch of the sky, bytes.

    Parameters
    ----------
    shape
        (ny, nx) of an image, px: one is in memory at a time.
    rows
        Of all exposures in the patch. The number of objects is known too late: each source may be one.
    """
    return BASE + SPARE + piecewise_memory(shape, None) + rows * PATCH_ROW


def require_patch_fit(name: str, shape: tuple[int, int], rows: int) -> None:
    """Refuse a patch that would not fit the memory of this worker, or of this process where it is not one.

    Parameters
    ----------
    name
        Of the patch.
    shape, rows
        As of `projected_patch_bytes`.

    Raises
    ------
    BadInput
        There is too little; both figures and the remedy are in the message (``memory``).
    """
    _require(
        f"patch {name}",
        f"{rows:,} sources",
        projected_patch_bytes(shape, rows),
        "give workers {} GiB, or set a larger find_sources.min_snr or a smaller patches.sources.",
    )


def require_history_fit(name: str, rows: int) -> None:
    """Refuse the association of a patch whose objects have been seen too often for the memory of this process.

    Parameters
    ----------
    name, rows
        Of the patch; detections of its objects on all nights.

    Raises
    ------
    BadInput
        As of `require_patch_fit`.
    """
    _require(
        f"patch {name}",
        f"{rows:,} detections, of all nights, of the objects seen there",
        BASE + SPARE + rows * HISTORY_ROW,
        "run it where there are {} GiB, or set a smaller patches.sources.",
    )


def require_night_fit(night: str, rows: int) -> None:
    """Refuse a night as a whole that would not fit the memory of this worker, or of this process where it is not one.

    Parameters
    ----------
    night, rows
        Its label, and the rows of its exposures that are read.

    Raises
    ------
    BadInput
        As of `require_patch_fit`.
    """
    _require(
        f"night {night}",
        f"{rows:,} detections",
        BASE + SPARE + rows * NIGHT_ROW,
        "give workers {} GiB, or set a larger measure.min_snr.",
    )


def _require(where: str, what: str, projected: int, remedy: str) -> None:
    """Refuse what would take more than there is; ``remedy`` has a place for GiB that are enough."""
    if projected > (memory := _memory_here()):
        problem = f"{what} take up to {_gib(projected)}, there are {_gib(memory)}."
        raise BadInput("memory", where, problem, remedy.format(f"{projected / 2**30 + 0.05:.1f}"))


def _memory_here() -> int:
    return _share() or host_memory()


def _share(of_no_task: int = 0) -> int | None:
    """Return the memory of each thread of this worker, bytes, but for what no task has; None: no limit, or no worker.

    As `flows.nights.cluster.cluster.Cluster` has it before a run starts.
    """
    try:
        worker = get_worker()
    except ValueError:
        return None
    limit = worker.memory_manager.memory_limit
    return (limit - of_no_task) // worker.state.nthreads if limit else None


LOOKED_AT = 16
"""Exposures whose size is looked at before a run starts."""


def require_fit(sources: Sequence[Source], settings: Settings, worker_bytes: int) -> None:
    """Refuse to start where no exposure would fit a worker's memory, by some that are spread over the run.

    One that is too large among others is refused by the task that would read it: `require_fit_here`.

    Raises
    ------
    Misconfigured
        The workers have too little memory; both figures and the remedy are in the message.
    """
    misfits = []
    for source in sources[:: -(-len(sources) // LOOKED_AT)]:
        if (misfit := _misfit(source, settings, worker_bytes)) is None:
            return
        misfits.append(misfit)
    if misfits:
        raise Misconfigured("memory", _where(settings), misfits[0].problem, misfits[0].remedy)


def require_fit_here(source: Source, settings: Settings) -> None:
    """Refuse to read an exposure that would not fit the memory of this worker; elsewhere nothing is refused.

    Raises
    ------
    BadInput
        Both figures and the remedy are in the message (``memory``).
    """
    limit = _share(gpu_host_bytes(settings) if settings.cluster.kind == "local" else 0)
    if limit is not None and (misfit := _misfit(source, settings, limit)) is not None:
        raise BadInput("memory", name_of(source), misfit.problem, misfit.remedy)


class _Misfit(NamedTuple):
    problem: str
    remedy: str


def _misfit(source: Source, settings: Settings, worker_bytes: int) -> _Misfit | None:
    """Return why a source does not fit the memory of a worker; None if it does."""
    try:
        shape, held = size_of(source)
    except (BadInput, Retryable):
        return None  # the exposure will be quarantined or tried again, with the reason
    projected = projected_bytes(shape, len(source.siblings), settings, held)
    task = max(projected, key=lambda name: projected[name])
    if projected[task] <= worker_bytes:
        return None
    return _Misfit(
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


def more_memory(settings: Settings) -> str:
    """Return the remedy where workers have died, as it begins: more memory for them, and where that is set.

    A quarantine for that lasts as long as the setting: see `flows.pipeline.lineage.verdict_digest`.
    """
    if settings.cluster.kind == "address":
        return f"start the workers of {_where(settings)} with more memory, and name it in execution.worker_memory_gib"
    return f"give workers more memory ({_where(settings)})"


def _remedy(task: str, projected: Mapping[str, int], settings: Settings) -> str:
    gib = f"{projected[task] / 2**30 + 0.05:.1f}"
    enough = f"set execution.worker_memory_gib to {gib} with fewer workers"
    if settings.cluster.kind == "address":
        enough = f"start the workers of {settings.cluster.address} with a memory limit of {gib} GiB or more"
    elif settings.cluster.kind == "slurm":
        enough = f"set cluster.slurm.memory_gib to {settings.cluster.slurm.cores} times {gib} or more"
    if task in ("detect", "inject", "negate"):
        return f"{enough}, or a smaller tiles.tile ({settings.tiles.tile}) or detect.batch ({settings.detect.batch})."
    return f"{enough}."


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def tell_gpu_memory(worker: Worker) -> None:
    """Report to the scheduler how much GPU memory torch holds in a worker, if it has a GPU."""
    import torch

    if torch.cuda.is_available():
        worker.metrics[GPU] = lambda _: torch.cuda.memory_reserved()  # 0 before torch has used it

"""Memory that tasks need, by a simple model, and whether workers have it.

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
"""Worker with all libraries, models and compiled code, bytes (632 MiB measured)."""

INGEST_PIXEL = 24
"""Per pixel read, checked and stored, bytes: file, image, mask, copies for the statistics (18 measured)."""

INGEST_SIBLING_PIXEL = 12
"""Per pixel of each further plane, bytes: its file and image (7 measured), and memory the allocator returns late."""

READ_PIXEL = 12
"""Per pixel while files are read, bytes, besides the files: image, mask, and what is being checked or converted."""

LARGE_PIXEL, LARGE_SIBLING_PIXEL = 28, 12
"""Per pixel of a band of a large image that is read, checked and stored; and of that band of each further plane."""

PATCH_ROW = 2100
"""Per source of a patch, bytes: its row, and its object with fluxes and verdicts (1,600 measured with one object per
source). Cutouts are in a mapped file, of which little is in memory at a time."""

HISTORY_ROW = 600
"""Per detection, on any night, of an object seen in the night, bytes (370 measured for 2,000,000); or per night of an
object of the science images (530 measured for 800,000)."""

NIGHT_ROW = 1500
"""Per detection of a night that is linked, bytes (1,200 measured for 200,000)."""

ORBITS = 400 * 2**20
"""Orbits of all known asteroids in a worker, bytes, if they are used (340 MiB measured for 1.4 million)."""

SPARE = 32 * 2**20
"""Further memory kept by the allocator, bytes."""


def projected_bytes(shape: tuple[int, int], siblings: int, settings: Settings, held: int = 0) -> dict[str, int]:
    """Return the peak memory of a worker for each kind of task; for a large image it does not depend on the height.

    Parameters
    ----------
    shape
        (ny, nx) of the image, px.
    siblings
        Number of planes in files of their own.
    settings
        Settings of the run: tile side, windows per batch.
    held
        Bytes of its files in memory while they are read (`flows.inputs.described.SourceSize`): more than the pixels
        need if a file has images of other detectors, or large tables.

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
    """Return the peak memory of a worker that makes the datasets of a patch of the sky, bytes.

    Parameters
    ----------
    shape
        (ny, nx) of an image, px: one image is in memory at a time.
    rows
        Sources of all exposures in the patch. The number of objects is not known in advance: each source may be one.
    """
    return BASE + SPARE + piecewise_memory(shape, None) + rows * PATCH_ROW


def require_patch_fit(name: str, shape: tuple[int, int], rows: int) -> None:
    """Refuse a patch that does not fit the memory of this worker, or of this process if it is not a worker.

    Parameters
    ----------
    name
        Name of the patch.
    shape, rows
        As in `projected_patch_bytes`.

    Raises
    ------
    BadInput
        There is too little memory; the message has both figures and the remedy (``memory``).
    """
    _require(
        f"patch {name}",
        f"{rows:,} sources",
        projected_patch_bytes(shape, rows),
        "give workers {} GiB, or set a larger find_sources.min_snr or a smaller patches.sources.",
    )


def require_history_fit(name: str, rows: int) -> None:
    """Refuse the association of a patch whose objects have too many detections for the memory of this process.

    Parameters
    ----------
    name, rows
        Name of the patch; number of detections of its objects on all nights.

    Raises
    ------
    BadInput
        As in `require_patch_fit`.
    """
    _require(
        f"patch {name}",
        f"{rows:,} detections, of all nights, of the objects seen there",
        BASE + SPARE + rows * HISTORY_ROW,
        "run it where there are {} GiB, or set a smaller patches.sources.",
    )


def require_night_fit(night: str, rows: int) -> None:
    """Refuse a whole night that does not fit the memory of this worker, or of this process if it is not a worker.

    Parameters
    ----------
    night, rows
        Its label, and the number of rows read from its exposures.

    Raises
    ------
    BadInput
        As in `require_patch_fit`.
    """
    _require(
        f"night {night}",
        f"{rows:,} detections",
        BASE + SPARE + rows * NIGHT_ROW,
        "give workers {} GiB, or set a larger measure.min_snr.",
    )


def _require(where: str, what: str, projected: int, remedy: str) -> None:
    """Refuse what needs more memory than there is; ``remedy`` has a placeholder for the GiB that are enough."""
    if projected > (memory := _memory_here()):
        problem = f"{what} take up to {_gib(projected)}, there are {_gib(memory)}."
        raise BadInput("memory", where, problem, remedy.format(f"{projected / 2**30 + 0.05:.1f}"))


def _memory_here() -> int:
    return _share() or host_memory()


def _share(of_no_task: int = 0) -> int | None:
    """Return the memory per thread of this worker, bytes, less ``of_no_task``; None: no limit, or not a worker.

    Before a run starts, the same number is `flows.nights.cluster.cluster.Cluster.memory_bytes`.
    """
    try:
        worker = get_worker()
    except ValueError:
        return None
    limit = worker.memory_manager.memory_limit
    return (limit - of_no_task) // worker.state.nthreads if limit else None


LOOKED_AT = 16
"""Exposures whose size is checked before a run starts."""


def require_fit(sources: Sequence[Source], settings: Settings, worker_bytes: int) -> None:
    """Refuse to start if no exposure would fit a worker's memory, judged from a sample spread over the run.

    A single exposure that is too large is refused by the task that would read it: `require_fit_here`.

    Raises
    ------
    Misconfigured
        The workers have too little memory; the message has both figures and the remedy.
    """
    misfits = []
    for source in sources[:: -(-len(sources) // LOOKED_AT)]:
        if (misfit := _misfit(source, settings, worker_bytes)) is None:
            return
        misfits.append(misfit)
    if misfits:
        raise Misconfigured("memory", _where(settings), misfits[0].problem, misfits[0].remedy)


def require_fit_here(source: Source, settings: Settings) -> None:
    """Refuse to read an exposure that does not fit the memory of this worker; outside workers nothing is refused.

    Raises
    ------
    BadInput
        The message has both figures and the remedy (``memory``).
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
        return None  # the exposure will be quarantined or tried again, with this error
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
    from distributed.system import MEMORY_LIMIT  # slow to import

    return int(MEMORY_LIMIT)


def _where(settings: Settings) -> str:
    if settings.cluster.kind == "address":
        return str(settings.cluster.address)
    return "execution.worker_memory_gib" if settings.cluster.kind == "local" else "cluster.slurm.memory_gib"


def more_memory(settings: Settings) -> str:
    """Return the first part of the remedy for workers that died: more memory, and the setting for it.

    Such a quarantine lasts until the setting changes: see `flows.pipeline.lineage.verdict_digest`.
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

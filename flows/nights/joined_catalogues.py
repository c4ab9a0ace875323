"""Catalogues of a night, merged after a run and split before one."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from flows.nights.progress import Progress
from flows.pipeline.outcome import Item
from flows.runtime.parallel import end_with_parent
from flows.runtime.words import counted
from flows.storage.layout import staging_folder
from schemas.settings import Settings
from schemas.summary import RunSummary


def compacted(
    summary: RunSummary, out: Path, settings: Settings, progress: Progress, nights: Sequence[str] | None = None
) -> RunSummary:
    """Merge the catalogues of nights with many files, of the run or other nights; a failure is only a warning."""
    if settings.catalogs.compact_from is None or summary.stopped:
        return summary
    from flows.storage.compaction import compact

    least, chosen = settings.catalogs.compact_from, summary.nights if nights is None else nights
    try:
        fewer = sum(compact(out, night, least, _in_a_process) for night in chosen)
    except Exception as error:
        warning = f"catalogues were not joined: {type(error).__name__}: {error}"
        return summary.model_copy(update={"warnings": (*summary.warnings, warning)})
    if fewer:
        progress.say(f"Joined catalogues: {counted(fewer, 'file')} fewer.")
    return summary


def take_apart(items: Sequence[Item], out: Path) -> None:
    """Write separate catalogues for exposures that are made again, if those of their night have been merged.

    Raise as `flows.storage.compaction.extract` does.
    """
    from flows.storage.compaction import extract

    names = defaultdict[Path, set[str]](set)
    for record in (one for item in items for one in (item.record, *item.superseded) if one is not None):
        for entry in record.datasets.values():
            names[(out / entry.path).parent].add(record.name)
    for folder, of_exposures in names.items():
        extract(folder, of_exposures, staging_folder(out))


def _in_a_process(function: Callable[..., object], *arguments: object) -> None:
    """Call a function in a new process, so that its memory is freed afterwards."""
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as pool:
        pool.submit(function, *arguments).result()

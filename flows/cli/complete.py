"""Completion of arguments on the command line: cheap, and silent where there is nothing to complete from."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

MOST = 50
"""Most ids that are offered."""

PRESETS = ("llnl", "ztf", "rubin", "decam", "star-galaxy", "cluster")
"""Of `simulate`."""

PICTURE_KINDS = ("morphology", "scene", "cluster", "anomaly")
"""Of `classify`."""

DETECTORS = ("streak_net", "basic_cnn", "region_proposal", "matched_filter")
"""That are shipped."""

LOG_FORMATS = ("text", "json")
"""Of `--log-format`."""

ARRAYS = ("cutouts", "galaxy_picture")
"""Published datasets that are no tables."""


def _one_of(names: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Return a function that returns those of some names that begin like what is typed."""

    def begun(incomplete: str) -> list[str]:
        return [one for one in names if one.startswith(incomplete)]

    return begun


presets, picture_kinds = _one_of(PRESETS), _one_of(PICTURE_KINDS)
detectors, log_formats = _one_of(DETECTORS), _one_of(LOG_FORMATS)


def _out(ctx: Any) -> Path | None:
    """Return the output folder that stands on the line, if it is a folder on this machine."""
    # While the value of an option is typed, arguments before it are not yet given their names.
    given = ctx.params.get("out") or next(iter(ctx.args), None)
    return Path(given) if given and "://" not in str(given) and Path(given).is_dir() else None


def _published(ctx: Any, name: str) -> Iterator[Path]:
    """Yield a folder for each dataset and night that OUT holds; the name of the dataset may be a pattern."""
    from flows.storage.layout import dataset_folder

    if (out := _out(ctx)) is not None:
        with suppress(OSError, ValueError):
            yield from out.glob(str(dataset_folder(Path(), name, "*")))


def nights(ctx: Any, incomplete: str) -> list[str]:
    """Return the nights of OUT that begin like this, the latest first."""
    found = {path.name.partition("=")[2] for path in _published(ctx, "*")}
    return sorted((one for one in found if one.startswith(incomplete)), reverse=True)


def night_ranges(ctx: Any, incomplete: str) -> list[str]:
    """Return nights of OUT, or ranges of them, that begin like this, the latest first."""
    first, dots, last = incomplete.rpartition("..")
    return [f"{first}{dots}{one}" for one in nights(ctx, last)]


def datasets(ctx: Any, incomplete: str) -> list[str]:
    """Return the names of the tables that are published in OUT and begin like this."""
    found = {path.parent.name for path in _published(ctx, "*")}
    no_tables = {f"{one}_margin" for one in found} | set(ARRAYS)
    return sorted(one for one in found - no_tables if one.startswith(incomplete))


def ids(ctx: Any, incomplete: str) -> list[str]:
    """Return ids of detections in OUT that begin like this, some at most."""
    if (out := _out(ctx)) is None or not nights(ctx, "") or not (incomplete.isdecimal() or not incomplete):
        return []
    import pyarrow.compute as pc

    from flows.results.catalogue_rows import CatalogueRows
    from schemas.dia_source import DIA_SOURCE
    from schemas.errors import NightstrideError

    column, where = pc.field("diaSourceId"), None
    if incomplete:
        first, digits = int(incomplete), len(str(2**63)) - len(incomplete)
        ends = [(first * 10**k, min((first + 1) * 10**k, 2**63 - 1)) for k in range(digits + 1)]
        where = pc.scalar(False)
        for low, high in ends:
            if low < 2**63:
                where = where | ((column >= low) & (column < high))
    with suppress(NightstrideError, OSError):
        rows = CatalogueRows(out, DIA_SOURCE, None).read(["diaSourceId"], where, MOST)
        return [str(one) for one in rows["diaSourceId"].to_pylist()]
    return []

"""Completion of arguments: fast, and silent if there is nothing to offer."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

MOST = 50
"""Maximum number of ids offered."""

PRESETS = ("llnl", "ztf", "rubin", "decam", "star-galaxy", "cluster")
"""Presets of `simulate`."""

PICTURE_KINDS = ("morphology", "scene", "cluster", "anomaly")
"""Kinds of pictures of `classify`."""

DETECTORS = ("streak_net", "basic_cnn", "region_proposal", "matched_filter")
"""Detectors that are shipped."""

LOG_FORMATS = ("text", "json")
"""Values of `--log-format`."""

ARRAYS = ("cutouts", "galaxy_picture")
"""Published datasets that are not tables."""


def _one_of(names: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Return a function that returns those of the names that start with the given text."""

    def begun(incomplete: str) -> list[str]:
        return [one for one in names if one.startswith(incomplete)]

    return begun


presets, picture_kinds = _one_of(PRESETS), _one_of(PICTURE_KINDS)
detectors, log_formats = _one_of(DETECTORS), _one_of(LOG_FORMATS)


def _out(ctx: Any) -> Path | None:
    """Return the output folder given on the command line, if it is a local folder."""
    # While the value of an option is completed, earlier arguments have no names yet.
    given = ctx.params.get("out") or next(iter(ctx.args), None)
    return Path(given) if given and "://" not in str(given) and Path(given).is_dir() else None


def _published(ctx: Any, name: str) -> Iterator[Path]:
    """Yield the folder of each dataset and night in OUT; the name of the dataset may be a pattern."""
    from flows.storage.layout import dataset_folder

    if (out := _out(ctx)) is not None:
        with suppress(OSError, ValueError):
            yield from out.glob(str(dataset_folder(Path(), name, "*")))


def nights(ctx: Any, incomplete: str) -> list[str]:
    """Return the nights in OUT that start like this, the latest first."""
    found = {path.name.partition("=")[2] for path in _published(ctx, "*")}
    return sorted((one for one in found if one.startswith(incomplete)), reverse=True)


def night_ranges(ctx: Any, incomplete: str) -> list[str]:
    """Return nights in OUT, or ranges of them, that start like this, the latest first."""
    first, dots, last = incomplete.rpartition("..")
    return [f"{first}{dots}{one}" for one in nights(ctx, last)]


def datasets(ctx: Any, incomplete: str) -> list[str]:
    """Return the names of tables published in OUT that start like this."""
    found = {path.parent.name for path in _published(ctx, "*")}
    no_tables = {f"{one}_margin" for one in found} | set(ARRAYS)
    return sorted(one for one in found - no_tables if one.startswith(incomplete))


def ids(ctx: Any, incomplete: str) -> list[str]:
    """Return ids of detections in OUT that start like this, up to a limit."""
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

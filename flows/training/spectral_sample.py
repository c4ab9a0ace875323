"""Rows to learn spectral classes from."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.inputs.archive_table import read_archive
from flows.simulation.star_colours import star_table
from kernels.objects.class_model import colour_features
from schemas.archive_columns import BANDS, columns_of
from schemas.classes import (
    GALAXY_CLASSES,
    STELLAR_CLASSES,
    SUPERCLASSES,
    galaxy_class,
    map_labels,
    stellar_class,
    superclass,
)
from schemas.errors import BadInput

TASKS = {
    "superclass": ("class", superclass, SUPERCLASSES),
    "star": ("subClass", stellar_class, STELLAR_CLASSES),
    "galaxy": ("gz2class", galaxy_class, GALAXY_CLASSES),
}
"""Name -> column of the labels, function from label to class, classes."""

FIELD_STARS = ("F", "G", "K", "M")
"""Classes of nearly all stars on an image of the sky."""


@dataclass(frozen=True)
class Sample:
    """Labelled rows.

    Attributes
    ----------
    columns
        Name -> (n,) float32.
    code : (n,) int16
        Index into ``classes``.
    classes
        Names; each has at least one row.
    group : (n,) int64
        Rows with the same number stay together in splits: a spectroscopic plate, or else a number of its own.
    notes
        What was read, left out and counted.
    """

    columns: Mapping[str, NDArray[np.float32]]
    code: NDArray[np.int16]
    classes: tuple[str, ...]
    group: NDArray[np.int64]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def take(self, rows: NDArray[Any]) -> "Sample":
        """Return the rows given by a mask or indices."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return replace(self, columns=columns, code=self.code[rows], group=self.group[rows])

    def matrix(self, features: tuple[str, ...]) -> NDArray[np.float32]:
        """Return the features, (n, features) float32."""
        return colour_features(self.columns, features)


def archive_sample(path: Path, task: str, features: tuple[str, ...]) -> Sample:
    """Read labelled rows from a table of the archive.

    Parameters
    ----------
    path
        See `flows.inputs.archive_table`.
    task
        Name in `TASKS`. Rows with a label without class are counted and left out.
    features
        Features, whose columns the table must have; rows without any usable band are left out.

    Raises
    ------
    BadInput
        The table cannot be used (`read_archive`), or no row has a class.
    """
    label, rule, classes = TASKS[task]
    optional = [
        name for name in (*BANDS, "redshift", "petroRad_r", "plate", "objid") if name not in columns_of(features)
    ]
    table = read_archive(path, (*columns_of(features), label), optional)
    mapped = map_labels(table.words[label], rule, classes)
    columns = {name: values for name, values in table.numbers.items() if name != "plate"}
    seen = np.any([np.isfinite(columns[band]) for band in BANDS if band in columns], axis=0)
    plate = table.numbers.get("plate")
    alone = plate is None or not np.isfinite(plate).all()
    group = np.arange(table.rows) if alone or plate is None else plate.astype(np.int64)
    notes = {
        "table": path.name,
        "rows": table.rows,
        "duplicates": table.duplicates,
        "ids_rounded": table.ids_rounded,
        "values_missing": {name: count for name, count in table.cleaned.items() if count},
        "labels_without_class": dict(list(mapped.unknown.items())[:20]),
        "rows_without_class": int((mapped.code < 0).sum()),
        "rows_without_band": int((~seen).sum()),
        "split_by": "row" if alone else "plate",
    }
    if not ((mapped.code >= 0) & seen).any():
        labels = f"labels are {list(mapped.unknown)[:5]}" if (mapped.code < 0).all() else "none of those has magnitudes"
        problem = f"no row has a {label} of {list(classes)} and a magnitude: {labels}."
        raise BadInput("no_labels", path.name, problem, f"give the column `{label}` and magnitudes of the archive.")
    whole = Sample(columns, mapped.code, classes, group, notes)
    return large_classes(whole.take((mapped.code >= 0) & seen), 1, path.name)


def large_classes(sample: Sample, least: int, where: str) -> Sample:
    """Leave out classes with fewer than ``least`` rows, and report them in the notes.

    Raises
    ------
    BadInput
        Fewer than two classes are left (``one_class``).
    """
    count = np.bincount(sample.code, minlength=len(sample.classes))
    kept = [k for k, rows in enumerate(count) if rows >= least]
    sizes = {name: int(rows) for name, rows in zip(sample.classes, count, strict=True) if rows}
    if len(kept) < 2:
        raise BadInput(
            "one_class",
            where,
            f"two classes with {least} rows or more are required, got {sizes}.",
            "give a table with more classes, or ask for fewer rows per class.",
        )
    place = np.full(len(sample.classes), -1, np.int16)
    place[kept] = np.arange(len(kept))
    found = sample.take(place[sample.code] >= 0)
    small = {sample.classes[k]: int(count[k]) for k in range(len(count)) if 0 < count[k] < least}
    notes = {**sample.notes, "classes_left_out": small}
    return replace(found, code=place[found.code], classes=tuple(sample.classes[k] for k in kept), notes=notes)


def filtered(sample: Sample, brighter: float | None = None, larger: float | None = None) -> Sample:
    """Keep rows brighter than ``brighter`` in r (mag), with a Petrosian radius above ``larger`` (arcsec).

    Raises
    ------
    BadInput
        The sample lacks the column, or no row passes.
    """
    passed = np.ones(len(sample.code), np.bool_)
    for name, bound, sign in (("r", brighter, 1), ("petroRad_r", larger, -1)):
        if bound is None:
            continue
        if name not in sample.columns:
            remedy = "ask the archive for it, or do without the filter."
            raise BadInput("missing_columns", f"columns {[name]}", "a filter needs it.", remedy)
        passed &= sign * sample.columns[name] < sign * bound  # NaN does not pass
    if not passed.any():
        raise BadInput("empty_table", "filters", "no row passes them.", "widen brightness or size.")
    return sample.take(passed)


def with_stars(sample: Sample, count: int, seed: int) -> Sample:
    """Add simulated stars, each a group of its own, to rows with superclasses.

    Spectroscopic surveys observed few of the red stars, which are the majority on an image.

    Raises
    ------
    BadInput
        The rows have no class ``star``.
    """
    if "star" not in sample.classes:
        problem = f"stars can be added to rows with a class 'star', got {list(sample.classes)}."
        raise BadInput("no_class", "--stars", problem, "leave --stars out, or use --task superclass.")
    drawn, _ = star_table(count, seed, FIELD_STARS)
    absent = np.full(count, np.nan, np.float32)
    columns = {name: np.concatenate([values, drawn.get(name, absent)]) for name, values in sample.columns.items()}
    code = np.concatenate([sample.code, np.full(count, sample.classes.index("star"), np.int16)])
    group = np.concatenate([sample.group, sample.group.max() + 1 + np.arange(count)])
    return replace(sample, columns=columns, code=code, group=group, notes={**sample.notes, "simulated_stars": count})


FOLDS = 5


def require_plates(sample: Sample, least: int) -> None:
    """Raise unless rows are from enough plates to be divided.

    Raises
    ------
    BadInput
        There are fewer plates (``few_plates``).
    """
    if (found := len(np.unique(sample.group))) < least:
        raise BadInput(
            "few_plates",
            "the rows to learn from",
            f"are of {found} spectroscopic plates, whose rows stay together: {least} are needed.",
            "give rows of more plates, or leave the column plate out: each row is then by itself.",
        )


def folded_rows(sample: Sample, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Divide rows into five folds without dividing groups; yield the rows outside and inside each fold.

    Raises
    ------
    BadInput
        There are fewer groups than folds (``few_plates``).
    """
    from sklearn.model_selection import StratifiedGroupKFold

    require_plates(sample, FOLDS)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        yield from folds.split(sample.code, sample.code, sample.group)


def held_out_rows(sample: Sample, share: float, seed: int) -> NDArray[np.bool_]:
    """Mark groups to hold out of training, about ``share`` of the rows, (n,) bool."""
    groups, place, size = np.unique(sample.group, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(groups))
    taken = np.zeros(len(groups), np.bool_)
    taken[order[np.cumsum(size[order]) <= share * len(place)]] = True
    taken[size.argmin()] |= not taken.any()  # the first group drawn is larger than the share
    return np.asarray(taken[place], np.bool_)

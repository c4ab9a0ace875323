"""Classification of pictures, with or without labels: a row for each, and overviews of large pictures by tiles."""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.inputs.picture_files import PictureFile, list_pictures, read_picture
from flows.pipeline.weights import building, read_weights
from flows.results.evaluation.picture_scores import LONGEST
from flows.runtime.parallel import map_in_processes
from flows.storage.atomic import write_file
from flows.storage.folder import require_apart, require_no_folder, writable_folder
from schemas.errors import BadInput, Misconfigured
from schemas.picture_classes import PICTURE_TASKS

TASKS = (*PICTURE_TASKS, "anomaly")

LONGEST_SCENE, LARGE, TILE = 2048, 1024, 256
"""Longer side of a scene after scaling, px; size above which it is judged in tiles; side of a tile."""

AT_ONCE = {"scene": 4}
"""Number of pictures in memory at once; 64 for all other kinds."""


def classify_pictures(
    task: str,
    data: Sequence[Path],
    out: Path,
    model: str = "default",
    overviews: Path | None = None,
    workers: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Write a CSV with a row for each readable picture that is not blank.

    Parameters
    ----------
    task
        ``morphology``, ``scene`` or ``anomaly``.
    data
        Folders, or CSV files of ``location, label``; labels may be empty, and are copied.
    out
        The CSV, with ``location`` (as given if absolute, else relative to the folder of the CSV), ``label``,
        ``verdict``, and the probability of each class or the ``score``; for scenes also ``tiles``, the number of
        tiles of a large picture with each verdict.
    model
        Shipped name, or folder.
    overviews
        Folder for a picture of each large scene with the verdicts of its tiles.
    workers
        Number of processes for reading and classification.
    say
        Receives messages on files that are left out, and on progress.

    Returns
    -------
    dict
        ``n``, ``verdicts`` (verdict -> pictures), ``unreadable`` (file -> why).

    Raises
    ------
    BadInput
        There are no pictures, or none can be read.
    Misconfigured
        There is no such task or model, or the CSV cannot be written, or is one of ``data``.
    """
    if task not in TASKS:
        raise Misconfigured("unknown_task", task, "is not a kind of verdict.", f"give one of {', '.join(TASKS)}.")
    read_weights(task, model)  # so that a wrong name is reported before any work starts
    files = list_pictures(*data, say=say)
    _require_targets(data, out, overviews)
    step = AT_ONCE.get(task, 64)
    parts = [files[start : start + step] for start in range(0, len(files), step)]
    rows, unreadable = list[dict[str, Any]](), dict[str, str]()
    judged = partial(_judged, task, model, overviews)
    for found, bad in map_in_processes(judged, parts, workers if len(parts) > 1 else 1):
        rows += found
        unreadable |= bad
        say(f"{len(rows) + len(unreadable)} of {len(files)} pictures")
    if not rows:
        first = next(iter(unreadable.values())).partition(" To fix, ")[0]
        problem = f"none of {len(files)} pictures can be read; of the first: {first}"
        raise BadInput("unreadable", ", ".join(map(str, data)), problem, "give JPEG, PNG or FITS that show something.")
    for row in rows:
        row["location"] = _from(out.parent, row["location"])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_file(out, text.getvalue().encode("utf-8", "surrogateescape"), out.parent)
    return {"n": len(rows), "verdicts": dict(Counter(str(one["verdict"]) for one in rows)), "unreadable": unreadable}


def _require_targets(data: Sequence[Path], out: Path, overviews: Path | None) -> None:
    """Refuse a CSV or a folder that cannot be written, before any work starts."""
    require_no_folder(out)
    for source in filter(Path.is_file, data):
        require_apart(source, out)
    writable_folder(out.parent)
    if overviews is not None:
        writable_folder(overviews, "--overviews")


def _from(folder: Path, location: str) -> str:
    """Return a location as written in a table in the folder, so that it can be found wherever the table is read."""
    place = Path(location)
    return location if place.is_absolute() else os.path.relpath(place.parent.resolve() / place.name, folder.resolve())


def _judged(
    task: str, model: str, overviews: Path | None, files: Sequence[PictureFile]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return a row for each readable picture, and the reasons why others cannot be read."""
    judge = _judge(task, model)
    good, bad = list[tuple[PictureFile, NDArray[np.uint8]]](), dict[str, str]()
    for file in files:
        try:
            good.append((file, read_picture(file.path, LONGEST_SCENE if task == "scene" else LONGEST)))
        except BadInput as error:
            bad[str(file.path)] = str(error)
    rows = judge([picture for _, picture in good])
    for (file, picture), row in zip(good, rows, strict=True):
        if task == "scene":
            large = max(picture.shape) > LARGE
            row["tiles"] = _tiled(picture, judge, overviews, file.path) if large else ""
    return [
        {"location": str(file.path), "label": file.label} | row for (file, _), row in zip(good, rows, strict=True)
    ], bad


Judge = Callable[[Sequence[NDArray[np.uint8]]], list[dict[str, Any]]]


@lru_cache(maxsize=2)
def _judge(task: str, model: str) -> Judge:
    """Return the function that makes the row of a picture."""
    from kernels.pictures.anomaly_model import AnomalyModel
    from kernels.pictures.picture_model import build_picture_model

    weights = read_weights(task, model)
    if task == "anomaly":
        with building(task, model):
            odd = AnomalyModel(*weights)

        def scored(pictures: Sequence[NDArray[np.uint8]]) -> list[dict[str, Any]]:
            scores = odd(pictures)
            pairs = zip(odd.verdicts(scores).tolist(), scores.tolist(), strict=True)
            return [{"verdict": round(verdict, 1), "score": round(score, 4)} for verdict, score in pairs]

        return scored
    with building(task, model):
        net = build_picture_model(*weights)

    def named(pictures: Sequence[NDArray[np.uint8]]) -> list[dict[str, Any]]:
        return [
            {"verdict": net.card.classes[int(row.argmax())]}
            | {name: round(float(share), 4) for name, share in zip(net.card.classes, row, strict=True)}
            for row in net(pictures)
        ]

    return named


def _tiled(picture: NDArray[np.uint8], judge: Judge, overviews: Path | None, path: Path) -> str:
    """Return the number of tiles of a large picture with each verdict, and draw them if a folder is given."""
    ny, nx = picture.shape[:2]
    rows, columns = ([min(start, max(n - TILE, 0)) for start in range(0, n, TILE)] for n in (ny, nx))
    corners = [(y, x) for y in rows for x in columns]  # the last ones are moved inwards: no slivers
    verdicts = [str(row["verdict"]) for row in judge([picture[y : y + TILE, x : x + TILE] for y, x in corners])]
    if overviews is not None:
        from flows.results.evaluation.picture_pages import draw_tiles

        draw_tiles(overviews, path, picture, corners, verdicts, TILE)
    return ", ".join(f"{name} {number}" for name, number in Counter(verdicts).most_common())

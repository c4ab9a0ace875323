"""Objects of the night, their classes and colours; galaxies by morphology, and the oddest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.results.page.axes import Axis
from flows.results.page.chart import stacked_bar
from flows.results.page.picture import Picture, colour_png
from flows.results.page.scatter import Dots, scatter_chart
from flows.results.page.words import Figure, count
from flows.storage.array_store import ArrayStore
from flows.storage.catalog_store import CatalogStore
from schemas.class_table import CLASSES, SPECTRAL_CLASS, STAR_GALAXY, UNKNOWN
from schemas.classes import SUPERCLASSES
from schemas.galaxy_pictures import ANOMALY, GALAXY, GALAXY_PICTURE, MORPHOLOGY
from schemas.objects import BANDS, OBJECT
from schemas.picture_classes import MORPHOLOGIES

MOST = 4000
"""Maximum number of objects in the picture: the brightest."""

_STYLES = {"star": "part-0", "galaxy": "part-2", "quasar": "part-3", UNKNOWN: "part-other"}
_STANDS_FOR = ("part-0", "object")
_WORST = 0.3  # mag: colours with larger errors are not drawn
_FEWEST = 10
_EDGES = (1.0, 99.0)  # percentiles of the points that the axes cover, before they are extended


@dataclass(frozen=True)
class ObjectVerdicts:
    """Results of one stage: name, bar, (label, style, number, fraction) of each verdict, reasons for unknown ones."""

    name: str
    bar: str
    parts: tuple[tuple[str, str, str, str], ...]
    note: str = ""


@dataclass(frozen=True)
class Objects:
    """Figures, verdicts, and the picture with its caption; the picture is empty if too few objects have colours."""

    lead: str
    figures: tuple[Figure, ...]
    verdicts: tuple[ObjectVerdicts, ...]
    picture: str
    caption: str
    key: tuple[tuple[str, str], ...]


_SHOWN = ["objectId", "nBands", *(name for name in OBJECT.schema.names if name.endswith("_apMag") or "Minus" in name)]
_OF_CLASS = ("objectId", "classLabel", "unknownReason")


def objects_of(out: Path, night: str) -> Objects | None:
    """Describe the objects of a night; None if none are published.

    Raises
    ------
    BadInput
        A catalogue is damaged.
    """
    store = CatalogStore(out)
    objects = store.read_night(OBJECT, night, _SHOWN)
    if objects is None:
        return None
    found = {
        dataset.name: store.read_night(dataset, night, [name for name in _OF_CLASS if name in dataset.schema.names])
        for dataset in (STAR_GALAXY, SPECTRAL_CLASS)
    }
    labels = {
        name: np.array(table["classLabel"].to_pylist(), dtype=object)
        for name, table in found.items()
        if table is not None and table["objectId"].equals(objects["objectId"])
    }
    bands = _bands(objects)
    colours = ", colours" if len(bands) > 1 else ""
    verdicts = tuple(
        _verdicts(title, labels[name], classes, f"{by} {_reasons(found[name], labels[name])}".strip())
        for name, title, classes, by in (
            (STAR_GALAXY.name, "Star or galaxy", CLASSES, "By the cutouts alone."),
            (SPECTRAL_CLASS.name, "Superclass", SUPERCLASSES, f"By the cutouts{colours} and the counts of the sky."),
        )
        if name in labels
    )
    label = labels.get(STAR_GALAXY.name, labels.get(SPECTRAL_CLASS.name))
    picture, caption = _picture(objects, label)
    drawn = [] if label is None else [one for one in _STYLES if (label == one).any()]
    return Objects(
        lead=_lead(objects, bands),
        figures=_figures(objects),
        verdicts=verdicts,
        picture=picture,
        caption=caption,
        key=tuple((_STYLES[one], one) for one in drawn) or (_STANDS_FOR,),
    )


def _bands(objects: pa.Table) -> list[str]:
    return [band for band in BANDS if objects[f"{band}_apMag"].null_count < len(objects)]


def _lead(objects: pa.Table, bands: Sequence[str]) -> str:
    seen = f" in {', '.join(bands)}" if bands else ""
    return f"{count(len(objects), 'object')} on the science images{seen}."


def _figures(objects: pa.Table) -> tuple[Figure, ...]:
    bands = objects["nBands"].to_numpy()
    objects_in_all = Figure("Objects", count(len(objects)), "by position, all bands")
    if not (several := int((bands > 1).sum())):
        return (objects_in_all,)
    return (objects_in_all, Figure("In two bands or more", count(several), "found as a source"))


def _reasons(table: pa.Table | None, label: NDArray[np.object_]) -> str:
    """Return the number of unknown objects by reason, the most frequent first; empty if no reasons are given."""
    if table is None or "unknownReason" not in table.column_names:
        return ""
    reasons = Counter(np.array(table["unknownReason"].to_pylist(), dtype=object)[label == UNKNOWN].tolist())
    told = [f"{reason.replace('_', ' ')} {count(number)}" for reason, number in reasons.most_common() if reason]
    return f"Unknown: {', '.join(told)}." if told else ""


def _verdicts(name: str, label: NDArray[np.object_], classes: Sequence[str], note: str) -> ObjectVerdicts:
    numbers = {one: int((label == one).sum()) for one in (*classes, UNKNOWN)}
    total = max(len(label), 1)
    told = tuple((one, _STYLES[one], count(number), f"{100 * number / total:.0f} %") for one, number in numbers.items())
    title = f"{name}: " + ", ".join(f"{one} {number}" for one, _, number, _ in told)
    return ObjectVerdicts(
        name, stacked_bar([(one, _STYLES[one], number) for one, number in numbers.items()], title), told, note
    )


def _picture(objects: pa.Table, label: NDArray[np.object_] | None) -> tuple[str, str]:
    """Draw a colour-colour diagram or, without three adjacent bands, a colour-magnitude diagram."""
    colours = [(a, b) for a, b in pairwise(BANDS) if _certain(objects, a, b).sum() >= _FEWEST]
    for (blue, middle), (again, red) in pairwise(colours):
        if middle != again:
            continue
        certain = _certain(objects, blue, middle) & _certain(objects, middle, red)
        if certain.sum() >= _FEWEST:
            x, y = _values(objects, _name(blue, middle)), _values(objects, _name(middle, red))
            return _drawn(x, y, f"{blue} - {middle}", f"{middle} - {red}", certain, objects, middle, label)
    if not colours and len(_bands(objects)) < 2:
        return "", ""
    if not colours:
        return "", f"Fewer than {_FEWEST} objects have a colour with an error up to {_WORST} mag."
    blue, red = colours[0]
    x, y = _values(objects, _name(blue, red)), _values(objects, f"{red}_apMag")
    return _drawn(x, y, f"{blue} - {red}", red, _certain(objects, blue, red), objects, red, label)


def _drawn(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    across: str,
    upward: str,
    certain: NDArray[np.bool_],
    objects: pa.Table,
    band: str,
    label: NDArray[np.object_] | None,
) -> tuple[str, str]:
    rows = np.flatnonzero(certain)
    rows = rows[np.argsort(_values(objects, f"{band}_apMag")[rows], kind="stable")][:MOST]
    vertical = _axis(f"{upward}, mag", y[rows])
    if upward == band:  # a magnitude: bright is up
        vertical = Axis(vertical.name, vertical.high, vertical.low)
    kinds = {_STANDS_FOR[0]: rows}
    if label is not None:
        kinds = {_STYLES[one]: rows[label[rows] == one] for one in (UNKNOWN, "star", "galaxy", "quasar")}
    series = [Dots(style, x[chosen], y[chosen]) for style, chosen in kinds.items()]
    title = f"{upward} against {across} of {count(len(rows), 'object')}"
    left = int(certain.sum()) - len(rows)
    caption = f"{count(len(rows), 'object')} with errors up to {_WORST} mag in each colour, of {count(len(x))}"
    caption += f"; {count(left)} fainter ones are left out." if left else "."
    return scatter_chart(_axis(f"{across}, mag", x[rows]), vertical, series, title), caption


def _axis(name: str, values: NDArray[np.float64]) -> Axis:
    low, high = np.percentile(values, _EDGES)
    margin = max(0.05 * (high - low), 0.05)
    return Axis(name, float(low - margin), float(high + margin))


def _name(blue: str, red: str) -> str:
    return f"{blue}Minus{red.upper()}"


def _certain(objects: pa.Table, blue: str, red: str) -> NDArray[np.bool_]:
    return np.asarray(_values(objects, f"{_name(blue, red)}Err") <= _WORST)


def _values(objects: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(objects[name].to_numpy(), np.float64)


EACH = 8
"""Number of galaxies shown of each class: those of highest probability."""

ODDEST = 10


@dataclass(frozen=True)
class ShownGalaxy:
    """Picture of a galaxy, its caption, and its position."""

    picture: Picture
    figure: str
    place: str


@dataclass(frozen=True)
class GalaxyGroup:
    """Galaxies shown together: their class, its total number, and some of them."""

    name: str
    number: str
    galaxies: tuple[ShownGalaxy, ...]


@dataclass(frozen=True)
class NightGalaxies:
    """Galaxies of the night."""

    lead: str
    groups: tuple[GalaxyGroup, ...]


def galaxies_of(out: Path, night: str) -> NightGalaxies | None:
    """Describe the galaxies of a night; None if no morphology is published, or there are no pictures.

    Raises
    ------
    BadInput
        A catalogue is damaged.
    """
    store = CatalogStore(out)
    verdicts, places = store.read_night(MORPHOLOGY, night), store.read_night(GALAXY, night)
    if verdicts is None or places is None:
        return None
    labels, ids = np.array(verdicts["classLabel"].to_pylist(), object), verdicts["objectId"].to_numpy()
    certainty = np.nan_to_num(verdicts["classScore"].to_numpy())
    ranked = [_Ranked(name, "p {:.2f}", *_first(ids, certainty, labels == name, EACH)) for name in MORPHOLOGIES]
    scores = store.read_night(ANOMALY, night)
    if scores is not None:
        odd = scores["objectId"].to_numpy(), scores["anomalyScore"].to_numpy()
        ranked.append(_Ranked("oddest", "score {:.1f}", *_first(*odd, np.ones(len(scores), np.bool_), ODDEST)))
    wanted = {one for group in ranked for one in group.ids}
    pictures = ArrayStore(out).read_rows(GALAXY_PICTURE, night, GALAXY.ids, wanted)
    if not pictures:
        return None
    names = (places[name].to_pylist() for name in ("objectId", "ra", "dec"))
    where = {one: f"{ra:.5f} {dec:+.5f}" for one, ra, dec in zip(*names, strict=True)}
    numbers = Counter(labels.tolist())
    groups = (
        GalaxyGroup(one.name, count(numbers[one.name]) if one.name in numbers else "", _shown(one, pictures, where))
        for one in ranked
    )
    judged = sum(numbers[name] for name in MORPHOLOGIES)
    lead = f"Galaxies: {count(len(labels))}; large and bright enough to tell their shape: {count(judged)}."
    return NightGalaxies(lead, tuple(one for one in groups if one.galaxies))


class _Ranked(NamedTuple):
    name: str
    words: str
    ids: list[int]
    figures: list[float]


def _first(
    ids: NDArray[np.int64], by: NDArray[np.floating], where: NDArray[np.bool_], most: int
) -> tuple[list[int], list[float]]:
    """Return the ids with the largest values, and these values."""
    rows = np.flatnonzero(where)
    rows = rows[np.argsort(-by[rows], kind="stable")][:most]
    return ids[rows].tolist(), by[rows].tolist()


def _shown(
    group: _Ranked, pictures: Mapping[int, NDArray[np.uint8]], where: Mapping[int, str]
) -> tuple[ShownGalaxy, ...]:
    return tuple(
        ShownGalaxy(colour_png(pictures[one]), group.words.format(figure), where.get(one, ""))
        for one, figure in zip(group.ids, group.figures, strict=True)
        if one in pictures
    )

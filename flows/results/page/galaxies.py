"""Galaxies of the night: a gallery of each morphology, and the oddest."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flows.results.page.picture import Picture, colour_png
from flows.results.page.words import count
from flows.storage.array_store import ArrayStore
from flows.storage.catalog_store import CatalogStore
from schemas.galaxy_pictures import ANOMALY, GALAXY, GALAXY_PICTURE, MORPHOLOGY
from schemas.picture_classes import MORPHOLOGIES

EACH = 12
"""Galaxies shown of each class: the surest."""

ODDEST = 10


@dataclass(frozen=True)
class ShownGalaxy:
    """Picture of a galaxy, a figure in words, and where it is."""

    picture: Picture
    figure: str
    place: str


@dataclass(frozen=True)
class GalaxyGroup:
    """Galaxies shown together: what they are, how many of a class there are in all, and some of them."""

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
    """Return the ids with the largest values, and these."""
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

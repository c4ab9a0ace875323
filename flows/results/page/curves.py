"""Light curves of the most variable stationary objects of the night: fluxes from all nights up to this one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from numpy.typing import NDArray

from flows.results.page.axes import draw_axes, svg_of, value_axis, x_of, y_of
from flows.results.page.words import count, links, measured, number, sexagesimal, utc
from flows.storage.association_store import association_as_it_is
from flows.storage.catalog_store import CatalogStore
from schemas.dia_object import DIA_OBJECT, DiaObjectFlag
from schemas.objects import BANDS
from schemas.settings import AssociationSettings

MOST = 12
"""Maximum number of light curves on a page."""

LEAST = 3
"""Minimum number of detections in a band to judge variability."""

_STYLES = {"u": "part-3", "g": "part-1", "r": "part-4", "i": "part-2", "z": "part-0", "y": "part-7"}
_PLAIN = ("diaObjectId", "ra", "dec", "nDiaSources", "lastDiaSourceMjdTai", "flags")
_OF_BANDS = tuple(f"{band}_psfFlux{end}" for band in BANDS for end in ("Ndata", "Mean", "Chi2"))
_WORDS = {DiaObjectFlag.VARIABLE_STAR: "on a star", DiaObjectFlag.NUCLEAR: "on the core of a galaxy"}


@dataclass(frozen=True)
class Curve:
    """Light curve of an object, with its caption."""

    identity: str
    facts: tuple[tuple[str, str], ...]
    place: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    chart: Markup


@dataclass(frozen=True)
class NightCurves:
    """Light curves of a night, how they were chosen, and their bands with the class of each in the style sheet."""

    lead: str
    curves: tuple[Curve, ...]
    bands: tuple[tuple[str, str], ...]


def curves_of(out: Path, night: str, association: AssociationSettings) -> NightCurves | None:
    """Return the light curves of the most variable objects of a night; None if none was seen often enough.

    Parameters
    ----------
    out, night
        Output folder and label of the night.
    association
        Settings with the store of detections in other nights.

    Raises
    ------
    BadInput
        A catalogue is damaged.
    Misconfigured, Retryable
        As in `association_as_it_is`.
    """
    rows = CatalogStore(out).read_night(DIA_OBJECT, night, (*_PLAIN, *_OF_BANDS))
    if rows is None:
        return None
    scatter = scatter_of(rows)
    known = np.flatnonzero(np.isfinite(scatter))
    chosen = known[np.lexsort((rows["diaObjectId"].to_numpy()[known], -scatter[known]))][:MOST]
    with association_as_it_is(out, association) as store:
        if store is None or not len(chosen):
            return None
        curves, bands = list[Curve](), set[str]()
        for row, value in zip(rows.take(pa.array(chosen)).to_pylist(), scatter[chosen].tolist(), strict=True):
            seen = [one for one in store.detections(row["diaObjectId"]).to_pylist() if one["night"] <= night]
            if chart := draw_light_curve(seen):
                bands |= {one["band"] for one in seen if one["psfFlux"] is not None}
                curves.append(_curve(row, value, seen, chart))
    often = f"{count(len(known), 'object')} at rest seen {LEAST} times or more in a band"
    lead = f"{often}, by the scatter of psfFlux about its mean" + (f": the first {MOST}." if len(known) > MOST else ".")
    legend = tuple((band, _STYLES.get(band, "part-other")) for band in sorted(bands, key=_from_blue))
    return NightCurves(lead, tuple(curves), legend) if curves else None


def _from_blue(band: str) -> tuple[int, str]:
    return (BANDS.index(band) if band in BANDS else len(BANDS), band)


def scatter_of(rows: pa.Table) -> NDArray[np.float64]:
    """Return chi squared of psfFlux about its mean per degree of freedom, (n,), in the band in which it is largest.

    NaN if no band has `LEAST` detections.
    """
    found = np.full((len(rows), len(BANDS)), np.nan)
    for place, band in enumerate(BANDS):
        number_of = rows[f"{band}_psfFluxNdata"].to_numpy()
        chi2 = rows[f"{band}_psfFluxChi2"].to_numpy().astype(float)
        enough = number_of >= LEAST
        found[enough, place] = chi2[enough] / (number_of[enough] - 1)
    return np.fmax.reduce(found, axis=1, initial=np.nan)


def _curve(row: Mapping[str, Any], scatter: float, seen: Sequence[Mapping[str, Any]], chart: str) -> Curve:
    nights = len({one["night"] for one in seen})
    known = [band for band in BANDS if row[f"{band}_psfFluxNdata"]]
    unit, name = _unit(max(abs(row[f"{band}_psfFluxMean"]) for band in known))
    means = ", ".join(
        f"{number(row[f'{band}_psfFluxMean'] / unit, 0 if name == 'nJy' else 2)} ({band})" for band in known
    )
    where = [words for flag, words in _WORDS.items() if row["flags"] & flag]
    facts = [
        ("Seen", f"{count(len(seen), 'detection')} on {count(nights, 'night')}"),
        ("Flux", f"mean {means} {name}"),
        ("Scatter", f"χ² {number(scatter, 1)} per degree of freedom"),
        *([("Lies", ", ".join(where))] if where else []),
    ]
    place = f"{row['ra']:.5f} {row['dec']:+.5f}", " ".join(sexagesimal(row["ra"], row["dec"]))
    named = links(row["ra"], row["dec"], row["lastDiaSourceMjdTai"])
    return Curve(str(row["diaObjectId"]), tuple(facts), place, named, Markup(chart))


def _unit(largest: float) -> tuple[float, str]:
    """Return the unit, in nJy, in which a flux fits the available digits, and its name."""
    return next(
        (size, name)
        for size, name in ((1.0, "nJy"), (1e3, "µJy"), (1e6, "mJy"), (1e9, "Jy"))
        if largest < 1e4 * size or name == "Jy"
    )


def draw_light_curve(rows: Sequence[Mapping[str, Any]], current: int | None = None) -> str:
    """Return the fluxes of an object against time, as an SVG element; "" if it has none.

    Parameters
    ----------
    rows
        Rows of `schemas.dia_object.ASSOCIATION`.
    current
        diaSourceId of the detection to emphasise; None: none.
    """
    known = [row for row in rows if row["psfFlux"] is not None]
    if not known:
        return ""
    first = math.floor(min(row["midpointMjdTai"] for row in known))
    days = [row["midpointMjdTai"] - first for row in known]
    errors = [row["psfFluxErr"] or 0.0 for row in known]
    ends = [row["psfFlux"] + sign * error for row, error in zip(known, errors, strict=True) for sign in (-1, 1)]
    unit, name = _unit(max(map(abs, ends)))
    across = value_axis(f"MJD (TAI) − {first}, d", days)
    upward = value_axis(f"Flux, {name}", [0.0, *(end / unit for end in ends)])
    parts = list(draw_axes(across, upward))
    for row, day, error in zip(known, days, errors, strict=True):
        x, (low, high) = x_of(across, day), (y_of(upward, (row["psfFlux"] + one) / unit) for one in (-error, error))
        style = _STYLES.get(row["band"], "part-other")
        flux = measured(row["psfFlux"] / unit, error / unit, 2, f" {name}")
        text = f"{row['band']}, {utc(row['midpointMjdTai'])} UTC: {flux}"
        parts.append(
            f'<g class="seen {style}{" current" if row["diaSourceId"] == current else ""}"><title>{escape(text)}'
            f'</title><line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
            f'<circle cx="{x:.1f}" cy="{(low + high) / 2:.1f}" r="4.5"/></g>'
        )
    return svg_of(parts, f"Light curve of {len(known)} detections")

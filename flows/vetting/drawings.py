"""Light curve of an object and tracklet on the sky, as inline SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.results.page.chart import HEIGHT, WIDTH
from flows.results.page.scatter import Axis
from flows.results.page.words import utc

_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 16, 14, 48
_BANDS = {"u": "part-3", "g": "part-1", "r": "part-4", "i": "part-2", "z": "part-0", "y": "part-7"}


def light_curve(rows: Sequence[Mapping[str, Any]], current: int) -> str:
    """Return the fluxes of an object against time; "" if none has one.

    Parameters
    ----------
    rows
        Of `schemas.dia_object.ASSOCIATION`.
    current
        diaSourceId of the detection to emphasise.
    """
    known = [row for row in rows if row["psfFlux"] is not None]
    if not known:
        return ""
    first = math.floor(min(row["midpointMjdTai"] for row in known))
    days = [row["midpointMjdTai"] - first for row in known]
    errors = [row["psfFluxErr"] or 0.0 for row in known]
    ends = [row["psfFlux"] + sign * error for row, error in zip(known, errors, strict=True) for sign in (-1, 1)]
    across = _axis(f"MJD (TAI) − {first}, d", days)
    upward = _axis("Flux, nJy", [0.0, *ends])
    parts = list(_frame(across, upward))
    for row, day, error in zip(known, days, errors, strict=True):
        x, low, high = _x(across, day), _y(upward, row["psfFlux"] - error), _y(upward, row["psfFlux"] + error)
        style = _BANDS.get(row["band"], "part-other")
        text = f"{row['band']}, {utc(row['midpointMjdTai'])} UTC: {row['psfFlux']:.0f} ± {error:.0f} nJy"
        parts.append(
            f'<g class="point {style}{" current" if row["diaSourceId"] == current else ""}"><title>{escape(text)}'
            f'</title><line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
            f'<circle cx="{x:.1f}" cy="{(low + high) / 2:.1f}" r="4.5"/></g>'
        )
    return _svg(parts, f"Light curve of {len(known)} detections")


def tracklet_chart(
    ids: Sequence[int], ra: NDArray[np.float64], dec: NDArray[np.float64], mjd: NDArray[np.float64], current: int
) -> str:
    """Return the detections of a tracklet on the sky, east to the left, each with a link; "" for none.

    Parameters
    ----------
    ids
        diaSourceIds.
    ra, dec, mjd : (n,)
        ICRS, deg; middle of the exposure, MJD TAI.
    current
        diaSourceId of the detection to emphasise.
    """
    if not len(ids):
        return ""
    ra0, dec0 = float(ra[0]), float(dec[0])
    east = 3600 * ((ra - ra0 + 180) % 360 - 180) * math.cos(math.radians(dec0))
    north = 3600 * (dec - dec0)
    reach = max(float(np.ptp(east)) / (WIDTH - _LEFT - _RIGHT), float(np.ptp(north)) / (HEIGHT - _TOP - _BOTTOM), 5e-3)
    middle = (east.max() + east.min()) / 2, (north.max() + north.min()) / 2
    half = 0.6 * reach * (WIDTH - _LEFT - _RIGHT), 0.6 * reach * (HEIGHT - _TOP - _BOTTOM)
    across = Axis("east of the first, ″", middle[0] + half[0], middle[0] - half[0])
    upward = Axis("north of the first, ″", middle[1] - half[1], middle[1] + half[1])
    points = [(_x(across, float(a)), _y(upward, float(b))) for a, b in zip(east, north, strict=True)]
    parts = list(_frame(across, upward))
    parts.append(f'<polyline class="way" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
    for one, (x, y), time in zip(ids, points, mjd.tolist(), strict=True):
        words = f"Detection at {utc(time)} UTC"
        style = "point part-1 current" if one == current else "point part-1"
        parts.append(
            f'<a href="/candidate/{one}" aria-label="{words}"><g class="{style}"><title>{words}</title>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6"/></g></a>'
        )
    return _svg(parts, f"Tracklet of {len(ids)} detections on the sky", role="group")


def _axis(name: str, values: Sequence[float]) -> Axis:
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return Axis(name, low - room, high + room)


def _x(axis: Axis, value: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * float(axis.share(value))


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * float(axis.share(value))


def _frame(across: Axis, upward: Axis) -> Sequence[str]:
    base, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for tick in upward.ticks:
        y = _y(upward, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:,.6g}</text>')
    parts.extend(
        f'<text class="tick" x="{_x(across, tick):.1f}" y="{base + 17}" text-anchor="middle">{tick:.6g}</text>'
        for tick in across.ticks
    )
    parts.append(f'<line class="base" x1="{_LEFT}" x2="{right}" y1="{base}" y2="{base}"/>')
    parts.append(
        f'<text class="axis" x="{(_LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across.name)}'
        f'</text><text class="axis" transform="translate(13 {(_TOP + base) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(upward.name)}</text>"
    )
    return parts


def _svg(parts: Sequence[str], title: str, role: str = "img") -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="{role}" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )

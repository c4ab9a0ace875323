"""Tracklet on the sky, as inline SVG."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flows.results.page.axes import BOTTOM, LEFT, RIGHT, TOP, Axis, draw_axes, svg_of, x_of, y_of
from flows.results.page.chart import HEIGHT, WIDTH
from flows.results.page.words import utc


def tracklet_chart(
    ids: Sequence[int], ra: NDArray[np.float64], dec: NDArray[np.float64], mjd: NDArray[np.float64], current: int
) -> str:
    """Return the detections of a tracklet on the sky as SVG, east to the left, each with a link; "" without any.

    Parameters
    ----------
    ids
        diaSourceIds.
    ra, dec, mjd : (n,)
        ICRS, deg; mid-exposure time, MJD TAI.
    current
        diaSourceId of the detection to emphasise.
    """
    if not len(ids):
        return ""
    ra0, dec0 = float(ra[0]), float(dec[0])
    east = 3600 * ((ra - ra0 + 180) % 360 - 180) * math.cos(math.radians(dec0))
    north = 3600 * (dec - dec0)
    reach = max(float(np.ptp(east)) / (WIDTH - LEFT - RIGHT), float(np.ptp(north)) / (HEIGHT - TOP - BOTTOM), 5e-3)
    middle = (east.max() + east.min()) / 2, (north.max() + north.min()) / 2
    half = 0.6 * reach * (WIDTH - LEFT - RIGHT), 0.6 * reach * (HEIGHT - TOP - BOTTOM)
    across = Axis("east of the first, ″", middle[0] + half[0], middle[0] - half[0])
    upward = Axis("north of the first, ″", middle[1] - half[1], middle[1] + half[1])
    points = [(x_of(across, float(a)), y_of(upward, float(b))) for a, b in zip(east, north, strict=True)]
    parts = list(draw_axes(across, upward))
    parts.append(f'<polyline class="way" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
    for one, (x, y), time in zip(ids, points, mjd.tolist(), strict=True):
        words = f"Detection at {utc(time)} UTC"
        style = "point part-1 current" if one == current else "point part-1"
        parts.append(
            f'<a href="/candidate/{one}" aria-label="{words}"><g class="{style}"><title>{words}</title>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6"/></g></a>'
        )
    return svg_of(parts, f"Tracklet of {len(ids)} detections on the sky", role="group")

"""Axes for charts of one quantity against another, as inline SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from flows.results.page.chart import HEIGHT, WIDTH

LEFT, RIGHT, TOP, BOTTOM = 74, 16, 14, 48
"""Margins, px."""

_TICKS = 5


@dataclass(frozen=True)
class Axis:
    """Quantity and range of an axis; ``low`` is the left or lower end, even if it is the larger value."""

    name: str
    low: float
    high: float

    @property
    def ticks(self) -> tuple[float, ...]:
        """Round values along the axis."""
        first, last = sorted((self.low, self.high))
        power = 10.0 ** math.floor(math.log10((last - first) / _TICKS))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= (last - first) / _TICKS)
        return tuple(step * place for place in range(math.ceil(first / step), math.floor(last / step) + 1))

    def share(self, value: NDArray[np.floating] | float) -> NDArray[np.float64]:
        """Return the positions of values along the axis, 0 to 1; those beyond it are put at its end."""
        return np.clip((np.asarray(value, np.float64) - self.low) / (self.high - self.low), 0, 1)


def value_axis(name: str, values: Sequence[float]) -> Axis:
    """Return an axis that covers values, with room at its ends."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return Axis(name, low - room, high + room)


def x_of(axis: Axis, value: float) -> float:
    """Return the horizontal position of a value, px from the left."""
    return LEFT + (WIDTH - LEFT - RIGHT) * float(axis.share(value))


def y_of(axis: Axis, value: float) -> float:
    """Return the vertical position of a value, px from the top."""
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * float(axis.share(value))


def draw_axes(across: Axis, upward: Axis) -> list[str]:
    """Return both axes with ticks and names, as SVG elements."""
    base, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in upward.ticks:
        y = y_of(upward, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:,.10g}</text>')
    parts.extend(
        f'<text class="tick" x="{x_of(across, tick):.1f}" y="{base + 17}" text-anchor="middle">{tick:.10g}</text>'
        for tick in across.ticks
    )
    parts.append(f'<line class="base" x1="{LEFT}" x2="{right}" y1="{base}" y2="{base}"/>')
    parts.append(
        f'<text class="axis" x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across.name)}'
        f'</text><text class="axis" transform="translate(13 {(TOP + base) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(upward.name)}</text>"
    )
    return parts


def svg_of(parts: Sequence[str], title: str, role: str = "img") -> str:
    """Return SVG elements as one picture, with a title for screen readers."""
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="{role}" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )

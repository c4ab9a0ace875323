"""A cloud of points as inline SVG, beside the charts of bins."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from flows.report.chart import HEIGHT, WIDTH

_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 12, 14, 48
_TICKS = 5


@dataclass(frozen=True)
class Axis:
    """What an axis measures and from where to where; ``low`` is at the left or at the bottom, whichever is larger."""

    name: str
    low: float
    high: float

    @property
    def ticks(self) -> tuple[float, ...]:
        """Round values along it."""
        first, last = sorted((self.low, self.high))
        power = 10.0 ** math.floor(math.log10((last - first) / _TICKS))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= (last - first) / _TICKS)
        return tuple(step * place for place in range(math.ceil(first / step), math.floor(last / step) + 1))

    def share(self, value: NDArray[np.floating] | float) -> NDArray[np.float64]:
        """Where values are along it, 0 to 1; beyond it at its end."""
        return np.clip((np.asarray(value, np.float64) - self.low) / (self.high - self.low), 0, 1)


@dataclass(frozen=True)
class Dots:
    """Points of one kind; ``style`` names their class in the style sheet."""

    style: str
    x: NDArray[np.floating]
    y: NDArray[np.floating]


def scatter_chart(across: Axis, upward: Axis, series: Sequence[Dots], title: str) -> str:
    """Points as an SVG element; later series lie on top."""
    parts = [*_axes(across, upward), *(_dots(across, upward, dots) for dots in series if len(dots.x))]
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _x(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * share


def _y(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share


def _axes(across: Axis, upward: Axis) -> Iterator[str]:
    left, right, base = _LEFT, WIDTH - _RIGHT, HEIGHT - _BOTTOM
    for tick in upward.ticks:
        y = float(_y(upward.share(tick)))
        yield f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.6g}</text>'
    for tick in across.ticks:
        x = float(_x(across.share(tick)))
        yield f'<text class="tick" x="{x:.1f}" y="{base + 17}" text-anchor="middle">{tick:.6g}</text>'
    middle = (left + right) / 2
    yield f'<text class="axis" x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across.name)}</text>'
    yield (
        f'<text class="axis" transform="translate(13 {(_TOP + base) / 2:.1f}) rotate(-90)" '
        f'text-anchor="middle">{escape(upward.name)}</text>'
    )
    yield f'<line class="base" x1="{left}" x2="{right}" y1="{base}" y2="{base}"/>'


def _dots(across: Axis, upward: Axis, dots: Dots) -> str:
    """One path for all points: each a line of no length with round ends."""
    places = zip(_x(across.share(dots.x)), _y(upward.share(dots.y)), strict=True)
    return f'<path class="dots {dots.style}" d="{"".join(f"M{x:.0f} {y:.0f}h0" for x, y in places)}"/>'

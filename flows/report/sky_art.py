"""Star trails for the head of the page."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arc:
    """Part of a circle around the pole: radius, start (deg), length along the circle, opacity."""

    radius: float
    start: float
    sweep: float
    opacity: float


def star_trails(n: int = 90) -> tuple[Arc, ...]:
    """Arcs that all span the same angle, as after half an hour; places from the golden ratio, so always the same."""
    golden = 0.6180339887
    return tuple(
        Arc(
            radius=round(10 + 5.6 * place, 1),
            start=round(360 * (golden * place % 1), 1),
            sweep=round((10 + 5.6 * place) * 0.5, 1),
            opacity=round(0.08 + 0.6 * (golden * place * 3 % 1) ** 4, 2),
        )
        for place in range(1, n + 1)
    )

"""Picture of the search on real stamps."""

from pathlib import Path
from typing import Any

import numpy as np

from flows.adapters.writable_folder import writable_folder
from flows.evaluation.pictures import FALSE, FOUND, new_figure, save


def draw_stamps(figures: dict[str, Any], folder: Path) -> Path:
    """Write ``stamps.png``: recall on known asteroids against the share of low-rb stamps that pass.

    Parameters
    ----------
    figures
        `flows.evaluation.stamps.summarise_stamps`.
    folder
        Made if it is not there.
    """
    writable_folder(folder, "--pictures")
    figure, (panel,) = new_figure()
    known, low = (_series(figures["thresholds"], name) for name in ("known_asteroids", "low_rb"))
    panel.plot(low[0], known[0], "-", color=FOUND, linewidth=1)
    panel.errorbar(low[0], known[0], known[1:], low[1:], fmt="o", color=FOUND, markersize=3, linewidth=0.6, alpha=0.6)
    here, there = (_series([figures["at_default"]], name) for name in ("known_asteroids", "low_rb"))
    label = f"default, reliability ≥ {figures['at_default']['min_reliability']:.2g}"
    panel.errorbar(there[0], here[0], here[1:], there[1:], fmt="s", color=FALSE, markersize=6, label=label)
    groups = figures["at_default"]["groups"]
    panel.set(
        xlabel=f"share of the {groups['low_rb']['n']} stamps with rb < {figures['low_rb']:g} that pass",
        ylabel=f"share of the {groups['known_asteroids']['n']} known asteroids that pass",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    panel.legend(frameon=False, fontsize=8, loc="lower right")
    panel.set_title("ZTF alert stamps; least reliability from 0 to 0.99; bars: 95 %", fontsize=9)
    return save(figure, folder / "stamps.png")


def _series(rows: list[dict[str, Any]], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Share, and the lengths of its lower and upper bar; (3, rows)."""
    shares = [row["groups"][name] for row in rows]
    value = np.array([share["completeness"] if share["n"] else np.nan for share in shares], float)
    low, high = np.array([share["interval"] for share in shares], float).T
    return np.array([value, value - low, high - value])

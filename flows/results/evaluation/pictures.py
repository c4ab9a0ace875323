"""Figures of an evaluation."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from flows.results.evaluation.evaluate import Evaluation
from flows.storage.folder import writable_folder

FOUND, ORACLE, FALSE, GRID = "#1f5fa8", "#c8791a", "#a83232", "#dddddd"


def draw(evaluation: Evaluation, figures: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the figures of an evaluation as PNG.

    Parameters
    ----------
    evaluation
        Evaluation to draw.
    figures
        Result of `flows.results.evaluation.summary.summarise`.
    folder
        Destination, created if necessary.

    Returns
    -------
    list of Path
        completeness_by_snr.png, completeness_by_length.png, false_per_image.png, residuals.png.
    """
    writable_folder(folder, "--pictures")
    return [
        _completeness(figures, "snr", "signal to noise", folder),
        _completeness(figures, "length", "trail length (px)", folder),
        _curve(figures, folder),
        _residuals(evaluation, folder),
    ]


def new_figure(columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure with panels side by side."""
    figure = Figure(figsize=(6.4 if columns == 1 else 4.2 * columns, 4.4), layout="constrained", dpi=130)
    panels = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for panel in panels:
        panel.grid(color=GRID, linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def plain_ticks(panel: Axes) -> None:
    """Write the numbers of a logarithmic x axis in full."""
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG; the same figure gives the same bytes."""
    figure.savefig(path, format="png", metadata={"Software": None})
    return path


def _completeness(figures: dict[str, Any], by: str, label: str, folder: Path) -> Path:
    figure, (panel,) = new_figure()
    bins = figures[f"completeness_by_{by}"]
    edges = [bins[0]["lo"], *(each["hi"] for each in bins)]
    panel.set_xscale("log" if by == "snr" else "linear")
    panel.set(xlabel=label, ylabel="completeness", ylim=(-0.1, 1.1), xlim=(edges[0], edges[-1]))
    panel.set_xticks(edges, [f"{edge:g}" for edge in edges])
    panel.minorticks_off()
    oracle = figures["oracle"]
    if oracle is not None:
        text = f"matched filter that knows the truth, > {oracle['threshold']:.1f} sigma"
        _steps(panel, oracle[f"completeness_by_{by}"], ORACLE, text, offset=0.55)
    text = f"found, {figures['false_per_image']:.2f} false per image"
    _steps(panel, bins, FOUND, text, offset=0.45)
    if by == "snr" and figures["s50"] is not None:
        panel.axvline(figures["s50"], color=FOUND, linewidth=0.8, linestyle=":")
        panel.text(figures["s50"], 1.04, f" 50 % at {figures['s50']:.1f}", color=FOUND, fontsize=8)
    for each in bins:
        centre = np.sqrt(each["lo"] * each["hi"]) if by == "snr" else (each["lo"] + each["hi"]) / 2
        panel.text(centre, -0.055, f"n {each['n']}", ha="center", va="center", fontsize=7, color="#777777")
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    panel.set_title(f"{figures['n_streaks']} streaks on {figures['images']} images; bars: 95 %", fontsize=9)
    return save(figure, folder / f"completeness_by_{by}.png")


def _steps(panel: Axes, bins: list[dict[str, Any]], colour: str, label: str, offset: float) -> None:
    """Draw one horizontal bar per bin with its interval; ``offset`` keeps two series apart."""
    for each in (each for each in bins if each["n"]):
        lo, hi, share, (low, high) = each["lo"], each["hi"], each["completeness"], each["interval"]
        panel.plot([lo, hi], [share, share], color=colour, linewidth=2, solid_capstyle="butt")
        place = lo * (hi / lo) ** offset if panel.get_xscale() == "log" else lo + offset * (hi - lo)
        panel.errorbar(
            [place], [share], [[share - low], [high - share]], color=colour, marker="o", markersize=4, linewidth=1.2
        )
    panel.plot([], [], color=colour, marker="o", markersize=4, label=label)


def _curve(figures: dict[str, Any], folder: Path) -> Path:
    figure, (panel,) = new_figure()
    rows = [row for row in figures["curve"] if row["c7"] is not None]
    floor = 0.5 / max(figures["images"], 1)
    rate = np.array([max(row["false_per_image"], floor) for row in rows])
    for name, style, label in (("c10", "-", "S/N ≥ 10"), ("c7", "--", "S/N ≥ 7")):
        share = np.array([row[name] if row[name] is not None else np.nan for row in rows], float)
        panel.plot(rate, share, style, color=FOUND, label=label)
        if figures["oracle"] is not None and figures["oracle"][name] is not None:
            panel.plot(
                figures["oracle"]["false_per_image"],
                figures["oracle"][name],
                "o",
                color=ORACLE,
                fillstyle="full" if name == "c10" else "none",
                label=f"matched filter that knows the truth, {label}",
            )
    panel.axvline(1.0, color=FALSE, linewidth=0.8, linestyle=":")
    panel.set(xlabel="false detections per image", ylabel="completeness", ylim=(0, 1.03), xscale="log")
    plain_ticks(panel)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    panel.set_title(f"raising the least reliability; left edge: none ({floor:.2g} drawn)", fontsize=9)
    return save(figure, folder / "false_per_image.png")


def _residuals(evaluation: Evaluation, folder: Path) -> Path:
    figure, (position, length, angle) = new_figure(3)
    found = evaluation.found
    bright = found & (evaluation.snr >= 10) & (evaluation.length >= 8)
    rest = found & ~bright
    for rows, colour, label in ((rest, "#9bb7d6", "others"), (bright, FOUND, "S/N ≥ 10, length ≥ 8 px")):
        position.plot(evaluation.dx[rows], evaluation.dy[rows], ".", color=colour, label=label, markersize=4)
        length.plot(evaluation.snr[rows], evaluation.length_error[rows], ".", color=colour, markersize=4)
        trailed = rows & (evaluation.length > 0)
        angle.plot(evaluation.length[trailed], evaluation.angle_error[trailed], ".", color=colour, markersize=4)
    position.set(xlabel="x measured - true (px)", ylabel="y measured - true (px)", aspect="equal", adjustable="datalim")
    length.set(xlabel="signal to noise", ylabel="length measured - true (px)", xscale="log")
    plain_ticks(length)
    angle.set(
        xlabel="true length (px)", ylabel="angle measured - true (deg)", ylim=(-92, 92), yticks=range(-90, 91, 30)
    )
    for panel in (position, length, angle):
        panel.axhline(0, color="#777777", linewidth=0.6)
    position.axvline(0, color="#777777", linewidth=0.6)
    position.legend(frameon=False, fontsize=8, loc="upper left")
    return save(figure, folder / "residuals.png")


def draw_stamps(figures: dict[str, Any], folder: Path) -> Path:
    """Write ``stamps.png``: recall on known asteroids against the fraction of low-rb stamps that pass.

    Parameters
    ----------
    figures
        Result of `flows.results.evaluation.stamps.summarise_stamps`.
    folder
        Destination, created if necessary.
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
    """Return the fraction and the lengths of its lower and upper error bars; (3, rows)."""
    shares = [row["groups"][name] for row in rows]
    value = np.array([share["completeness"] if share["n"] else np.nan for share in shares], float)
    low, high = np.array([share["interval"] for share in shares], float).T
    return np.array([value, value - low, high - value])

"""Figures of the benchmarks, in the style of the evaluation's."""

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from flows.results.evaluation.pictures import GRID


def panels(rows, columns):
    """Return an empty figure and its panels, as rows."""
    figure = Figure(figsize=(5.0 * columns, 3.6 * rows), layout="constrained", dpi=130)
    made = [[figure.add_subplot(rows, columns, row * columns + i + 1) for i in range(columns)] for row in range(rows)]
    for panel in (panel for row in made for panel in row):
        panel.grid(color=GRID, linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, made


def log_axes(panel, places, names, xlabel, ylabel):
    """Make both axes logarithmic, with the measured places named and seconds written in full."""
    panel.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    panel.minorticks_off()
    panel.set_xticks(list(places), list(names))
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())

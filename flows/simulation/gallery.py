"""Picture of a simulated image: ``python -m flows.simulation.gallery``."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import label

from flows.simulation.canvas import Canvas, SimulatedExposure
from flows.simulation.defects import DISC_STEPS
from flows.simulation.exposure import draw_layers, simulate_exposure
from schemas.pixels import UNUSABLE, MaskPlane

Place = tuple[str, float, float]
_HALF = 32  # px, half the side of a close-up
_EXPOSURES = 6  # number of exposures searched for features that not every image has


def gallery(preset: str, seed: int, path: Path) -> None:
    """Draw a whole image with close-ups of its features.

    Parameters
    ----------
    preset, seed
        As in `simulate_exposure`.
    path
        PNG file to write.
    """
    figure = Figure(figsize=(12.2, 7.4), layout="constrained")
    grid = figure.add_gridspec(1, 2, width_ratios=(7.4, 4.8))
    left = figure.add_subfigure(grid[0])
    right = figure.add_subfigure(grid[1])
    found: dict[str, tuple[SimulatedExposure, Place]] = {}
    for detector in range(_EXPOSURES):
        exposure = simulate_exposure(preset, seed, 0, detector)
        for place in features(exposure, draw_layers(exposure.conditions, exposure.stars)):
            found.setdefault(place[0], (exposure, place))
        if detector == 0:
            axes = left.subplots()
            _show(axes, exposure.difference[::5, ::5], exposure.conditions.noise.sigma, f"{preset}, seed {seed}")
    panels = list(right.subplots(5, 3).flat)
    for axes, (exposure, (name, x, y)) in zip(panels, found.values(), strict=False):
        _show(axes, gallery_cutout(exposure.difference, x, y), exposure.conditions.noise.sigma, name)
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=60, metadata={"Software": None})


def gallery_cutout(image: NDArray[np.float32], x: float, y: float) -> NDArray[np.float32]:
    """Return the (64, 64) pixels around (x, y); NaN outside the image."""
    padded = np.pad(image, _HALF, constant_values=np.nan)
    row, column = round(y), round(x)
    return padded[row : row + 2 * _HALF, column : column + 2 * _HALF]


def features(exposure: SimulatedExposure, canvas: Canvas) -> Iterator[Place]:
    """Yield one position (0-based px) for each kind of feature in an image."""
    rows = [row for row in exposure.truth.to_pylist() if row["visible"] > 0.98]
    bright = sorted(
        (row for row in rows if row["kind"] == "streak" and row["snr"] > 15), key=lambda row: row["length_px"]
    )
    if bright:
        yield "long trail", bright[-1]["x"], bright[-1]["y"]
        yield "short trail", bright[0]["x"], bright[0]["y"]
    faint = [row for row in rows if row["kind"] == "streak" and 6 < row["snr"] < 9]
    variable = [row for row in rows if row["kind"] == "point" and row["snr"] > 20]
    fading = [row for row in rows if row["kind"] == "point" and row["snr"] < -20]
    satellites = [row for row in exposure.truth.to_pylist() if row["kind"] == "satellite"]
    for name, some in (("faint trail", faint), ("variable", variable), ("fading", fading), ("satellite", satellites)):
        if some:
            yield name, some[0]["x"], some[0]["y"]
    discs = exposure.stars.magnitude < exposure.conditions.preset.saturated_magnitude - DISC_STEPS
    for x, y in zip(exposure.stars.x[discs], exposure.stars.y[discs], strict=True):
        yield "edge of a disc", float(x) + 60, float(y)
    yield from _stars(exposure)
    yield from _tracks(canvas)


def _stars(exposure: SimulatedExposure) -> Iterator[Place]:
    stars, limit = exposure.stars, exposure.conditions.preset.saturated_magnitude
    ny, nx = exposure.difference.shape
    inside = (stars.x > _HALF) & (stars.x < nx - _HALF) & (stars.y > _HALF) & (stars.y < ny - _HALF)
    for name, magnitude in (
        ("star", limit + 2.5),
        ("bright star", limit + 0.3),
        ("saturated star", limit - 0.5),
        ("bleed", limit - 2.5),
    ):
        near = np.where(inside, np.abs(stars.magnitude - magnitude), np.inf)
        best = int(np.argmin(near))
        if near[best] < 0.4:
            yield name, float(stars.x[best]), float(stars.y[best])


def _tracks(canvas: Canvas) -> Iterator[Place]:
    """Yield positions of sharp features: cosmic rays by size, and a column."""
    usable = (canvas.mask & np.uint16(UNUSABLE)) == 0
    groups, count = label((canvas.sharp > 0) & usable, structure=np.ones((3, 3)))
    sizes = np.bincount(groups.ravel(), minlength=count + 1)
    sizes[0] = 0
    for name, low, high in (("cosmic ray", 2, 8), ("cosmic ray track", 15, 60), ("hot column", 100, 10**7)):
        fitting = np.flatnonzero((sizes >= low) & (sizes <= high))
        if len(fitting):
            rows, columns = np.nonzero(groups == fitting[0])
            yield name, float(columns.mean()), float(rows.mean())
    rows, columns = np.nonzero(canvas.mask & np.uint16(MaskPlane.CR))
    if len(rows):
        yield "masked cosmic ray", float(columns[0]), float(rows[0])


def _show(axes: Axes, pixels: NDArray[np.float32], sigma: float, title: str) -> None:
    axes.imshow(
        pixels, cmap=colormaps["gray"].with_extremes(bad="black"), vmin=-4 * sigma, vmax=8 * sigma, origin="lower"
    )
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="ztf")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("docs/images/simulated_quadrant.png"))
    options = parser.parse_args()
    gallery(options.preset, options.seed, options.out)

"""Morphology of galaxies that are small:
``python -m benchmarks.pictures.morphology_size FOLDER_OR_CSV... [--docs PICTURE]``.

Labelled pictures that the shipped model has not learnt from are judged in fewer colours, and brought to the pixels,
seeing and noise of ZTF and Rubin, at sizes from eight times the seeing down to half of it, and judged. The pictures are
stretched and of 8 bits, and are degraded as they are; they have a seeing of their own, so the largest sizes are those
of the few that allow it.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

from benchmarks.support.command_line import command_line
from flows.inputs.picture_files import list_pictures
from flows.pipeline.weights import read_weights
from flows.results.evaluation.picture_scores import Label, label_sets, picture_figures, read_unseen
from flows.results.evaluation.pictures import new_figure, save
from kernels.pictures.picture_model import build_picture_model

SIZES = (8.0, 4.0, 3.0, 2.0, 1.5, 1.0, 0.75, 0.5)
"""Half-light radius over the FWHM of the PSF."""

OWN_SEEING = 3.3
"""FWHM of the PSF in the pictures themselves, px: 1.3 arcsec at 0.4 arcsec/px, as in SDSS."""

FWHM_PER_SIGMA = 2.3548
FEWEST = 30


def _planes(red: NDArray[np.floating], middle: NDArray[np.floating], blue: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.stack([red, middle, blue], 2).round().astype(np.uint8)


VIEWS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "as they are": lambda one: one,
    "red and blue": lambda one: _planes(one[..., 0], one[..., ::2].mean(2), one[..., 2]),
    "grey": lambda one: _planes(*[one.mean(2)] * 3),
    "red": lambda one: _planes(*[one[..., 0]] * 3),
}
"""Pictures as made from a night: with three bands, two, and one."""


class Survey(NamedTuple):
    """Arcsec per pixel, and FWHM of the PSF in arcsec."""

    scale: float
    seeing: float

    @property
    def fwhm(self) -> float:
        """Return the FWHM, px."""
        return self.seeing / self.scale


SURVEYS = {"ZTF": Survey(1.0, 2.0), "Rubin": Survey(0.2, 0.7)}


def half_light_radius(picture: NDArray[np.uint8]) -> float:
    """Return the radius about the middle, px, with half of the light above the sky within a quarter of the side."""
    grey = picture.astype(np.float64).mean(2)
    ny, nx = grey.shape
    r = np.hypot(*np.meshgrid(np.arange(nx) - (nx - 1) / 2, np.arange(ny) - (ny - 1) / 2))
    light = np.clip(grey - np.median(grey) - 3 * 1.4826 * np.median(np.abs(grey - np.median(grey))), 0, None)
    inside = r < min(nx, ny) / 4
    order = np.argsort(r[inside])
    growth = np.cumsum(light[inside][order])
    if growth[-1] <= 0:
        return float("nan")
    return float(r[inside][order][np.searchsorted(growth, growth[-1] / 2)])


def degraded(
    picture: NDArray[np.uint8], radius: float, size: float, survey: Survey, snr: float, rng: np.random.Generator
) -> NDArray[np.uint8] | None:
    """Return a picture as a survey would see it, the galaxy's half-light radius ``size`` FWHM of its PSF.

    Parameters
    ----------
    picture, radius
        (ny, nx, 3), and the half-light radius in it, px.
    size, survey
        What is asked for.
    snr
        Mean signal of a pixel within the half-light radius over its noise, in each plane.
    rng
        Of the noise.

    Returns
    -------
    (ny, nx, 3) or None
        None if the picture's own seeing is more than that.
    """
    factor = size * survey.fwhm / radius
    own = OWN_SEEING * factor
    if own > survey.fwhm or factor > 1:
        return None
    side = [max(4, round(one * factor)) for one in picture.shape[:2]]
    planes = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
    small = interpolate(planes, side, mode="bilinear", antialias=True, align_corners=False)[0].numpy()
    sigma = np.sqrt(survey.fwhm**2 - own**2) / FWHM_PER_SIGMA
    seen = np.stack([gaussian_filter(one, sigma, mode="nearest") for one in small])
    r = np.hypot(*np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in side[::-1]]))
    inside = r <= max(radius * factor, 1.0)
    noise = np.clip(seen.mean(0) - np.median(seen), 0, None)[inside].mean() / snr
    noisy = seen + rng.normal(0, noise, seen.shape)
    return np.asarray(np.clip(noisy, 0, 255).round().astype(np.uint8).transpose(1, 2, 0))


def unseen_pictures(data: Sequence[Path]) -> tuple[list[NDArray[np.uint8]], list[Label]]:
    """Return pictures with a label of one class that the shipped model has not learnt from, and their labels."""
    files = list_pictures(*data)
    labels, _ = label_sets("morphology", files)
    files = [file for file in files if len(labels.get(file.label, ())) == 1]
    read = read_unseen(files, read_weights("morphology", "default")[1], unseen=True)
    return read.pictures, [labels[one] for one in read.labels]


def measure(data: Sequence[Path], snr: float, seed: int) -> list[dict[str, Any]]:
    """Return accuracy and its interval for each survey and size."""
    model = build_picture_model(*read_weights("morphology", "default"))
    pictures, known = unseen_pictures(data)
    radii = [half_light_radius(one) for one in pictures]
    rows = [
        row(name, float("nan"), model([view(one) for one in pictures]), known, model.card.classes)
        for name, view in VIEWS.items()
    ]
    for name, survey in SURVEYS.items():
        for size in SIZES:
            rng = np.random.default_rng(seed)
            seen = [degraded(one, radius, size, survey, snr, rng) for one, radius in zip(pictures, radii, strict=True)]
            usable = [n for n, one in enumerate(seen) if one is not None]
            if len(usable) < FEWEST:
                continue
            given = model([one for one in seen if one is not None])
            rows.append(row(name, size, given, [known[n] for n in usable], model.card.classes))
    return rows


def row(
    name: str, size: float, given: NDArray[np.floating], known: Sequence[Label], classes: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of one line, with the share of verdicts on the most common class of them."""
    figures = picture_figures(given, known, classes)
    recall = {label: one["recall"] for label, one in figures["per_class"].items()}
    return {
        "as seen by": name, "size": None if np.isnan(size) else size, "n": figures["n"],
        "accuracy": figures["accuracy"], "interval": figures["accuracy_interval"], "recall": recall,
    }  # fmt: skip


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the accuracy against the size."""
    figure, (panel,) = new_figure()
    for name in SURVEYS:
        own = [one for one in rows if one["as seen by"] == name]
        middle = np.array([one["accuracy"] for one in own])
        low, high = np.array([one["interval"] for one in own]).T
        panel.errorbar(
            [one["size"] for one in own], middle, [middle - low, high - middle], marker="o", capsize=3, label=name
        )
    panel.axhline(rows[0]["accuracy"], color="black", linestyle=":", linewidth=1, label="as they are")
    panel.set(xscale="log", xlabel="half-light radius / FWHM of the PSF", ylabel="accuracy", ylim=(0, 1))
    panel.set_xticks(SIZES, [f"{one:g}" for one in SIZES])
    panel.minorticks_off()
    panel.legend(frameon=False)
    save(figure, path)


def main() -> None:
    """Measure, print a line for each survey and size, and draw."""
    asked = command_line(
        __doc__, "data+", snr=(10.0, "Of a pixel, see `degraded`."), seed=1, docs=(Path, "Picture of the accuracies.")
    )
    rows = measure(asked.data, asked.snr, asked.seed)
    for one in rows:
        print(json.dumps(one), flush=True)
    if asked.docs:
        draw(rows, asked.docs)


if __name__ == "__main__":
    main()

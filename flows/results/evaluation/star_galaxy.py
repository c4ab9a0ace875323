"""Evaluation of models for stars and galaxies on labelled cutouts, with baselines."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from flows.inputs.cutout_files import CLASSES, LabelledCutouts, read_cutout_npz, read_galstar
from flows.pipeline.weights import building, read_weights
from flows.storage.digest import file_digest
from kernels.objects.cutout_features import band_views, make_planes
from kernels.objects.star_galaxy_model import StarGalaxyModel
from kernels.objects.star_galaxy_weights import Baselines, build_baselines, build_star_galaxy
from kernels.statistics.class_scores import binary_scores, per_class
from schemas.errors import BadInput

BASELINES = ("locus_cut", "boosted_moments")

_PART = 500


def evaluate_star_galaxy(path: Path, model: str | None = None) -> dict[str, Any]:
    """Score a model on labelled cutouts.

    Parameters
    ----------
    path
        ``.npz`` file, see `flows.inputs.cutout_files.read_cutout_npz`; or, with suffix ``.csv``, the challenge's
        ``galstar.csv``.
    model
        Shipped name or folder. `single_band` takes every plane for an image, without PSFs. Default: `single_band`, for
        ``galstar.csv`` `multi_band`.

    Returns
    -------
    dict
        Those of `kernels.statistics.class_scores.binary_scores` with star as class 1 (``confusion`` is
        ``[truth][said]`` in the order galaxy, star) for the judged cutouts, with ``per_class`` (precision, recall, f1,
        n), ``classes``, ``unknown``: number of cutouts beyond the limits of the training data (scored nevertheless),
        ``unjudged``: number without a usable band (not scored), ``trained_on``: whether the model and the baselines
        have learnt from this very file, ``baselines``: the same scores for each, ``model``.

    Raises
    ------
    BadInput
        The file cannot be read, the model cannot take its cutouts, or none has a usable band (``no_pixels``).
    Misconfigured
        The model does not exist.
    """
    data, usual = _read(path)
    card, arrays = read_weights("star_galaxy", model or usual)
    with building("star_galaxy", model or usual):
        net, baselines = build_star_galaxy(card, arrays), build_baselines(arrays)
    verdicts = net(data.cutouts)
    star = verdicts.probability[:, 0].astype(np.float64)
    judged = np.isfinite(star)
    if not judged.any():
        problem = "has no cutout with enough usable pixels in any band."
        raise BadInput(
            "no_pixels", str(path), problem, "give cutouts with finite pixels, in the planes that the model takes."
        )
    label = data.label[judged]
    others = baseline_odds(net, baselines, data.cutouts)
    return _scores(star[judged], label) | {
        "classes": list(CLASSES),
        "unknown": int((np.nan_to_num(verdicts.outlier, nan=0.0) > 1).sum()),
        "unjudged": int((~judged).sum()),
        "trained_on": _trained_on(path, card.training),
        "baselines": {name: _scores(expit(odds)[judged], label) for name, odds in others.items()},
        "model": net.version,
    }


def _scores(star: NDArray[np.float64], label: NDArray[np.int64]) -> dict[str, Any]:
    scores = binary_scores(star, label)
    return scores | {"per_class": per_class(scores["confusion"], CLASSES)}


def _trained_on(path: Path, training: dict[str, Any]) -> bool:
    return file_digest(path) == training.get("real", {}).get("sha256")


def _read(path: Path) -> tuple[LabelledCutouts, str]:
    """Return cutouts and the model for them."""
    if path.suffix == ".csv":
        return read_galstar(path), "multi_band"
    return read_cutout_npz(path), "single_band"


def baseline_odds(
    model: StarGalaxyModel, baselines: Baselines, cutouts: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Return the log odds of a star according to each baseline, from the model's measurements."""
    bands = model.bands_of(cutouts)
    parts = [
        band_views(make_planes(cutouts[first : first + _PART], bands, model.side))[1:]
        for first in range(0, len(cutouts), _PART)
    ]
    return baselines_of(baselines, *(np.concatenate(one) for one in zip(*parts, strict=True)))


def baselines_of(
    baselines: Baselines, features: NDArray[np.float32], usable: NDArray[np.bool_], has_psf: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Return the same from measurements (n, bands, features): see `kernels.objects.cutout_features.BandViews`."""
    return {
        BASELINES[0]: baselines.locus.log_odds(features, has_psf),
        BASELINES[1]: baselines.trees.log_odds(features, usable, has_psf),
    }

"""Models of stars and galaxies: calibration, limits of novelty, networks, and simple alternatives."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from kernels.nets.cutout_nets import BandSetNet
from kernels.nets.tree_ensemble import TreeEnsemble, tree_logits
from kernels.objects.cutout_features import MOMENTS, OF_PSF, BandViews, Planes, band_views, make_planes
from schemas.errors import BadInput
from schemas.model_card import ModelCard

SETS = ("best", "mean", "least", "greatest")
"""Combinations of the bands' moments that the trees use: see `moments_of`."""

_MOST_SIGNAL = 12.0  # maximum arcsinh of S/N, so that weights stay finite

LEAST_SIDE = 16
"""Minimum side of a cutout, px, to hold a source and the sky around it."""

SIGNAL = 0
"""Index of the arcsinh of S/N among the features."""

_BATCH = 512
_DIRECTIONS = 48  # number of the codes' directions with the largest spread: more would only enlarge the whitening


class MomentTrees(NamedTuple):
    """Trees fitted to the results of `moments_of`."""

    trees: TreeEnsemble

    def log_odds(
        self, features: NDArray[np.float32], usable: NDArray[np.bool_], has_psf: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return the log odds of a star, (n,): see `kernels.objects.cutout_features.BandViews`."""
        return tree_logits(moments_of(features, usable, has_psf), self.trees).astype(np.float64)


class Raw(NamedTuple):
    """Output of a network for n objects: log odds of a star, code of the object, arcsinh of the best S/N."""

    log_odds: NDArray[np.float32]
    codes: NDArray[np.float32]
    signal: NDArray[np.float32]


class Verdicts(NamedTuple):
    """Calibrated probability of (star, galaxy), (n, 2), and outlier score, (n,); NaN without a usable band."""

    probability: NDArray[np.float32]
    outlier: NDArray[np.float32]


@dataclass(frozen=True)
class Known:
    """Region of the training objects among the codes of a network.

    Attributes
    ----------
    centres : (2, codes)
        Mean of each class.
    whitening : (codes, directions)
        Makes the common covariance that of a unit sphere.
    limit
        Distance from the nearer centre that one in a thousand of the validation objects exceeds.
    signal
        arcsinh of the best band's S/N that one in a thousand of them falls below.
    """

    centres: NDArray[np.float32]
    whitening: NDArray[np.float32]
    limit: float
    signal: float

    def distance(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the Mahalanobis distance from the nearer class (Lee et al. 2018, NeurIPS 31), (n,)."""
        away = (codes[:, None] - self.centres) @ self.whitening
        return np.sqrt((away**2).sum(2).min(1))

    def outlier(self, raw: Raw) -> NDArray[np.float32]:
        """Return the outlier score, 1 at the limit: too far away, or too faint to be anything."""
        faint = self.signal / np.maximum(raw.signal, 1e-3)
        return np.maximum(self.distance(raw.codes) / self.limit, faint).astype(np.float32)


@dataclass(frozen=True)
class StarGalaxyModel(ABC):
    """Model with its card, ready for use.

    Attributes
    ----------
    known
        See `Known`.
    slope, offset
        Of the calibrated log odds (Platt 1999).
    psf
        ``with``: the second half of the planes are PSFs; ``without``: every plane is an image.
    side
        Cutouts are cropped or padded to it, px.
    card
        Of the model.
    """

    known: Known
    slope: float
    offset: float
    psf: Literal["with", "without"]
    side: int
    card: ModelCard

    @property
    def version(self) -> str:
        """Return the name and version, for the rows of the catalogue."""
        return f"{self.card.name}-{self.card.version}"

    def __call__(self, cutouts: NDArray[np.float32]) -> Verdicts:
        """Judge cutouts.

        Parameters
        ----------
        cutouts : (n, planes, height, width) float
            Images of the bands, in any unit; then, of a model with PSFs, as many PSF images. NaN is missing; a band
            that is all NaN does not count.

        Raises
        ------
        BadInput
            A shape or type that the model cannot take.
        """
        bands = self.bands_of(cutouts)
        found = Verdicts(np.full((len(cutouts), 2), np.nan, np.float32), np.full(len(cutouts), np.nan, np.float32))
        for first in range(0, len(cutouts), _BATCH):
            part = slice(first, first + _BATCH)
            planes = make_planes(*self.of_interest(cutouts[part], bands), self.side)
            seen = np.asarray(planes.usable.any(1))
            if not seen.any():
                continue
            planes = planes.take(seen)
            raw = self.raw(planes, band_views(planes))
            star = scipy.special.expit(self.slope * raw.log_odds + self.offset)
            found.probability[part][seen] = np.stack([star, 1 - star], 1)
            found.outlier[part][seen] = self.known.outlier(raw)
        return found

    @abstractmethod
    def raw(self, planes: Planes, views: BandViews) -> Raw:
        """Judge objects that have a usable band each, by their images or by what is measured on them."""

    def of_interest(self, cutouts: NDArray[np.float32], bands: int) -> tuple[NDArray[np.float32], int]:
        """Return the planes of the bands that the verdict depends on, and their number: here of all."""
        return cutouts, bands

    def bands_of(self, cutouts: NDArray[np.float32]) -> int:
        """Return the number of bands of cutouts; raise `BadInput` where they cannot be judged."""
        where = "cutouts"
        if cutouts.dtype.kind != "f" or cutouts.ndim != 4:
            problem = f"are {cutouts.dtype} {cutouts.shape}, not floating-point numbers (n, planes, height, width)."
            raise BadInput("bad_cutouts", where, problem, "give them in this form.")
        if min(cutouts.shape[2:]) < LEAST_SIDE:
            problem = f"are {cutouts.shape[2]} x {cutouts.shape[3]} px, less than {LEAST_SIDE} px."
            raise BadInput("small_cutouts", where, problem, "cut them larger.")
        planes = cutouts.shape[1]
        if not planes or (self.psf == "with" and planes % 2):
            problem = f"have {planes} planes, but {self.version} takes the images of its bands and a PSF for each."
            raise BadInput("band_count", where, problem, "give as many PSFs as images; a missing one is all NaN.")
        return planes // 2 if self.psf == "with" else planes


def signals(views: BandViews) -> NDArray[np.float32]:
    """Return the arcsinh of the S/N of each object in its best usable band, (n,)."""
    return best_signal(views.features[..., SIGNAL], views.usable)


def best_signal(signal: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the highest among the usable bands: (n, bands) -> (n,)."""
    return np.where(usable, signal, -np.inf).max(1).astype(np.float32)


def locate_signal(
    codes: NDArray[np.float32], label: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return `Known.centres` and `Known.whitening` of the codes (n, codes) of training objects of both classes.

    The covariance within the classes is widened by 1e-3 of its mean, so that codes that never vary do not count. Of
    more than 48 codes the 48 directions of most spread count.
    """
    centres = np.stack([codes[label == kind].mean(0) for kind in (0, 1)])
    away = (codes - centres[label]).astype(np.float64)
    covariance = away.T @ away / len(codes)
    covariance += 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    value, vector = np.linalg.eigh(covariance)
    return centres.astype(np.float32), (vector / np.sqrt(value)).astype(np.float32)[:, -_DIRECTIONS:]


@dataclass(frozen=True)
class StarGalaxyNet(StarGalaxyModel):
    """Networks, and trees beside them; any number of bands, in any order.

    Attributes
    ----------
    nets
        Members; their log odds are averaged, the codes of the first identify outliers.
    trees, share
        Trees on moments, and the weight of their log odds beside those of the networks, 0 to 1.
    """

    nets: tuple[BandSetNet, ...]
    trees: MomentTrees
    share: float

    def raw(self, planes: Planes, views: BandViews) -> Raw:
        """Apply networks and trees to objects that have a usable band each."""
        return with_trees(apply_nets(self.nets, views), views, self.trees, self.share)

    def of_interest(self, cutouts: NDArray[np.float32], bands: int) -> tuple[NDArray[np.float32], int]:
        """Return the planes of the bands that any of the cutouts has, and their number."""
        there = np.isfinite(cutouts[:, :bands]).any((0, 2, 3))
        return (cutouts, bands) if there.all() else (cutouts[:, np.resize(there, cutouts.shape[1])], int(there.sum()))


def with_trees(said: Raw, views: BandViews, trees: MomentTrees, share: float) -> Raw:
    """Mix the log odds of trees into those of networks, with the weight ``share``."""
    if not share:
        return said
    odds = (1 - share) * said.log_odds + share * trees.log_odds(views.features, views.usable, views.has_psf)
    return said._replace(log_odds=odds.astype(np.float32))


def apply_nets(nets: tuple[BandSetNet, ...], views: BandViews) -> Raw:
    """Return the mean log odds of networks, the codes of the first, and the best S/N of each object."""
    inputs = tuple(torch.from_numpy(np.ascontiguousarray(one)) for one in views)
    with torch.inference_mode():
        said = [net(*inputs) for net in nets]
    odds = torch.stack([one[0] for one in said]).mean(0)
    return Raw(odds.numpy(), said[0][1].numpy(), signals(views))


class PlaneClassifier(Protocol):
    """Network with separate access to its last layer, from codes to the scores of galaxy and star."""

    @property
    def head(self) -> torch.nn.Module:
        """Return the last layer."""

    def codes(self, cutouts: torch.Tensor, /) -> torch.Tensor:
        """Return what goes into it, (n, planes, side, side) -> (n, codes)."""


@dataclass(frozen=True)
class PlaneNet(StarGalaxyModel):
    """Network with a place for each band.

    Attributes
    ----------
    net
        Takes (n, 2 bands, side, side).
    bands
        Number of bands, in the order of the training cutouts. A missing one is all NaN: its planes are zeros.
    """

    net: PlaneClassifier
    bands: int

    def raw(self, planes: Planes, views: BandViews) -> Raw:
        """Apply the network to objects that have a usable band each."""
        said = said_of_planes(self.net, torch.from_numpy(z_scored(planes)))
        return Raw(*said, signals(views))

    def bands_of(self, cutouts: NDArray[np.float32]) -> int:
        """Return the number of bands of cutouts; raise `BadInput` where they cannot be judged."""
        bands = super().bands_of(cutouts)
        if bands != self.bands:
            problem = f"have {cutouts.shape[1]} planes, but {self.version} takes {2 * self.bands}."
            remedy = "give these bands, missing ones all NaN, or take the model multi_band, which takes any."
            raise BadInput("band_count", "cutouts", problem, remedy)
        return bands


def z_scored(planes: Planes) -> NDArray[np.float32]:
    """Return images, then PSFs, each with mean 0 and standard deviation 1 (ddof 0): (n, 2 bands, side, side).

    A plane that is missing or not usable is all zeros; so is the PSF of a band that is not usable. A missing pixel has
    the value of the background.
    """
    pixels = np.concatenate([planes.image, planes.psf], 1)
    away = pixels - pixels.mean((2, 3), keepdims=True)
    spread = away.std((2, 3), keepdims=True)
    kept = np.concatenate([planes.usable, planes.has_psf], 1)[..., None, None] & (spread > 0)
    return np.divide(away, spread, out=np.zeros_like(away), where=kept)


def said_of_planes(net: PlaneClassifier, pixels: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return log odds of a star, (n,), and codes, (n, codes), of z-scored planes."""
    with torch.inference_mode():
        codes = net.codes(pixels)
        scores = net.head(codes)
    return (scores[:, 1] - scores[:, 0]).numpy(), codes.numpy()


def moments_of(
    features: NDArray[np.float32], usable: NDArray[np.bool_], has_psf: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return one set of moments for all bands, whatever their number and order.

    Parameters
    ----------
    features : (n, bands, features)
        See `kernels.objects.cutout_features.FEATURES`; the first are the moments.
    usable, has_psf : (n, bands)
        Which bands count, and which of them with PSF.

    Returns
    -------
    (n, 4 moments + 2) float32
        Moments in the band of highest S/N; their mean over the bands, weighted by S/N squared; the least; the greatest;
        then the numbers of bands and of PSFs. Those that need a PSF are 0 in a band without; the mean leaves it out.
    """
    kept = features[..., : len(MOMENTS)].astype(np.float32)
    psf = has_psf & usable
    kept[..., OF_PSF:] *= psf[..., None]
    signal = np.where(usable, kept[..., 0], -np.inf)
    best = np.take_along_axis(kept, signal.argmax(1)[:, None, None], 1)[:, 0]
    weight = np.where(usable, np.square(np.sinh(np.clip(kept[..., 0], 0, _MOST_SIGNAL))) + 1e-3, 0)
    mean = np.concatenate([_mean(kept[..., :OF_PSF], weight), _mean(kept[..., OF_PSF:], np.where(psf, weight, 0))], 1)
    there, any_there = usable[..., None], usable.sum(1)[:, None] > 0
    edges = [np.where(there, kept, np.inf).min(1), np.where(there, kept, -np.inf).max(1)]
    numbers = [usable.sum(1)[:, None], psf.sum(1)[:, None]]
    found = np.concatenate([best, mean, *edges, *numbers], 1)
    return np.ascontiguousarray(np.where(any_there, found, 0), np.float32)


def _mean(values: NDArray[np.float32], weight: NDArray[np.floating]) -> NDArray[np.floating]:
    total = weight.sum(1)[:, None]
    return (values * weight[..., None]).sum(1) / np.where(total > 0, total, 1)


class LocusCut(NamedTuple):
    """Cut by size: a star is smaller than ``level + slope * signal``.

    ``signal`` is arcsinh of the S/N of the object's best band, size there is ln of its width, against the PSF's
    where one is known.
    """

    level: float
    slope: float

    def log_odds(self, features: NDArray[np.float32], has_psf: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return how far below the cut each object lies, (n, bands, features) -> (n,)."""
        signal, size = locus(features, has_psf)
        return self.level + self.slope * signal - size


def locus(features: NDArray[np.float32], has_psf: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return signal and size of each object in its best band."""
    best = features[..., MOMENTS.index("signal")].argmax(1)
    row = features[np.arange(len(features)), best].astype(np.float64)
    ratio = row[:, MOMENTS.index("size_ratio")]
    size = np.where(has_psf[np.arange(len(best)), best], ratio, row[:, MOMENTS.index("size")])
    return row[:, MOMENTS.index("signal")], size


def fit_locus(signal: NDArray[np.float64], size: NDArray[np.float64], star: NDArray[np.bool_]) -> LocusCut:
    """Find the cut of the highest accuracy on a grid: every slope from -0.3 to 0.3, every level between two objects."""
    best, found = -1, LocusCut(0.0, 0.0)
    for slope in np.linspace(-0.3, 0.3, 61):
        height = size - slope * signal
        order = np.argsort(height)
        # Right, if the cut lies above the first k objects: stars among them, galaxies among the others.
        right = (
            np.concatenate([[0], np.cumsum(star[order])])
            + (~star).sum()
            - np.concatenate([[0], np.cumsum(~star[order])])
        )
        k = int(right.argmax())
        if right[k] > best:
            ordered = height[order]
            edges = np.concatenate([[ordered[0] - 0.01], (ordered[1:] + ordered[:-1]) / 2, [ordered[-1] + 0.01]])
            best, found = int(right[k]), LocusCut(float(edges[k]), float(slope))
    return found

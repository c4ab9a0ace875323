"""Published catalogues of a night with its truth and its pixels."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.results.evaluation.evaluate import Detections, Image, Truth
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import TileStore
from kernels.psf.gaussian_mixture import GaussianMixture, moffat_mixture
from kernels.trails.matched_filter import oracle_snr
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureInfo, ExposureKey
from schemas.pixels import UNUSABLE

_PIXEL_VARIANCE = 1 / 12
_REACH_FWHM = 5.0
"""Half-width of a cutout beyond the ends of the trail, in FWHM."""


def searched_exposures(out: Path) -> tuple[ExposureKey, ...]:
    """Return the exposures of OUT that were searched, with or without detections.

    Raises
    ------
    Misconfigured
        There are none.
    """
    keys = tuple(record.key for record in Ledger(out).records() if record.status == "done")
    if not keys:
        raise Misconfigured(
            "nothing_searched",
            str(out),
            "has no exposure that was searched.",
            "give the --out folder of a `nightstride run` that has finished.",
        )
    return keys


def read_image(out: Path, key: ExposureKey, truth: Truth) -> Image:
    """Return an exposure with its detections, its truth, and the oracle's measurements.

    Raises
    ------
    BadInput
        Its catalogue cannot be read.
    Misconfigured
        The truth lacks the S/N of its streaks, and the pixels to measure it on were removed.
    """
    here = truth.on(key.visit, key.detector)
    detections = evaluated(CatalogStore(out).read(DIA_SOURCE, key))
    try:
        store = TileStore.open(tile_path(out, key))
    except BadInput as error:  # tiles are removed before catalogues
        if np.isnan(here.snr[here.kind == "streak"]).any():
            raise Misconfigured(
                "no_snr",
                "--truth",
                f"does not tell the S/N of the streaks on {key.name}, whose pixels are no longer there to tell it.",
                "search it again, or give a truth table with a column snr.",
            ) from error
        return Image(detections, here)
    area = store.info.shape[0] * store.info.shape[1] * (1 - store.info.masked_fraction)
    seen = oracle_snrs(store, here)
    return Image(detections, with_measured_snr(here, seen), seen, area)


def with_measured_snr(truth: Truth, measured: NDArray[np.float64]) -> Truth:
    """Return the truth of an image, with the S/N measured by the oracle for streaks without one.

    A streak without any usable pixel is not visible.
    """
    unknown = (truth.kind == "streak") & np.isnan(truth.snr)
    seen = np.isfinite(measured)
    return replace(
        truth,
        snr=np.where(unknown, np.where(seen, measured, 0.0), truth.snr),
        visible=np.where(unknown & ~seen, 0.0, truth.visible),
    )


def evaluated(table: pa.Table) -> Detections:
    """Return the columns of `dia_source` used by the evaluation."""
    names = ("x", "y", "reliability", "snr", "trailLengthPx", "trailAnglePx")
    classed = np.array([name != "" for name in table["trailClass"].to_pylist()], np.bool_)
    x, y, score, snr, length, angle = (table[name].to_numpy().astype(np.float64) for name in names)
    return Detections(x, y, score, snr, length, angle, classed)


def oracle_snrs(store: TileStore, truth: Truth) -> NDArray[np.float64]:
    """Return the S/N measured by the oracle for each source on an exposure; NaN for sources other than streaks."""
    return np.array(list(_oracle(store, truth)), float)


def _oracle(store: TileStore, truth: Truth) -> Iterator[float]:
    correlation = np.array(store.info.noise_correlation, float)
    for i in range(len(truth)):
        if truth.kind[i] != "streak":
            yield np.nan
            continue
        psf = _psf(store.info, truth.fwhm[i], truth.beta[i])
        pixels, usable, place = _cutout(store, truth.x[i], truth.y[i], truth.length[i])
        yield oracle_snr(pixels, usable, place, truth.length[i], truth.angle[i], psf, store.info.noise, correlation)


def _psf(info: ExposureInfo, fwhm: float, beta: float) -> GaussianMixture:
    """Return the PSF of the truth, or else of the exposure."""
    if not np.isfinite(fwhm):
        return moffat_mixture(info.psf.fwhm_px, info.psf.beta)
    weights, sigmas, _ = moffat_mixture(fwhm, beta if np.isfinite(beta) else info.psf.beta)
    # The width in the truth is that in the image, which already includes the pixels.
    return GaussianMixture(weights, np.sqrt(np.square(sigmas) - _PIXEL_VARIANCE))


def _cutout(
    store: TileStore, x: float, y: float, length: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_], tuple[float, float]]:
    """Return the pixels around a streak minus background, which of them are usable, and its position among them."""
    (ny, nx), half = store.info.shape, int(np.ceil(length / 2 + _REACH_FWHM * store.info.psf.fwhm_px)) + 1
    column, row = round(float(np.clip(x, 0, nx - 1))), round(float(np.clip(y, 0, ny - 1)))
    box = (max(row - half, 0), max(column - half, 0), min(row + half + 1, ny), min(column + half + 1, nx))
    pixels = store.read("difference", *box).astype(np.float64) - store.info.background
    usable = np.isfinite(pixels) & ((store.read("mask", *box) & UNUSABLE) == 0)
    return pixels, usable, (x - box[1], y - box[0])


def nights_judged(truth: Truth, keys: Collection[ExposureKey], out: Path) -> frozenset[str]:
    """Return the nights with an image in a truth table: detections in other nights cannot be judged.

    An image of these nights without a row has no sources. An empty table covers every night.

    Raises
    ------
    Misconfigured
        Truth and night have no image in common.
    """
    nights = frozenset(key.night for key in keys if not truth.images or (key.visit, key.detector) in truth.images)
    if not nights:
        visit, detector = min(truth.images)
        raise Misconfigured(
            "other_truth",
            "--truth",
            f"holds none of the {len(keys)} images of {out}; its first is visit {visit}, detector {detector}.",
            "give the truth of this night; files of the LLNL challenge belong together by the number in their names.",
        )
    return nights

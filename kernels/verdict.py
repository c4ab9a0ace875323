"""The columns behind the verdict on a candidate."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.dia_source import CAUSES, DetectionFlag
from schemas.reliability import FEATURES, RESIDUALS, STATIC


def feature_matrix(
    table: pa.Table, fwhm_px: float, residuals: NDArray[np.float32], static: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Give what the model ``reliability`` sees of each candidate.

    Parameters
    ----------
    table
        Measured candidates, columns of `schemas.dia_source`; N rows.
    fwhm_px
        FWHM of the exposure's PSF, px.
    residuals : (N, len(RESIDUALS)) float32
        See `kernels.residual`.
    static : (N, len(STATIC)) float32
        See `kernels.static_light`.

    Returns
    -------
    (N, len(FEATURES)) float32
        In the order and by the rules of `schemas.reliability`.
    """

    def values(name: str) -> NDArray[np.float64]:
        return np.nan_to_num(table[name].to_numpy().astype(float), nan=0.0, posinf=0.0, neginf=0.0)

    flags = table["flags"].to_numpy()
    pixels = np.maximum(values("trailNdata"), 1)
    by_name = {
        "log_logit_sum": np.log1p(np.maximum(values("logitSum"), 0)),
        "logit_peak": values("logitPeak"),
        "log_hits": np.log1p(values("nHits")),
        "log_snr": np.log1p(np.maximum(values("snr"), 0)),
        "log_length": np.log1p(values("trailLengthPx") / fwhm_px),
        "trail_misfit": _misfit(values("trailChi2"), pixels, values("snr")),
        "psf_misfit": _misfit(values("psfChi2"), pixels, values("snr")),
        "log_sharpness": np.log1p(np.maximum(values("sharpness"), 0)),
        "negative_fraction": values("negativeFraction"),
        "masked_fraction": values("maskedFraction"),
        "near_bright_star": (flags & DetectionFlag.NEAR_BRIGHT_STAR) != 0,
        "dipole": (flags & DetectionFlag.DIPOLE) != 0,
        "fit_failed": (flags & DetectionFlag.FIT_FAILED) != 0,
        "log_fwhm": np.full(len(table), np.log(fwhm_px)),
    }
    by_name |= {f"{name}Evidence": values(f"{name}Evidence") for name, _, _ in CAUSES}
    by_name |= dict(zip(RESIDUALS, residuals.T, strict=True)) | dict(zip(STATIC, static.T, strict=True))
    return np.stack([by_name[name] for name in FEATURES], axis=1).astype(np.float32)


def _misfit(chi2: NDArray[np.float64], pixels: NDArray[np.float64], snr: NDArray[np.float64]) -> NDArray[np.float64]:
    excess = np.sqrt(np.maximum(chi2 - pixels - 3 * np.sqrt(2 * pixels), 0.0))
    return np.minimum(excess / np.maximum(snr, 3.0), 3.0)

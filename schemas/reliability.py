"""What the verdict on a candidate is based on."""

FEATURES = (
    "log_logit_sum",
    "logit_peak",
    "log_hits",
    "log_snr",
    "log_length",
    "trail_misfit",
    "psf_misfit",
    "log_sharpness",
    "negative_fraction",
    "masked_fraction",
    "near_bright_star",
    "dipole",
    "fit_failed",
)
"""Columns of the feature matrix of the model ``reliability``, in this order.

log is log1p of: logitSum clipped at 0; nHits; snr clipped at 0; trailLengthPx over the PSF's FWHM; sharpness clipped
at 0. A misfit is the part of the light that a model leaves over: the root of what chi2 exceeds its expectation by
(three standard deviations granted), over snr, clipped at 3. Unlike chi2 it does not grow with the brightness of the
source when the PSF is not quite that of the image. The last three are 0 or 1, from ``flags``. Nulls count as 0.
"""

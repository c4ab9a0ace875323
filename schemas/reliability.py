"""What the verdict on a candidate is based on."""

FEATURES = (
    "log_logit_sum",
    "logit_peak",
    "log_hits",
    "log_snr",
    "log_length",
    "log_trail_chi2",
    "log_psf_chi2",
    "log_sharpness",
    "negative_fraction",
    "masked_fraction",
    "near_bright_star",
    "dipole",
)
"""Columns of the feature matrix of the model ``reliability``, in this order.

log is log1p of: logitSum clipped at 0; nHits; snr clipped at 0; trailLengthPx over the PSF's FWHM; trailChi2 / trailNdata;
psfChi2 / trailNdata; sharpness clipped at 0. The last two are 0 or 1, from ``flags``. Nulls count as 0.
"""

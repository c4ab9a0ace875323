"""What the verdict on a candidate is based on."""

from schemas.dia_source import CAUSES

RESIDUALS = (
    "core_misfit",
    "peak_misfit",
    "near_misfit",
    "far_misfit",
    "dark_misfit",
    "ringing_x",
    "ringing_y",
    "broadness",
    "halo",
    "imbalance",
    "hollowness",
)
"""What a fitted trail leaves over; see `kernels.residual`.

A misfit is the log of the mean squared residual, in units of the noise: weighted by the trail, by its square, within
one FWHM of its axis and beyond, and, as log1p, of dark pixels about it. The others are amplitudes of patterns in the
residual, in standard deviations of white noise: the trail with signs that alternate from column to column, and from
row to row; a wider trail and a much wider one, less what its flux explains; one half against the other; the ends
against the middle.
"""

STATIC = ("log_static", "log_static_peak", "static_unknown")
"""What the science image shows beneath a trail that the difference image does not; see `kernels.static_light`.

Mean light, weighted by the trail, and the brightest pixel of its core, above the level around and in units of the
difference image's noise, each as log1p and clipped at 0; and 1 where there is no science image to tell, or less than
half of the trail is seen: then both are 0.
"""

UNKNOWN = (0.0, 0.0, 1.0)
"""`STATIC` where there is nothing to tell by."""

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
    *(f"{name}Evidence" for name, _, _ in CAUSES),
    "log_fwhm",
    *RESIDUALS,
    *STATIC,
)
"""Columns of the feature matrix of the model ``reliability``, in this order.

log is log1p of: logitSum clipped at 0; nHits; snr clipped at 0; trailLengthPx over the PSF's FWHM; sharpness clipped
at 0. A misfit is the part of the light that a model leaves over: the root of what chi2 exceeds its expectation by
(three standard deviations granted), over snr, clipped at 3. Unlike chi2 it does not grow with the brightness of the
source when the PSF is not quite that of the image. near_bright_star, dipole and fit_failed are 0 or 1, from ``flags``;
the evidence is that of `kernels.vetoes.evidence`; log_fwhm is the log of the PSF's FWHM, px. Nulls count as 0.
"""

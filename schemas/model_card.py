"""What a model's weights are and how they came about, and what the reliability is based on."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.dia_source import CAUSES


class ModelCard(BaseModel):
    """Card beside the weights of a model, as ``<name>.json`` next to ``<name>.safetensors``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    name: str
    version: str
    sha256: str = Field(description="Of the weights file.")
    input: dict[str, Any] = Field(description="Shape, bands, dtype and normalisation of what goes in.")
    classes: tuple[str, ...]
    training: dict[str, Any] = Field(description="Data, their digest and licence, split, seed, epochs, command.")
    metrics: dict[str, Any] = Field(description="Measured on the test split, with intervals.")
    calibration: dict[str, Any] = Field(default_factory=dict)
    threshold: float = Field(description="Default operating threshold.")
    false_alarm_rate: str = Field(description="What the threshold was set at, and on which data.")
    licence: str = "BSD-3-Clause"

    def least_reliability(self, science: bool) -> float:
        """Return the threshold of a verdict on an exposure with a science image, or on one without.

        Without, more is in doubt, and as many false detections per image pass at a higher threshold.
        """
        return self.threshold if science else float(self.calibration.get("threshold_without_science", self.threshold))


STAMP_SIDE = 32
"""Side of a picture of a candidate, px."""

STAMP_CHANNELS = 6
"""Pictures of a candidate."""

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
"""What a fitted trail leaves over; see `kernels.measure.surroundings`.

A misfit is the log of the mean squared residual, in units of the noise: weighted by the trail, by its square, within
one FWHM of its axis and beyond, and, as log1p, of dark pixels about it. The others are amplitudes of patterns in the
residual, in standard deviations of white noise: the trail with signs that alternate from column to column, and from
row to row; a wider trail and a much wider one, less what its flux explains; one half against the other; the ends
against the middle.
"""

STATIC = ("log_static", "log_static_peak", "static_unknown")
"""What the science image shows beneath a trail that the difference image does not; see `kernels.measure.surroundings`.

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
the evidence is that of `kernels.measure.vetoes.evidence`; log_fwhm is the log of the PSF's FWHM, px. Nulls count as 0.
"""

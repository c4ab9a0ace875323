"""Detections on a difference image: hits, candidates, measured rows, and the features behind their reliability."""

from dataclasses import dataclass
from enum import IntFlag
from math import prod

import pyarrow as pa

from schemas.dataset import DatasetError, TableOf, column, quantity
from schemas.pixels import WHOLE_PIXELS, SearchGrid


class DetectionFlag(IntFlag):
    """Bits of ``flags`` in `dia_source`.

    - EDGE (1): the trail or its aperture touches the border of the image.
    - SATURATED (2): saturated pixels inside the footprint.
    - MASKED (4): other unusable pixels inside the footprint.
    - DIPOLE (8): a negative lobe of comparable strength beside the positive one.
    - NEAR_BRIGHT_STAR (16): beside a large saturated or masked area.
    - FIT_FAILED (32): the trail fit did not converge; trail columns hold the first estimate, and errors are null.
    - NO_WCS (64): sky columns are null.
    - NO_ZERO_POINT (128): flux columns are null.
    - CROSSES_DETECTOR (256): the trail is too long for a Solar System object, or leaves the image.
    - SPIKE (512): starts at a masked star and points at its centre.
    - BLEED (1024): starts at a masked star and lies on its column.
    - COSMIC_RAY (2048): sharper than the PSF allows.
    - HOT_COLUMN (4096): its column or row is also bright beyond its ends.
    - GHOST (8192): hardly brighter than its surroundings on either side.
    - SATELLITE (16384): is, or lies across, the trail of a satellite or aeroplane.
    - ASSUMED_PSF (32768): neither the header nor stars gave the PSF, or the header has no unit for its width; fluxes,
      lengths and reliability rest on a guess.
    - ASSUMED_TIME (65536): time keywords contradict each other by up to one exposure and a minute.
    - ASSUMED_GAIN (131072): the unit of the gain or of the pixels was assumed; it affects the errors of bright sources.
    - ASSUMED_SITE (262144): the longitude of the site was assumed; the night may be wrong.
    - NO_TIME (524288): the time is not known; midpointMjdTai is that of 2000-01-01, or null for arrays.
    - UNKNOWN_UNIT (1048576): the unit of the pixels is not known; errors do not include their Poisson noise.
    - PSF_DIFFERS (2097152): the PSF of the header differs from that of the stars, which was used, by more than 25 %.
    - HIGH_BACKGROUND (4194304): the background is far from 0, as in a science image; stars may be among the detections.
    """

    EDGE = 1
    SATURATED = 2
    MASKED = 4
    DIPOLE = 8
    NEAR_BRIGHT_STAR = 16
    FIT_FAILED = 32
    NO_WCS = 64
    NO_ZERO_POINT = 128
    CROSSES_DETECTOR = 256
    SPIKE = 512
    BLEED = 1024
    COSMIC_RAY = 2048
    HOT_COLUMN = 4096
    GHOST = 8192
    SATELLITE = 16384
    ASSUMED_PSF = 32768
    ASSUMED_TIME = 65536
    ASSUMED_GAIN = 131072
    ASSUMED_SITE = 262144
    NO_TIME = 524288
    UNKNOWN_UNIT = 1048576
    PSF_DIFFERS = 2097152
    HIGH_BACKGROUND = 4194304


def exposure_of(source_id: int) -> tuple[int, int]:
    """Return visit and detector of a diaSourceId."""
    return source_id >> 21, source_id >> 12 & 0x1FF


CAUSES = (
    ("spike", DetectionFlag.SPIKE, "a diffraction spike"),
    ("bleed", DetectionFlag.BLEED, "charge bled along the column of a saturated star"),
    ("dipole", DetectionFlag.DIPOLE, "a dipole of the subtraction"),
    ("cosmicRay", DetectionFlag.COSMIC_RAY, "a cosmic ray"),
    ("hotColumn", DetectionFlag.HOT_COLUMN, "a hot or bad column or row"),
    ("ghost", DetectionFlag.GHOST, "a ghost, a halo or other smooth light"),
    ("edge", DetectionFlag.EDGE, "an edge of the image"),
)
"""Known causes of false streaks: name, flag, meaning. Column ``<name>Evidence``; from 1 on the flag is set."""

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
"""Residuals after the fit of a trail; see `kernels.measure.surroundings`.

A misfit is the log of the mean squared residual, in units of the noise: weighted by the trail, by its square, within
one FWHM of its axis and beyond, and, as log1p, of dark pixels about it. The others are amplitudes of patterns in the
residual, in standard deviations of white noise: the trail with signs that alternate from column to column, and from
row to row; a wider trail and a much wider one, less what its flux explains; one half against the other; the ends
against the middle.
"""

STATIC = ("log_static", "log_static_peak", "static_unknown", "log_left")
"""Light on the science image beneath a trail that the difference image lacks; see `kernels.measure.surroundings`.

Mean light, weighted by the trail, and the brightest pixel of its core, above the surrounding level and in units of the
difference image's noise, each as log1p and clipped at 0; 1 if there is no science image or less than half of the trail
is visible on it, and the others are then 0; log1p of the S/N that the trail would have if it were the usual residual of
that light after subtraction, see `kernels.measure.star_residue`.
"""

UNKNOWN = (0.0, 0.0, 1.0, 0.0)
"""Values of `STATIC` without a science image."""

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

log is log1p of: logitSum clipped at 0; nHits; the S/N of the trail fit (position, length and angle free) clipped at 0;
trailLengthPx over the PSF's FWHM; sharpness clipped at 0. A misfit is the fraction of the light that a model leaves
over: the root of the excess of chi2 over its expectation (allowing for three standard deviations), over that S/N,
clipped at 3. Unlike chi2 it does not grow with the brightness of the source if the PSF is not exactly the image's.
near_bright_star, dipole and fit_failed are 0 or 1, from ``flags``; the evidence is that of
`kernels.measure.vetoes.evidence`; log_fwhm is the log of the PSF's FWHM, px. Nulls count as 0.
"""


KINDS = ("trail", "point", "satellite")
"""Kinds of real sources of light: moved by half of the PSF's FWHM or more; did not (transient, variable, slow mover);
satellite or aeroplane. Columns ``pTrail``, ``pPoint``, ``pSatellite``, ``pArtefact``, which sum to 1."""


def _evidence(name: str, flag: DetectionFlag, meaning: str) -> pa.Field:
    return quantity(f"{name}Evidence", "", f"Evidence for {meaning}: 0 to 2.5, {flag.name} from 1 on.", nullable=False)


DIA_SOURCE = TableOf(
    "dia_source",
    pa.schema(
        [
            column("diaSourceId", pa.int64(), "", "visit (42 bits) | detector (9) | rank by (y, x) (12)."),
            column("visit", pa.int64(), "", "Visit."),
            column("detector", pa.int32(), "", "Detector; ZTF: readout channel, 4 (ccdid - 1) + qid - 1."),
            column("x", pa.float64(), "pix", "Centre of the trail, 0-based column coordinate."),
            column("y", pa.float64(), "pix", "Centre of the trail, 0-based row coordinate."),
            quantity("xErr", "pix", "Standard error of x."),
            quantity("yErr", "pix", "Standard error of y."),
            quantity("x_y_Cov", "pix2", "Covariance of x and y."),
            column("ra", pa.float64(), "deg", "Right ascension (ICRS) of the centre; null without WCS.", nullable=True),
            column("dec", pa.float64(), "deg", "Declination (ICRS) of the centre; null without WCS.", nullable=True),
            quantity("raErr", "deg", "Standard error of ra times cos(dec)."),
            quantity("decErr", "deg", "Standard error of dec."),
            quantity("ra_dec_Cov", "deg2", "Covariance of ra cos(dec) and dec."),
            column("midpointMjdTai", pa.float64(), "d", "Middle of the exposure, MJD TAI."),
            quantity("exposureTime", "s", "Length of the exposure; null if not known."),
            column("band", pa.string(), "", "Filter band."),
            quantity("psfFlux", "nJy", "Flux of a point-source fit at the centre."),
            quantity("psfFluxErr", "nJy", "Its standard error."),
            quantity("apFlux", "nJy", "Flux inside a rectangular aperture along the trail."),
            quantity("apFluxErr", "nJy", "Its standard error."),
            quantity("trailFlux", "nJy", "Flux of the PSF-convolved trail fit."),
            quantity("trailFluxErr", "nJy", "Its standard error."),
            quantity("magAB", "mag(AB)", "AB magnitude of trailFlux and psfFlux, weighted by how likely a trail is."),
            quantity("magABErr", "mag", "Its standard error."),
            quantity("snr", "", "Larger of the matched-filter S/N as a point and as the fitted trail.", nullable=False),
            column("trailRa", pa.float64(), "deg", "Right ascension of the trail's centre.", nullable=True),
            column("trailDec", pa.float64(), "deg", "Declination of the trail's centre.", nullable=True),
            quantity("trailLength", "arcsec", "Length of the trail."),
            quantity("trailLengthErr", "arcsec", "Its standard error."),
            quantity("trailAngle", "deg", "Position angle from north through east, modulo 180."),
            quantity("trailAngleErr", "deg", "Its standard error."),
            quantity("trailLengthPx", "pix", "Length of the trail in pixels.", nullable=False),
            quantity("trailLengthPxErr", "pix", "Its standard error."),
            quantity("trailAnglePx", "deg", "Angle from +x towards +y, modulo 180.", nullable=False),
            quantity("trailAnglePxErr", "deg", "Its standard error."),
            column(
                "trailCov",
                pa.list_(pa.float64(), 25),
                "",
                "Covariance of (flux in pixel units, x, y, length in px, angle in deg), row by row.",
                nullable=True,
            ),
            quantity("trailChi2", "", "Chi squared of the trail fit."),
            column("trailNdata", pa.int32(), "", "Pixels in the trail fit."),
            quantity("psfChi2", "", "Chi squared of a point-source fit to the same pixels."),
            quantity(
                "sharpness",
                "",
                "Light within 0.75 px of the trail's axis over that of the model: 1 like the PSF, > 1 sharper.",
            ),
            quantity(
                "negativeFraction",
                "",
                "Negative over positive flux beyond 2 sigma near the trail: about 1 for a dipole.",
            ),
            quantity("maskedFraction", "", "Share of unusable pixels in the footprint.", nullable=False),
            *(_evidence(*cause) for cause in CAUSES),
            column(
                "trailClass",
                pa.string(),
                "",
                "satellite (too long for an asteroid, across the image, or of 60 px and pSatellite above 0.5), "
                "glint_trail (flashes in line), else empty.",
            ),
            quantity("logitSum", "", "Summed logits of the candidate.", nullable=False),
            quantity("logitPeak", "", "Largest logit of the candidate.", nullable=False),
            column("nHits", pa.int32(), "", "Windows above the floor."),
            quantity("reliability", "", "Calibrated probability of being real, 0 to 1.", nullable=False),
            column("reliabilityVersion", pa.string(), "", "Models behind reliability."),
            quantity("pTrail", "", "Probability of a moving object that left a trail (half the PSF's FWHM or more)."),
            quantity("pPoint", "", "Probability of a point: a transient, a variable star or a slow mover."),
            quantity("pSatellite", "", "Probability of a satellite or an aeroplane."),
            quantity("pArtefact", "", "1 - reliability; null, as the three before, where the model has no classes."),
            column(
                "flags",
                pa.int32(),
                "",
                "Bits: " + ", ".join(f"{flag.value} {flag.name}" for flag in DetectionFlag) + ".",
            ),
            column("bboxSize", pa.int32(), "pix", "Side of the square that holds the trail with its PSF."),
        ]
    ),
    product=True,
    ids="diaSourceId",
)


STREAK = TableOf(
    "streak",
    pa.schema(
        [
            column("x", pa.float64(), "pix", "Centre, 0-based column coordinate."),
            column("y", pa.float64(), "pix", "Centre, 0-based row coordinate."),
            column("length", pa.float32(), "pix", "First estimate of the trail's length; 0 for a point."),
            column("angle", pa.float32(), "deg", "First estimate of its angle, from +x towards +y, modulo 180."),
            column("snr", pa.float32(), "", "Matched-filter signal to noise of the best template."),
            column("logitSum", pa.float32(), "", "Sum of the logits of its windows above the floor."),
            column("logitPeak", pa.float32(), "", "Largest logit among them."),
            column("nHits", pa.int32(), "", "Number of those windows."),
            column(
                "trailClass",
                pa.string(),
                "",
                "satellite: too long for an asteroid, or across the image; glint_trail: flashes in line; else empty.",
            ),
            column(
                "halfWidth", pa.float32(), "pix", "How far from it its light spoils other detections; 0 if no class."
            ),
        ]
    ),
)


HIT = TableOf(
    "hit",
    pa.schema(
        [
            column("row", pa.int32(), "", "Row of the window on the exposure's grid; its first pixel is row*stride."),
            column("column", pa.int32(), "", "Column of the window on the exposure's grid."),
            column("logit", pa.float32(), "", "Log odds that the window holds an asteroid, from the network."),
        ]
    ),
)

MOST_HITS = 30_000
"""Maximum number of hits on an exposure, as from 5,000 sources; on a large one, for each `WHOLE_PIXELS` pixels."""


SEGMENT_COLUMNS = ("x", "y", "trailLengthPx", "trailAnglePx", "snr")
"""Columns of `DIA_SOURCE` with the geometry and significance of a trail."""


def most_hits(shape: tuple[int, int]) -> int:
    """Return the largest number of hits that an image of (ny, nx) px may have."""
    return max(MOST_HITS, MOST_HITS * prod(shape) // WHOLE_PIXELS)


@dataclass(frozen=True)
class SearchCounts:
    """Counts for the hits of one tile or several.

    Attributes
    ----------
    windows, unscored
        Number of positions searched, and number of those without a score (masked or without spread).
    grid
        Grid of the positions.
    """

    windows: int
    unscored: int
    grid: SearchGrid

    def __add__(self, other: "SearchCounts") -> "SearchCounts":
        """Return the sums of two counts, which must have the same grid."""
        if self.grid != other.grid:
            raise DatasetError(f"hits of two grids cannot be joined: {self.grid} and {other.grid}")
        return SearchCounts(self.windows + other.windows, self.unscored + other.unscored, self.grid)

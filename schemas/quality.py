"""Quality of a night in each band: settings, measures and verdicts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

EVERY_BAND = "all"
"""Key of the limits of all bands."""

Bounds = tuple[float | None, float | None]

QUALITY_VERSION = 1
"""Version of the record. A reader refuses a later one."""

Verdict = Literal["pass", "warn", "fail", "no_history"]
"""Verdicts. ``no_history``: no limit is set, and there are too few earlier nights for a comparison."""

SEVERITY: tuple[Verdict, ...] = ("pass", "no_history", "warn", "fail")


@dataclass(frozen=True)
class Metric:
    """Quality metric of a night.

    Attributes
    ----------
    words
        Description.
    worse
        Side of the usual value on which a night is worse.
    of_search
        Whether the metric depends on models and settings of the search.
    remedy
        What to check if the value is unusual.
    """

    words: str
    worse: Literal["high", "low", "both"]
    of_search: bool
    remedy: str


METRICS = {
    "seeing": Metric(
        "FWHM of the PSF",
        "high",
        False,
        "look at focus, guiding and the weather; a header's width that is not the image's does the same.",
    ),
    "depth": Metric(
        "5 sigma depth of a point source",
        "low",
        False,
        "look at clouds, moonlight and the zero points.",
    ),
    "zero_point": Metric("zero point", "both", False, "look at clouds and at the photometric calibration."),
    "noise": Metric(
        "noise of a pixel",
        "both",
        False,
        "look at moonlight, the references, and the scale of the pixels.",
    ),
    "subtraction_residual": Metric(
        "share of bright stars' light that a template leaves",
        "high",
        False,
        "look at the alignment of the templates, their age, and the seeing.",
    ),
    "limiting_magnitude": Metric(
        "magnitude of half recovered",
        "low",
        True,
        "look at seeing, depth and zero point; if these are as ever, at the model and its threshold.",
    ),
    "snr_of_half": Metric(
        "S/N of half recovered",
        "high",
        True,
        "look at the model, its threshold and the PSFs; it does not depend on the depth of the images.",
    ),
    "detections": Metric("published detections", "both", True, "look at the night page, and at the fields observed."),
    "expected_false": Metric(
        "sum of 1 - reliability",
        "high",
        True,
        "look at the detections of low reliability on the night page.",
    ),
    "negated_false": Metric(
        "false detections, counted on negated images",
        "high",
        True,
        "look at the subtraction: what is found there is dark in the image as it is.",
    ),
    "bright_star_excess": Metric(
        "detections around bright stars beyond those elsewhere",
        "high",
        True,
        "look at the subtraction of bright stars and at the masks of the saturated ones.",
    ),
    "galaxy_core_excess": Metric(
        "detections on galaxy cores beyond those elsewhere",
        "high",
        True,
        "look at the subtraction of galaxies; supernovae and active nuclei are there, too.",
    ),
    "known_recovered": Metric(
        "share of known objects that are found where they are predicted",
        "low",
        True,
        "look at clocks, at the astrometry and at the date of the orbits; if these are right, at the search.",
    ),
    "refused": Metric(
        "candidates refused with a known cause",
        "high",
        True,
        "see on the night page which cause it is.",
    ),
    "cosmic_rays": Metric(
        "candidates refused as cosmic rays",
        "high",
        True,
        "look at the exposure times, and at the masks of the archive.",
    ),
}
"""Name in the settings -> metric."""


class QualityPart(BaseModel):
    """Part of a `QualityRecord`; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Measure(QualityPart):
    """Value of a metric for a night in a band. A missing value has a reason."""

    metric: str
    unit: str
    n: Annotated[int, Field(ge=0, description="Exposures, or synthetic streaks, behind it.")]
    value: float | None = None
    error: Annotated[float | None, Field(ge=0, description="Standard error.")] = None
    reason: Annotated[str, Field(description="Why there is no value.")] = ""


class Sketch(QualityPart):
    """Histogram of a feature on the fixed bins of `kernels.statistics.drift`: pairs of bin and count."""

    feature: str
    counts: tuple[tuple[int, int], ...]

    @property
    def n(self) -> int:
        """Return the number of values."""
        return sum(count for _, count in self.counts)


class BandMeasures(QualityPart):
    """Metrics of a night in a band of an instrument."""

    instrument: str
    band: str
    exposures: Annotated[int, Field(ge=1, description="Looked at; of a large night a part, evenly spread.")]
    search: Annotated[str, Field(description="Digest of what it was searched with; empty: not one and the same.")]
    models: Annotated[tuple[str, ...], Field(description="Name, version and SHA-256 of the search's models.")]
    measures: tuple[Measure, ...]
    sketches: tuple[Sketch, ...]

    def measure(self, metric: str) -> Measure | None:
        """Return the measure of a metric."""
        return next((one for one in self.measures if one.metric == metric), None)


class Gate(QualityPart):
    """Verdict on one value."""

    metric: str
    verdict: Verdict
    value: float | None
    unit: str
    limits: Annotated[tuple[float | None, float | None], Field(description="Limits of the settings.")] = (None, None)
    median: Annotated[float | None, Field(description="Median of the earlier nights.")] = None
    sigma: Annotated[float | None, Field(description="Their robust scatter, for one more night.")] = None
    nights: Annotated[int, Field(ge=0, description="Earlier nights that have the value.")] = 0
    problem: str = ""
    remedy: str = ""


class Drift(QualityPart):
    """Verdict on the distribution of one feature."""

    feature: str
    verdict: Verdict
    n: Annotated[int, Field(ge=0, description="Values of the night.")]
    psi: Annotated[float | None, Field(description="Population stability index against the earlier nights.")] = None
    distance: Annotated[float | None, Field(description="Distance of Kolmogorov and Smirnov.")] = None
    p: Annotated[float | None, Field(description="Its p-value, adjusted for the number of features.")] = None
    usual: Annotated[float | None, Field(description="Distance that nights of the reference hardly exceed.")] = None
    problem: str = ""
    remedy: str = ""


class BandQuality(QualityPart):
    """Verdicts on a night in a band."""

    instrument: str
    band: str
    verdict: Verdict
    gates: tuple[Gate, ...]
    drifts: tuple[Drift, ...]
    reference: Annotated[tuple[str, ...], Field(description="Earlier nights searched with the same.")]
    notes: tuple[str, ...] = ()


class QualityRecord(QualityPart):
    """Quality of a night, as stored in the ledger."""

    schema_version: int = QUALITY_VERSION
    night: Annotated[str, Field(pattern=r"^\d{8}$", description="YYYYMMDD of the local evening.")]
    digest: Annotated[str, Field(description="Digest of the published exposures that it was measured on.")]
    rules: Annotated[str, Field(description="Digest of the settings that it was judged by.")]
    measured: tuple[BandMeasures, ...]
    judged: tuple[BandQuality, ...]
    software: Annotated[str, Field(description="Version of nightstride.")]
    unread: Annotated[
        str,
        Field(description="Digest of the exposures and tiles that were too few to measure it again; else empty."),
    ] = ""

    def of(self, instrument: str, band: str) -> BandMeasures | None:
        """Return the metrics of a band."""
        return next((one for one in self.measured if (one.instrument, one.band) == (instrument, band)), None)


def worst(verdicts: tuple[Verdict, ...]) -> Verdict:
    """Return the most severe verdict; `no_history` if there are none."""
    return max(verdicts, key=SEVERITY.index, default="no_history")


class QualitySettings(BaseModel):
    """Limits of the quality metrics of a night, and the comparison with earlier nights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limits: Annotated[
        Mapping[str, Mapping[str, Bounds]],
        Field(
            description="Band, or 'all' -> what is measured -> least and largest value; inf: no limit. Outside them a "
            "night fails. A band's own go before those of all."
        ),
    ] = {}
    history_nights: Annotated[int, Field(ge=1, description="Earlier nights that one is compared with, at most.")] = 30
    least_nights: Annotated[int, Field(ge=7, description="Fewest earlier nights that a night is compared with.")] = 14
    warn_sigma: Annotated[
        float, Field(gt=0, description="Distance from their median that is a warning, robust sigma.")
    ] = 5.0
    fail_sigma: Annotated[float, Field(gt=0, description="Distance that fails the night, robust sigma.")] = 8.0
    drift_alpha: Annotated[
        float, Field(gt=0, lt=1, description="Level of the test of all features together, for equal samples.")
    ] = 0.01
    drift_psi: Annotated[float, Field(gt=0, description="Least population stability index of a drift.")] = 0.2
    fail_night: Annotated[bool, Field(description="Whether a night that fails gives exit code 1.")] = False

    @field_validator("limits", mode="before")
    @classmethod
    def _finite(cls, value: Any) -> Any:
        """Return None for an infinite bound; settings are stored as JSON, which has no infinity."""
        if not isinstance(value, Mapping):
            return value
        return {
            band: {name: _bounds(pair) for name, pair in limits.items()} if isinstance(limits, Mapping) else limits
            for band, limits in value.items()
        }

    @field_validator("limits")
    @classmethod
    def _known(cls, value: Mapping[str, Mapping[str, Bounds]]) -> Mapping[str, Mapping[str, Bounds]]:
        for band, limits in value.items():
            for name, (low, high) in limits.items():
                if name not in METRICS:
                    raise ValueError(f"{band}.{name} is not measured; what is: {', '.join(METRICS)}")
                if low is not None and high is not None and low > high:
                    raise ValueError(f"{band}.{name}: the least value {low} is above the largest {high}")
        return value

    def bounds(self, band: str, metric: str) -> Bounds:
        """Return the least and largest allowed value of a metric in a band; None: no limit."""
        for key in (band, EVERY_BAND):
            if metric in self.limits.get(key, {}):
                return self.limits[key][metric]
        return None, None


def _bounds(pair: Any) -> Any:
    if not isinstance(pair, list | tuple):
        return pair
    return tuple(None if isinstance(end, float) and math.isinf(end) else end for end in pair)

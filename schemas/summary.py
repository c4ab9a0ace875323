"""Summaries of nights, runs and fetches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import NightstrideError
from schemas.quality import BandQuality
from schemas.recovery import Recovery


class CauseCount(BaseModel):
    """Number of candidates with the flag of a cause; a candidate with two flags counts for both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    refused: Annotated[int, Field(ge=0, description="Not published.")] = 0
    published: Annotated[int, Field(ge=0, description="Published with the flag.")] = 0

    def __add__(self, other: "CauseCount") -> "CauseCount":
        """Return the sum."""
        return CauseCount(refused=self.refused + other.refused, published=self.published + other.published)


@dataclass(frozen=True)
class Causes:
    """Candidates of an exposure by known cause of false streaks: flag name in lower case -> counts."""

    counts: Mapping[str, CauseCount]


BRIGHT_UNRELIABLE = "bright_unreliable"
"""Candidates with S/N of at least 15 without such a cause, not published because of their reliability alone."""

ELAPSED = ("startup", "search", "associate", "objects", "forced", "report", "wall")
"""Keys of a summary's seconds that are elapsed time, not worker time."""

QUARANTINED = 3
"""Exit code of a run that published everything except quarantined exposures; repeating it changes nothing."""

STOPPED = "stopped"
"""Code of exposures that were not begun because a signal asked the run to stop."""

CLUSTER_LOST = "cluster_lost"
"""Code of exposures in progress when the scheduler was lost."""


class ExposureCounts(BaseModel):
    """Exposures by outcome; counts that do not add up are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seen: int = Field(ge=0)
    done: int = Field(ge=0, description="Searched and published in this run.")
    skipped: int = Field(ge=0, description="Already published, and unchanged; or given twice.")
    quarantined: int = Field(ge=0, description="Unusable, with the reason in OUT/quarantine.")
    failed: int = Field(ge=0, description="Given up on: an unexpected error, or out of time.")

    @model_validator(mode="after")
    def _reconciled(self) -> "ExposureCounts":
        if self.seen != self.done + self.skipped + self.quarantined + self.failed:
            raise ValueError(f"seen must be done + skipped + quarantined + failed, got {self!r}")
        return self


class Trouble(BaseModel):
    """Exposure that was not searched, with the reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    code: str
    message: str

    @classmethod
    def of(cls, uri: str, error: BaseException) -> "Trouble":
        """Return the record of an error; an unexpected error becomes one line that starts with its class."""
        if isinstance(error, NightstrideError):
            return cls(uri=uri, code=error.code, message=str(error))
        kind = type(error).__name__
        return cls(uri=uri, code=kind, message=f"{uri}: {kind}: {' '.join(str(error).split())[:500]}")


class AlertLag(BaseModel):
    """Times to the acknowledged alert, s, from the end of the exposure, or in a stream from the visit's arrival."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: Annotated[int, Field(ge=1, description="Alerts.")]
    p50: float
    p95: float
    p99: float


class AlertCounts(BaseModel):
    """Alerts of a run by outcome."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sent: Annotated[int, Field(ge=0, description="Acknowledged by the sink.")] = 0
    dead: Annotated[int, Field(ge=0, description="Dead letters, now or before.")] = 0
    held: Annotated[int, Field(ge=0, description="Detections sent before, as another search had found them.")] = 0
    left: Annotated[int, Field(ge=0, description="Waiting in the outbox when the run ended.")] = 0
    lag_s: Annotated[AlertLag | None, Field(description="Lag of those that were sent; null: none was.")] = None

    def __add__(self, other: "AlertCounts") -> "AlertCounts":
        """Return the sums of both counts, with the lag of the larger part."""
        lag = max((self.lag_s, other.lag_s), key=lambda one: 0 if one is None else one.n)
        counts = {name: getattr(self, name) + getattr(other, name) for name in ("sent", "dead", "held", "left")}
        return AlertCounts(**counts, lag_s=lag)


class RunSummary(BaseModel):
    """Result of ``nightstride run``, printed as the last line with ``--json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exposures: ExposureCounts
    windows: int = Field(ge=0, description="Searched in this run.")
    unscored: int = Field(ge=0, description="Those not scored: over half masked, or without spread.")
    detections: int = Field(
        ge=0, description="In the published catalogues of the exposures seen; of a stream, of those that it searched."
    )
    causes: Mapping[str, CauseCount] = Field(
        default_factory=dict,
        description="Known cause of false streaks -> candidates that had it: refused, and published with the flag; of "
        "the same exposures as the detections.",
    )
    catalogues: Mapping[str, int] = Field(
        default_factory=dict, description="Dataset of whole nights -> rows published, of the nights seen."
    )
    assumed: Mapping[str, int] = Field(
        default_factory=dict,
        description="Flag of what was assumed or is not known -> exposures that have it, also those published before.",
    )
    not_run: Mapping[str, str] = Field(description="Stage -> why it had nothing to work on.")
    seconds: Mapping[str, float] = Field(
        description="Worker time, s, by what it went to: read, inspect, write tiles, read tiles, the stages, publish, "
        "other; waiting: the rest of the workers' time during the search, so that all these add up to search times "
        "the number of workers. Then elapsed time, s: startup, search, associate (detections with objects), objects "
        "(stages of whole nights), forced (photometry of objects at rest), report, wall."
    )
    report: str | None = Field(description="Night page; of the last night if there are several.")
    nights: tuple[str, ...] = ()
    injection: tuple[Recovery, ...] = Field(
        default=(),
        description="Synthetic streaks of the nights that this run worked on: night, bands, their detectors.",
    )
    quarantined: tuple[Trouble, ...] = ()
    failed: tuple[Trouble, ...] = Field(
        default=(), description="Code `deadline`: shed, the visit was out of time; `stopped`: not begun."
    )
    night_failed: tuple[Trouble, ...] = Field(
        default=(), description="Stages of whole nights that failed; the exposures stay published."
    )
    quality: Mapping[str, tuple[BandQuality, ...]] = Field(
        default_factory=dict, description="Night -> verdicts on its bands, of the nights seen."
    )
    quality_failed: tuple[Trouble, ...] = Field(
        default=(), description="Bands that failed, where `quality.fail_night` is set; what is published stays."
    )
    alerts: AlertCounts | None = Field(default=None, description="Alerts, where `alerts.to` is set.")
    alerts_failed: tuple[Trouble, ...] = Field(
        default=(), description="Why alerts were not sent; they wait for the next run, or `nightstride alerts publish`."
    )
    warnings: tuple[str, ...] = Field(default=(), description="What went wrong beside the exposures.")
    stopped: bool = Field(
        default=False, description="Whether a signal, or the loss of the cluster, ended the run early."
    )

    @property
    def exit_code(self) -> int:
        """Return 0 if all is published with good quality, 3 if all is but quarantined exposures, else 1."""
        if self.stopped or self.exposures.failed or self.night_failed or self.quality_failed or self.alerts_failed:
            return 1
        return QUARANTINED if self.exposures.quarantined else 0

    @property
    def worker_seconds(self) -> dict[str, float]:
        """Return the entries of ``seconds`` that are worker time."""
        return {part: seconds for part, seconds in self.seconds.items() if part not in ELAPSED}


class Record(BaseModel):
    """Small frozen record; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FetchSummary(Record):
    """Counts of exposures and files; counts of exposures that do not add up are refused."""

    nights: Annotated[int, Field(ge=0, description="Nights asked for.")]
    exposures: Annotated[int, Field(ge=0, description="Quadrants that the archive's table lists.")]
    whole: Annotated[int, Field(ge=0, description="Those of which all that there is lies in the folder.")] = 0
    not_in_archive: Annotated[int, Field(ge=0, description="Those without a difference image: never subtracted.")] = 0
    left: Annotated[int, Field(ge=0, description="Those to be fetched, in a call that only tells.")] = 0
    files: Annotated[int, Field(ge=0, description="Fetched now, or to be fetched.")] = 0
    bytes: Annotated[int, Field(ge=0, description="Size of these files.")] = 0
    received: Annotated[int, Field(ge=0, description="Bytes that came through the network.")] = 0
    seconds: Annotated[float, Field(ge=0)] = 0.0
    failed: Annotated[tuple[Trouble, ...], Field(description="Exposures that could not be fetched.")] = ()

    @model_validator(mode="after")
    def _reconciled(self) -> "FetchSummary":
        if self.exposures != self.whole + self.not_in_archive + self.left + len(self.failed):
            raise ValueError(f"exposures must be whole + not_in_archive + left + failed, got {self!r}")
        return self

    @property
    def exit_code(self) -> int:
        """Return 0 if all exposures of the archive were fetched or listed, 1 if some could not be fetched."""
        return 1 if self.failed else 0

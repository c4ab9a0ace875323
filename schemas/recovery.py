"""Recovery of the synthetic streaks of a night."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Interval = tuple[float, float]


class RecoveryPart(BaseModel):
    """Part of a `Recovery`; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RecoveredShare(RecoveryPart):
    """Recovered share of the streaks with ``lo`` <= value < ``hi``."""

    lo: float
    hi: Annotated[float | None, Field(description="Null: without end.")]
    n: int = Field(ge=0)
    recovered: int = Field(ge=0)
    interval: Annotated[Interval, Field(description="95 %, Clopper & Pearson; 0 to 1 of none.")]

    @property
    def value(self) -> float | None:
        """Return the share; None if there are no streaks."""
        return self.recovered / self.n if self.n else None


class Limit(RecoveryPart):
    """Value at which half of the streaks are recovered. A value has an interval; a missing value has a reason."""

    n: Annotated[int, Field(ge=0, description="Streaks behind it.")]
    value: float | None = None
    interval: Annotated[Interval | None, Field(description="95 %, profile likelihood.")] = None
    reason: Annotated[str, Field(description="Why there is no value.")] = ""

    @model_validator(mode="after")
    def _whole(self) -> "Limit":
        if (self.value is None) != (self.interval is None) or (self.value is None) != bool(self.reason):
            raise ValueError(f"a limit has a value and an interval, or else a reason, got {self!r}")
        if self.value is not None and self.interval is not None and not _within(self.value, self.interval):
            raise ValueError(f"a limit lies within its interval, got {self!r}")
        return self


class MagnitudeLimit(RecoveryPart):
    """Limiting magnitude of the streaks with ``lo`` <= length < ``hi``, px."""

    lo: float
    hi: Annotated[float | None, Field(description="Null: without end.")]
    limit: Limit


class Recovery(RecoveryPart):
    """Recovered shares of the synthetic streaks of a night, of one of its bands, or of a detector in a band.

    Streaks with less than half of their light on usable pixels are only counted.
    """

    night: str
    band: Annotated[str | None, Field(description="Null: all bands.")] = None
    detector: Annotated[int | None, Field(description="Null: all detectors.")] = None
    exposures: Annotated[int, Field(ge=0, description="Exposures with streaks put into copies of their tiles.")]
    hidden: Annotated[int, Field(ge=0, description="Streaks mostly on unusable pixels; not counted below.")]
    n: Annotated[int, Field(ge=0, description="Streaks.")]
    recovered: int = Field(ge=0)
    by_snr: Annotated[tuple[RecoveredShare, ...], Field(description="Shares by true matched-filter S/N.")]
    by_length: Annotated[tuple[RecoveredShare, ...], Field(description="Shares by true length, px.")]
    snr: Annotated[Limit, Field(description="True S/N at which half comes back.")]
    magnitude: Annotated[
        tuple[MagnitudeLimit, ...], Field(description="AB; only within one band, and with a zero point.")
    ] = ()


def _within(value: float, interval: Interval) -> bool:
    return interval[0] <= value <= interval[1]

"""When a night is good enough."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.quality import METRICS

EVERY_BAND = "all"
"""Key of the limits of all bands."""

Bounds = tuple[float | None, float | None]


class QualitySettings(BaseModel):
    """Limits of what is measured of a night, and how it is compared with earlier ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limits: Annotated[
        Mapping[str, Mapping[str, Bounds]],
        Field(
            description="Band, or 'all' -> what is measured -> least and largest value; inf: no limit. Outside them a "
            "night fails. A band's own go before those of all."
        ),
    ] = {}
    history_nights: Annotated[int, Field(ge=1, description="Earlier nights that one is compared with, at most.")] = 30
    least_nights: Annotated[int, Field(ge=7, description="With fewer of them a night is not compared.")] = 14
    warn_sigma: Annotated[float, Field(gt=0, description="So far from their median is a warning, robust sigma.")] = 5.0
    fail_sigma: Annotated[float, Field(gt=0, description="So far fails the night, robust sigma.")] = 8.0
    drift_alpha: Annotated[
        float, Field(gt=0, lt=1, description="Level of the test of all features together, for equal samples.")
    ] = 0.01
    drift_psi: Annotated[float, Field(gt=0, description="Least population stability index of a drift.")] = 0.2
    fail_night: Annotated[bool, Field(description="Whether a night that fails gives exit code 1.")] = False

    @field_validator("limits", mode="before")
    @classmethod
    def _finite(cls, value: Any) -> Any:
        """Return infinite bounds as none: JSON, in which settings are kept, has no infinity."""
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
        """Return least and largest value of a metric in a band; None: no limit."""
        for key in (band, EVERY_BAND):
            if metric in self.limits.get(key, {}):
                return self.limits[key][metric]
        return None, None


def _bounds(pair: Any) -> Any:
    if not isinstance(pair, list | tuple):
        return pair
    return tuple(None if isinstance(end, float) and math.isinf(end) else end for end in pair)

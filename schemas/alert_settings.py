"""Settings of alerts."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class AlertSettings(BaseModel):
    """Alerts of published detections."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Annotated[
        Literal["11.1", "11.0", "10.0", "ztf"], Field(description="Rubin's schema by its version, or ZTF's.")
    ] = "11.1"
    history_days: Annotated[
        float, Field(ge=0, description="How far back earlier detections of the object go, d; Rubin: 12 months.")
    ] = 365.0
    cutout_min: Annotated[int, Field(ge=3, le=512, description="Least side of a cutout, px.")] = 30
    cutout_max: Annotated[int, Field(ge=3, le=512, description="Largest side of a cutout, px.")] = 102

    @model_validator(mode="after")
    def _ordered(self) -> "AlertSettings":
        if self.cutout_min > self.cutout_max:
            raise ValueError(f"cutout_min must not be above cutout_max, got {self.cutout_min} and {self.cutout_max}")
        return self

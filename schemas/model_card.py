"""Model cards: description of a model's weights and their origin."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

OF_PROBABILITIES = frozenset({"detect", "screen", "reliability", "star_galaxy", "membership"})
"""Stages whose models give probabilities with a threshold."""

WITHOUT_NAN = OF_PROBABILITIES | {"morphology", "scene", "cluster", "anomaly"}
"""Stages whose weights hold no NaN; those of catalogue rows hold rows with missing values."""


class ModelCard(BaseModel):
    """Card beside the weights of a model, as ``<name>.json`` next to ``<name>.safetensors``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    name: str
    version: str
    sha256: str = Field(description="SHA-256 of the weights file.")
    input: dict[str, Any] = Field(description="Shape, bands, dtype and normalisation of what goes in.")
    classes: tuple[str, ...]
    training: dict[str, Any] = Field(description="Data, their digest and licence, split, seed, epochs, command.")
    metrics: dict[str, Any] = Field(description="Measured on the test split, with intervals.")
    calibration: dict[str, Any] = Field(default_factory=dict)
    threshold: float = Field(description="Default operating threshold.")
    false_alarm_rate: str = Field(description="What the threshold was set at, and on which data.")
    licence: str = "BSD-3-Clause"

    @model_validator(mode="after")
    def _threshold_is_one_of_its_scores(self) -> Self:
        if self.stage in OF_PROBABILITIES and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}, and a model of {self.stage} gives probabilities, 0 to 1")
        return self

    def least_reliability(self, science: bool) -> float:
        """Return the threshold for exposures with or without a science image.

        Without one, a higher threshold gives the same number of false detections per image.
        """
        return self.threshold if science else float(self.calibration.get("threshold_without_science", self.threshold))

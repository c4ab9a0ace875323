"""How many candidates had a known cause of false streaks."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class CauseCount(BaseModel):
    """Candidates with the flag of a cause; one with two flags counts under both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    refused: Annotated[int, Field(ge=0, description="Not published.")] = 0
    published: Annotated[int, Field(ge=0, description="Published with the flag.")] = 0

    def __add__(self, other: "CauseCount") -> "CauseCount":
        """Give the sum."""
        return CauseCount(refused=self.refused + other.refused, published=self.published + other.published)

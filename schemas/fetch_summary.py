"""What came of a call for an archive's exposures."""

from typing import Annotated

from pydantic import Field, model_validator

from schemas.ledger import Record
from schemas.summary import Trouble


class FetchSummary(Record):
    """Counts of exposures and files; those of exposures add up, or the summary is refused."""

    nights: Annotated[int, Field(ge=0, description="Nights asked for.")]
    exposures: Annotated[int, Field(ge=0, description="Quadrants that the archive's table lists.")]
    whole: Annotated[int, Field(ge=0, description="Of which all that there is lies in the folder.")] = 0
    not_in_archive: Annotated[int, Field(ge=0, description="Without a difference image: never subtracted.")] = 0
    left: Annotated[int, Field(ge=0, description="To be fetched, in a call that only tells.")] = 0
    files: Annotated[int, Field(ge=0, description="Fetched now, or to be fetched.")] = 0
    bytes: Annotated[int, Field(ge=0, description="Of these files.")] = 0
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
        """0: all that the archive has is there, or was listed; 1: some could not be fetched."""
        return 1 if self.failed else 0

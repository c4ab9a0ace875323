"""What became of a list of targets."""

from typing import Annotated

from pydantic import Field

from schemas.errors import NightstrideError
from schemas.ledger import Record


class Note(Record):
    """One thing that was not measured, and why; the fields are those of `NightstrideError`."""

    code: str
    where: str
    problem: str
    remedy: str

    @classmethod
    def of(cls, error: NightstrideError) -> "Note":
        """Make the note of an error."""
        return cls(code=error.code, where=error.where, problem=error.problem, remedy=error.remedy)

    def __str__(self) -> str:
        return f"{self.where}: {self.problem} To fix, {self.remedy}"


class ForcedSummary(Record):
    """Counts of targets, exposures and rows, and what was left out."""

    targets: Annotated[int, Field(ge=0, description="Targets that could be read.")]
    exposures: Annotated[int, Field(ge=0, description="Exposures looked at.")]
    rows: Annotated[int, Field(ge=0, description="Targets on exposures: detections, limits and not measured.")] = 0
    detections: Annotated[int, Field(ge=0, description="Rows with snr of at least the limit's sigma.")] = 0
    limits: Annotated[int, Field(ge=0, description="Rows with an upper limit only.")] = 0
    not_measured: Annotated[int, Field(ge=0, description="Rows with too little of the light on usable pixels.")] = 0
    not_covered: Annotated[tuple[str, ...], Field(description="Names of targets that lie on none of them.")] = ()
    files: Annotated[tuple[str, ...], Field(description="Published catalogues, relative to the output folder.")] = ()
    left_out: Annotated[tuple[Note, ...], Field(description="Rows of the list that are no targets.")] = ()
    not_run: Annotated[tuple[Note, ...], Field(description="Exposures without WCS.")] = ()
    quarantined: Annotated[tuple[Note, ...], Field(description="Exposures that cannot be used.")] = ()

    @property
    def exit_code(self) -> int:
        """0: all done; 1: rows of the list or exposures could not be used."""
        return 1 if self.left_out or self.quarantined else 0

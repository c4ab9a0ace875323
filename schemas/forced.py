"""Forced photometry at given positions, and the summary of a list of targets."""

from enum import IntFlag
from typing import Annotated

import pyarrow as pa
from pydantic import Field

from schemas.dataset import TableOf, column, quantity
from schemas.errors import NightstrideError
from schemas.summary import Record


class ForcedFlag(IntFlag):
    """Bits of ``flags`` in `forced_source`."""

    EDGE = 1  # the aperture touches the border of the image
    SATURATED = 2  # saturated pixels under the trail
    MASKED = 4  # other unusable pixels under the trail
    NOT_MEASURED = 8  # too little of the light falls on usable pixels: flux columns are null
    NO_ZERO_POINT = 16  # no zero point: columns in nJy and magnitudes are null
    BLENDED = 32  # another target lies at the same position: the flux is that of both
    CONTAMINATED = 64  # other light on the trail; it was masked unless it covers most of the trail


FORCED_SOURCE = TableOf(
    "forced_source",
    pa.schema(
        [
            column("targetName", pa.string(), "", "Name in the list of targets."),
            column("visit", pa.int64(), "", "Visit."),
            column("detector", pa.int32(), "", "Detector."),
            column("band", pa.string(), "", "Filter band."),
            column("midpointMjdTai", pa.float64(), "d", "Middle of the exposure, MJD TAI."),
            column("ra", pa.float64(), "deg", "Right ascension (ICRS) of the target at that time, as predicted."),
            column("dec", pa.float64(), "deg", "Declination (ICRS) of the target at that time, as predicted."),
            column("x", pa.float64(), "pix", "The same place on the image, 0-based column coordinate."),
            column("y", pa.float64(), "pix", "The same place on the image, 0-based row coordinate."),
            quantity("trailLength", "arcsec", "Path during the exposure; 0 for what does not move.", nullable=False),
            quantity(
                "trailAngle",
                "deg",
                "Its position angle, north through east, modulo 180; 0 for a point.",
                nullable=False,
            ),
            quantity("trailLengthPx", "pix", "Path during the exposure.", nullable=False),
            quantity("trailAnglePx", "deg", "Its angle from +x towards +y, modulo 180; 0 for a point.", nullable=False),
            quantity("psfFlux", "nJy", "Flux of a point source at the place, negative if the image is."),
            quantity("psfFluxErr", "nJy", "Its standard error."),
            quantity("trailFlux", "nJy", "Flux of the trail, all of it, negative if the image is."),
            quantity("trailFluxErr", "nJy", "Its standard error."),
            quantity("trailFluxUpper", "nJy", "Upper limit: max(trailFlux, 0) + limitSigma * trailFluxErr."),
            quantity("magAB", "mag(AB)", "AB magnitude of trailFlux; null where snr is below limitSigma."),
            quantity("magABErr", "mag", "Its standard error."),
            quantity("magABLimit", "mag(AB)", "AB magnitude of trailFluxUpper: the target is not brighter."),
            quantity("limitSigma", "", "Standard errors of the limit, and least snr of a detection.", nullable=False),
            quantity("snr", "", "trailFlux / trailFluxErr, in the correlated noise of the image."),
            quantity("trailChi2", "", "Chi squared of the trail fit."),
            column("trailNdata", pa.int32(), "", "Pixels in the trail fit."),
            quantity("maskedFraction", "", "Share of the trail's light beyond usable pixels.", nullable=False),
            column(
                "flags",
                pa.int32(),
                "",
                "Bits: " + ", ".join(f"{flag.value} {flag.name}" for flag in ForcedFlag) + ".",
            ),
        ]
    ),
)


class Note(Record):
    """Target or exposure that was not measured, with the reason; fields are those of `NightstrideError`."""

    code: str
    where: str
    problem: str
    remedy: str

    @classmethod
    def of(cls, error: NightstrideError) -> "Note":
        """Return the note of an error."""
        return cls(code=error.code, where=error.where, problem=error.problem, remedy=error.remedy)

    def __str__(self) -> str:
        return f"{self.where}: {self.problem} To fix, {self.remedy}"


class ForcedSummary(Record):
    """Counts of targets, exposures and rows, and the items left out."""

    targets: Annotated[int, Field(ge=0, description="Targets that could be read.")]
    exposures: Annotated[int, Field(ge=0, description="Exposures looked at.")]
    rows: Annotated[int, Field(ge=0, description="Targets on exposures: detections, limits and the others.")] = 0
    detections: Annotated[int, Field(ge=0, description="Rows with snr of at least the limit's sigma.")] = 0
    limits: Annotated[int, Field(ge=0, description="Rows with an upper limit only.")] = 0
    negative: Annotated[
        int,
        Field(ge=0, description="Those below zero by as much as a detection is above: the image is darker."),
    ] = 0
    no_limit: Annotated[
        int, Field(ge=0, description="Rows that are no detection and have no limit: nothing tells the zero point.")
    ] = 0
    not_measured: Annotated[int, Field(ge=0, description="Rows with too little of the light on usable pixels.")] = 0
    not_covered: Annotated[tuple[str, ...], Field(description="Names of targets that lie on none of them.")] = ()
    files: Annotated[tuple[str, ...], Field(description="Published catalogues, relative to the output folder.")] = ()
    left_out: Annotated[tuple[Note, ...], Field(description="Rows of the list that are not targets.")] = ()
    not_run: Annotated[tuple[Note, ...], Field(description="Exposures without WCS.")] = ()
    quarantined: Annotated[
        tuple[Note, ...], Field(description="Exposures whose pixels are not there, or cannot be used.")
    ] = ()

    @property
    def exit_code(self) -> int:
        """Return 0 if everything was measured, 1 if rows of the list or exposures could not be used."""
        return 1 if self.left_out or self.quarantined else 0

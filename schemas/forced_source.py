"""Fluxes measured where a list of targets says that something is, seen or not."""

from enum import IntFlag

import pyarrow as pa

from schemas.dataset import TableOf, column


class ForcedFlag(IntFlag):
    """Bits of ``flags`` in `forced_source`."""

    EDGE = 1  # the aperture touches the border of the image
    SATURATED = 2  # saturated pixels under the trail
    MASKED = 4  # other unusable pixels under the trail
    NOT_MEASURED = 8  # too little of the light falls on usable pixels: flux columns are null
    NO_ZERO_POINT = 16  # columns in nJy and magnitudes are null
    BLENDED = 32  # another target lies at the same place: the flux is that of both
    CONTAMINATED = 64  # there is light that is not of the trail; it was left out unless it covers most of the trail


def _float(name: str, unit: str, doc: str, *, nullable: bool = True) -> pa.Field:
    return column(name, pa.float32(), unit, doc, nullable=nullable)


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
            _float("trailLength", "arcsec", "Path during the exposure; 0 for what does not move.", nullable=False),
            _float(
                "trailAngle",
                "deg",
                "Its position angle, north through east, modulo 180; 0 for a point.",
                nullable=False,
            ),
            _float("trailLengthPx", "pix", "Path during the exposure.", nullable=False),
            _float("trailAnglePx", "deg", "Its angle from +x towards +y, modulo 180; 0 for a point.", nullable=False),
            _float("psfFlux", "nJy", "Flux of a point source at the place, negative if the image is."),
            _float("psfFluxErr", "nJy", "Its standard error."),
            _float("trailFlux", "nJy", "Flux of the trail, all of it, negative if the image is."),
            _float("trailFluxErr", "nJy", "Its standard error."),
            _float("trailFluxUpper", "nJy", "Upper limit: max(trailFlux, 0) + limitSigma * trailFluxErr."),
            _float("magAB", "mag(AB)", "AB magnitude of trailFlux; null where snr is below limitSigma."),
            _float("magABErr", "mag", "Its standard error."),
            _float("magABLimit", "mag(AB)", "AB magnitude of trailFluxUpper: the target is not brighter."),
            _float("limitSigma", "", "Standard errors of the limit, and least snr of a detection.", nullable=False),
            _float("snr", "", "trailFlux / trailFluxErr, in the correlated noise of the image."),
            _float("trailChi2", "", "Chi squared of the trail fit."),
            column("trailNdata", pa.int32(), "", "Pixels in the trail fit."),
            _float("maskedFraction", "", "Share of the trail's light beyond usable pixels.", nullable=False),
            column(
                "flags",
                pa.int32(),
                "",
                "Bits: " + ", ".join(f"{flag.value} {flag.name}" for flag in ForcedFlag) + ".",
            ),
        ]
    ),
)

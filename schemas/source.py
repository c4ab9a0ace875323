"""Sources on a science image."""

from enum import IntFlag

import pyarrow as pa

from schemas.dataset import TableOf, column


class SourceFlag(IntFlag):
    """Bits of ``flags`` in `source` and `object`."""

    EDGE = 1  # touches the border of the image
    SATURATED = 2  # saturated pixels within it
    MASKED = 4  # other pixels without a value within it
    BLENDED = 8  # taken apart from a neighbour it overlaps
    NO_WCS = 16  # sky columns are null
    NO_ZERO_POINT = 32  # flux columns are null


FLAGS_DOC = "Bits: " + ", ".join(f"{flag.value} {flag.name}" for flag in SourceFlag) + "."


def _float(name: str, unit: str, doc: str) -> pa.Field:
    return column(name, pa.float32(), unit, doc, nullable=True)


SOURCE = TableOf(
    "source",
    pa.schema(
        [
            column("visit", pa.int64(), "", "Visit."),
            column("detector", pa.int32(), "", "Detector."),
            column("band", pa.string(), "", "Filter band."),
            column("midpointMjdTai", pa.float64(), "d", "Middle of the exposure, MJD TAI."),
            column("x", pa.float64(), "pix", "Windowed centre, 0-based column coordinate."),
            column("y", pa.float64(), "pix", "Windowed centre, 0-based row coordinate."),
            column("ra", pa.float64(), "deg", "Right ascension (ICRS) of the centre.", nullable=True),
            column("dec", pa.float64(), "deg", "Declination (ICRS) of the centre.", nullable=True),
            _float("posErr", "arcsec", "Standard error of the position along each axis."),
            _float("snr", "", "psfFlux / psfFluxErr, in the correlated noise of the image."),
            _float("psfFlux", "nJy", "Flux of a point source fitted at the centre."),
            _float("psfFluxErr", "nJy", "Its standard error."),
            _float("halfLightRadius", "pix", "Radius of half of the light within an ellipse of 2.5 Kron radii."),
            _float("petrosianRadius", "pix", "Radius at which the brightness is a fifth of the mean within."),
            _float("elongation", "", "Major over minor axis of the second moments."),
            _float("anglePx", "deg", "Of the major axis, from +x towards +y, modulo 180."),
            _float("positionAngle", "deg", "Of the major axis on the sky, north through east, modulo 180."),
            _float("pixelScale", "arcsec/pix", "Side of a pixel at the centre of the image."),
            _float("fwhm", "pix", "Full width at half maximum of the PSF, as seen in the image."),
            column("flags", pa.int32(), "", FLAGS_DOC),
        ]
    ),
    product=True,
)

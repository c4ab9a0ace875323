"""Sources on science images, objects over all bands, cutouts of objects, and links of objects to detections."""

from collections.abc import Iterator
from enum import IntFlag
from itertools import pairwise

import pyarrow as pa

from schemas.dataset import ArrayOf, TableOf, column, quantity


class SourceFlag(IntFlag):
    """Bits of ``flags`` in `source` and `object`."""

    EDGE = 1  # touches the border of the image
    SATURATED = 2  # saturated pixels within it
    MASKED = 4  # other pixels without a value within it
    BLENDED = 8  # overlaps a neighbour, and was separated from it
    NO_WCS = 16  # sky columns are null
    NO_ZERO_POINT = 32  # flux columns are null


FLAGS_DOC = "Bits: " + ", ".join(f"{flag.value} {flag.name}" for flag in SourceFlag) + "."


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
            quantity("posErr", "arcsec", "Standard error of the position along each axis."),
            quantity("snr", "", "psfFlux / psfFluxErr, in the correlated noise of the image."),
            quantity("psfFlux", "nJy", "Flux of a point source fitted at the centre."),
            quantity("psfFluxErr", "nJy", "Its standard error."),
            quantity("halfLightRadius", "pix", "Radius of half of the light within an ellipse of 2.5 Kron radii."),
            quantity("petrosianRadius", "pix", "Radius at which the brightness is a fifth of the mean within."),
            quantity("elongation", "", "Major over minor axis of the second moments."),
            quantity("anglePx", "deg", "Of the major axis, from +x towards +y, modulo 180."),
            quantity("positionAngle", "deg", "Of the major axis on the sky, north through east, modulo 180."),
            quantity("pixelScale", "arcsec/pix", "Side of a pixel at the reference point of the WCS."),
            quantity("fwhm", "pix", "Full width at half maximum of the PSF before the pixels blur it."),
            column("flags", pa.int32(), "", FLAGS_DOC),
        ]
    ),
    product=True,
)


BANDS = ("u", "g", "r", "i", "z", "y")
"""Bands with columns for an object, from blue to red."""


def _of_band(band: str) -> Iterator[pa.Field]:
    yield column(f"{band}_nExposures", pa.int32(), "", f"Exposures in {band} whose pixels were measured.")
    photometry = (("psf", "a point source at its place"), ("ap", "a circle about its place (docs/method/objects.md)"))
    for kind, what in photometry:
        yield quantity(f"{band}_{kind}Flux", "nJy", f"{band} flux of {what}; mean of the exposures, by their errors.")
        yield quantity(f"{band}_{kind}FluxErr", "nJy", "Its standard error.")
        yield quantity(f"{band}_{kind}Mag", "mag(AB)", f"Its magnitude; null unless {band}_{kind}Flux is positive.")
        yield quantity(f"{band}_{kind}MagErr", "mag", "Its standard error.")
        yield quantity(
            f"{band}_{kind}Mag0", "mag(AB)", "The same without the Milky Way's dust; null without a dust map."
        )
    yield quantity(f"{band}_fwhm", "arcsec", f"FWHM of the sharpest of the {band} exposures.")


def _colours() -> Iterator[pa.Field]:
    for blue, red in pairwise(BANDS):
        name = f"{blue}Minus{red.upper()}"
        yield quantity(name, "mag", f"{blue}_apMag - {red}_apMag.")
        yield quantity(f"{name}Err", "mag", "Its standard error.")


OBJECT = TableOf(
    "object",
    pa.schema(
        [
            column("objectId", pa.int64(), "", "Order-29 nested HEALPix index of the position."),
            column("ra", pa.float64(), "deg", "Right ascension (ICRS); mean of the sources, by their errors."),
            column("dec", pa.float64(), "deg", "Declination (ICRS); likewise."),
            column("posErr", pa.float32(), "arcsec", "Standard error of the position along each axis."),
            column("nSources", pa.int32(), "", "Sources of all exposures that were merged."),
            column("nBands", pa.int32(), "", "Bands in which it was found as a source."),
            column("refBand", pa.string(), "", "Band of the source of highest S/N, from which the shape is taken."),
            column("snr", pa.float32(), "", "S/N of that source."),
            quantity("halfLightRadius", "arcsec", "Radius of half of the light, as seen: with the PSF in it."),
            quantity("petrosianRadius", "arcsec", "Radius at which the brightness is a fifth of the mean within."),
            quantity("elongation", "", "Major over minor axis of the second moments, as seen."),
            quantity("positionAngle", "deg", "Of the major axis, north through east, modulo 180."),
            quantity("ebv", "mag", "Reddening E(B-V) by the Milky Way's dust; null without a dust map."),
            *(field for band in BANDS for field in _of_band(band)),
            *_colours(),
            column("flags", pa.int32(), "", FLAGS_DOC + " Of any of its sources."),
        ]
    ),
    product=True,
    ids="objectId",
)


SIDE = 26
"""Side of a cutout, px."""

CENTRE = 13
"""Row and column of the pixel with the object, 0-based."""

CUTOUTS = ArrayOf("cutouts", "float32", ("object", "plane", "y", "x"), "nJy")
"""Row n is that of the n-th row of `object`. Planes: science image of each band of ``cut_cutouts.bands``, nJy, less its
background; then the PSF of each band, of unit sum. NaN: outside the image, a pixel without value, a band that is
missing (both its planes)."""


DIA_LINK = TableOf(
    "dia_link",
    pa.schema(
        [
            column("diaSourceId", pa.int64(), "", "The detection; those without a sky position are left out."),
            column("objectId", pa.int64(), "", "Object that it sits on, if there is one.", nullable=True),
            quantity("separation", "arcsec", "From it to the centre of that object."),
            column("hostObjectId", pa.int64(), "", "Host candidate: of least directional distance.", nullable=True),
            quantity("hostSeparation", "arcsec", "From the detection to the centre of the host candidate."),
            quantity(
                "hostDlr",
                "",
                "That over the half-light ellipse's radius towards it (Gupta et al. 2016, AJ 152, 154).",
            ),
        ]
    ),
    ids="diaSourceId",
)

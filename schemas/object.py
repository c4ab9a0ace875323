"""Objects on the science images of a night, all bands together."""

from collections.abc import Iterator
from itertools import pairwise

import pyarrow as pa

from schemas.dataset import TableOf, column
from schemas.source import FLAGS_DOC

BANDS = ("u", "g", "r", "i", "z", "y")
"""Bands that an object has columns for, from blue to red."""


def _float(name: str, unit: str, doc: str) -> pa.Field:
    return column(name, pa.float32(), unit, doc, nullable=True)


def _of_band(band: str) -> Iterator[pa.Field]:
    yield column(f"{band}_nExposures", pa.int32(), "", f"Exposures in {band} whose pixels were measured.")
    for kind, what in (("psf", "a point source at its place"), ("ap", "a circle about its place, as docs/objects.md")):
        yield _float(f"{band}_{kind}Flux", "nJy", f"{band} flux of {what}; mean of the exposures, by their errors.")
        yield _float(f"{band}_{kind}FluxErr", "nJy", "Its standard error.")
        yield _float(f"{band}_{kind}Mag", "mag(AB)", f"Its magnitude; null unless {band}_{kind}Flux is positive.")
        yield _float(f"{band}_{kind}MagErr", "mag", "Its standard error.")
        yield _float(f"{band}_{kind}Mag0", "mag(AB)", "The same without the Milky Way's dust; null without a dust map.")
    yield _float(f"{band}_fwhm", "arcsec", f"FWHM of the sharpest of the {band} exposures.")


def _colours() -> Iterator[pa.Field]:
    for blue, red in pairwise(BANDS):
        name = f"{blue}Minus{red.upper()}"
        yield _float(name, "mag", f"{blue}_apMag - {red}_apMag.")
        yield _float(f"{name}Err", "mag", "Its standard error.")


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
            _float("halfLightRadius", "arcsec", "Radius of half of the light, as seen: with the PSF in it."),
            _float("petrosianRadius", "arcsec", "Radius at which the brightness is a fifth of the mean within."),
            _float("elongation", "", "Major over minor axis of the second moments, as seen."),
            _float("positionAngle", "deg", "Of the major axis, north through east, modulo 180."),
            _float("ebv", "mag", "Reddening E(B-V) by the Milky Way's dust; null without a dust map."),
            *(field for band in BANDS for field in _of_band(band)),
            *_colours(),
            column("flags", pa.int32(), "", FLAGS_DOC + " Of any of its sources."),
        ]
    ),
    product=True,
    ids="objectId",
)

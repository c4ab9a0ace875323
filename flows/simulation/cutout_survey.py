"""Surveys whose cutouts of stars and galaxies are simulated."""

from dataclasses import dataclass

ZERO_POINT = 31.4
"""AB magnitude of 1 nJy."""


@dataclass(frozen=True)
class CutoutSurvey:
    """What the cutouts of a survey are like; sequences hold one value per band.

    Attributes
    ----------
    name, bands
        Of the survey, and its filters.
    side, scale
        Of a cutout, px; arcsec per px.
    seeing
        Median FWHM of the PSF, arcsec.
    depth
        Median magnitude of a point source of S/N 5 (PSF-weighted).
    sky
        Brightness of the sky, AB mag / arcsec2: with the depth it gives the gain, hence a source's photon noise.
    magnitude
        Range in i: stars and galaxies alike are uniform in it, so that brightness alone says nothing.
    galaxies
        Share of galaxies.
    saturation
        Magnitude of a point source whose peak fills its pixel, in median seeing.
    scatter
        Of the seeing from field to field, natural logarithm.
    psf_error
        Largest relative error of the width of the PSF image that goes with an object.
    """

    name: str
    bands: str
    side: int
    scale: float
    seeing: tuple[float, ...]
    depth: tuple[float, ...]
    sky: tuple[float, ...]
    magnitude: tuple[float, float]
    galaxies: float = 0.58
    saturation: float = -99.0
    scatter: float = 0.12
    psf_error: float = 0.014


DEEP = CutoutSurvey(
    name="deep",
    bands="griz",
    side=26,
    scale=0.2,
    seeing=(0.77, 0.76, 0.58, 0.68),
    depth=(26.5, 26.1, 25.9, 25.1),
    sky=(22.3, 21.2, 20.5, 19.6),
    magnitude=(18.0, 24.5),
)
"""Seeing and depth like the wide layer of the Hyper Suprime-Cam survey (Aihara et al. 2019, PASJ 71, 114), pixels and
dark sky like Rubin's (Ivezić et al. 2019, ApJ 873, 111)."""

NIGHT = CutoutSurvey(
    name="night",
    bands="griz",
    side=26,
    scale=1.012,
    seeing=(2.5, 2.4, 2.4, 2.4),
    depth=(20.8, 20.6, 20.0, 19.5),
    sky=(21.8, 20.9, 20.0, 19.2),
    magnitude=(13.0, 20.5),
    saturation=12.8,
    scatter=0.25,
    psf_error=0.04,
)
"""What a night of large pixels brings: exposures like ZTF's in four bands, of any seeing, with a PSF that varies over
the image and is known from its stars to a few per cent."""

ZTF = CutoutSurvey(
    name="ztf",
    bands="i",
    side=20,
    scale=1.012,
    seeing=(2.0,),
    depth=(20.2,),
    sky=(19.5,),
    magnitude=(11.5, 20.2),
    galaxies=0.5,
    saturation=12.8,
)
"""i band of the Zwicky Transient Facility (Bellm et al. 2019, PASP 131, 018002): 30 s, single exposures."""

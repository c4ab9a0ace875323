"""Metadata of one exposure."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NJY_ZERO_POINT = 31.4
"""AB magnitude of 1 nJy (3631 Jy is magnitude 0)."""

SCHEMA_VERSION = 1
"""Version of the exposure record in a tile store. A reader refuses a later one."""


SIMULATED = "simulated"
"""Flag of simulated exposures: their header has SIMULATE = T, as `nightstride simulate` writes it."""

ASSUMPTIONS = {
    "ambiguous_time": "keywords of the time or of the exposure time, or the words of their comments, contradict each "
    "other or leave it open: one reading was taken",
    "asinh_pixels": "BSOFTEN and BOFFSET say that pixels are inverse hyperbolic sines of the flux, as in stacks of "
    "Pan-STARRS: they were made linear",
    "assumed_detector": "no keyword tells the detector: 0 was assumed",
    "assumed_equinox": "no EQUINOX of the image tells the equinox of its WCS: EPOCH was taken for it, or the primary "
    "header has another than 2000, taken only with INHERIT = T; places may be off by up to half a degree",
    "assumed_gain": "the header's gain was taken as electrons per adu, though no comment tells its unit, or no BUNIT "
    "that of the pixels",
    "assumed_pixel_unit": "no BUNIT: pixels were taken as adu",
    "assumed_psf": "no header tells the PSF, and there are no or too few stars: 2.5 px were assumed; fluxes and "
    "lengths are rough, and trails may be missed",
    "assumed_psf_unit": "neither the settings nor brackets in the comment tell the unit of the keyword of the PSF: px, "
    "or what the comment names, was taken",
    "assumed_site": "the longitude of the site was assumed: the night may be split or named after another day",
    "colour_mosaic": "BAYERPAT says that pixels lie behind filters of three colours in turn: there is no one band",
    "high_background": "the background is far from 0, as of a science image that nothing was subtracted from",
    "mostly_masked": "more than half of the pixels are unusable: if its mask has other values than 0 where pixels are "
    "good, turn it over",
    "no_time": "no time: 2000-01-01 was assumed",
    "no_wcs": "no WCS: places on the sky are null",
    "no_zero_point": "no zero point: fluxes are null",
    "planes_left_out": "extensions of the file are by name and sides its mask, science image or the like, and were not "
    "used",
    "psf_differs": "the PSF of the header differs from that of the stars by more than 25 %, or that of a stamp by more "
    "than half, as of an oversampled one",
    "science_differs": "by its WCS, BUNIT or noise the science image is not on the pixels or in the unit of the "
    "difference image: trails may be taken for what is at rest, and missed",
    "template_band": "the header of the template that was subtracted has another band: stars of other colours may be "
    "left",
    "template_not_aligned": "by its WCS the template is not on the pixels of the difference image: it was left out",
    "uneven_background": "the background changes over the image by more than a fifth of the noise: it was made even",
    "unknown_unit": "BUNIT names no unit known here: the gain was left out",
}
"""Flags of exposures with an assumed, doubtful or missing quantity -> meaning."""

TOLD_BY = {
    "ambiguous_time": "[fits.time], or unit in [fits.exposure_time]",
    "assumed_detector": "[fits.detector]",
    "assumed_gain": "[fits.gain]",
    "assumed_pixel_unit": "pixel_unit in [fits]",
    "assumed_psf": "[fits.psf_fwhm]; or its science image: `planes` in [fits], or a manifest",
    "assumed_psf_unit": "unit in [fits.psf_fwhm]",
    "assumed_site": "longitude_deg in [fits]",
    "mostly_masked": "planes in [fits], or a manifest, without that mask",
    "no_time": "[fits.time]",
    "no_zero_point": "[fits.zero_point]",
    "planes_left_out": "planes in [fits]",
    "science_differs": "the science image that belongs to it, or none: planes in [fits], or a manifest",
    "template_band": "a template of the same band, or aliases in [fits.band]",
    "template_not_aligned": "the template that belongs to it, or none: planes in [fits], or a manifest",
    "unknown_unit": "pixel_unit in [fits]",
}
"""Settings that supply, for files of any camera, the information that such a flag says is missing."""


class Variation(BaseModel):
    """Quantities at the nodes of a mesh over an image, interpolated linearly in x and y, constant beyond the mesh."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: Annotated[tuple[tuple[tuple[float, ...], ...], ...], Field(description="(layers, rows, columns)")]
    y: Annotated[tuple[float, float], Field(description="First row of nodes, and distance to the next, px.")]
    x: Annotated[tuple[float, float], Field(description="The same of the columns.")]

    def shifted(self, y0: float, x0: float) -> "Variation":
        """Return the variation over a part of the image that starts at row y0 and column x0."""
        return self.model_copy(update={"y": (self.y[0] - y0, self.y[1]), "x": (self.x[0] - x0, self.x[1])})


class PsfModel(BaseModel):
    """Circular Moffat profile ``(1 + (r / alpha)^2)^-beta`` (Moffat 1969, A&A 3, 455)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fwhm_px: Annotated[float, Field(gt=0, description="Full width at half maximum before the pixels blur it, px.")]
    beta: Annotated[float, Field(gt=1, description="Slope of the wings; 100 is as good as a Gaussian.")] = 3.0
    fwhm_err: Annotated[float, Field(ge=0, description="Standard error of the width, px; 0: as good as exact.")] = 0.0
    flatness_err: Annotated[
        float, Field(ge=0, description="Standard error of 1 / beta, which is 0 for a Gaussian; 0: as good as exact.")
    ] = 0.0
    source: Annotated[str, Field(description="stamp | header | science | template | image | assumed")] = "header"
    variation: Annotated[
        Variation | None,
        Field(
            description="ln of the width over this one's, e1 and e2 at each place; null: the same everywhere, round."
        ),
    ] = None
    ellipticity_err: Annotated[float, Field(ge=0, description="Standard error of e1 and e2 of the variation.")] = 0.0


class ExposureKey(BaseModel):
    """Key of an exposure: night, visit and detector."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    night: Annotated[str, Field(pattern=r"^\d{8}$", description="YYYYMMDD of the local evening.")]
    visit: Annotated[int, Field(ge=0, lt=2**42)]
    detector: Annotated[int, Field(ge=0, lt=2**9)]

    @property
    def name(self) -> str:
        """Return ``<visit>-<detector>``, the stem of the names of its files."""
        return f"{self.visit}-{self.detector}"


def key_of(night: str, name: str) -> ExposureKey:
    """Return the key of an exposure from its night and name."""
    visit, detector = name.split("-")
    return ExposureKey(night=night, visit=int(visit), detector=int(detector))


class ExposureInfo(ExposureKey):
    """Metadata of an exposure, as stored with its tiles and passed to stages.

    Null means not known; columns that depend on a null quantity are null. Pixel positions are 0-based.
    """

    schema_version: int = SCHEMA_VERSION
    instrument: str
    band: str
    midpoint_mjd_tai: Annotated[float, Field(description="Middle of the exposure, MJD TAI.")]
    exposure_time_s: Annotated[float, Field(ge=0)]
    shape: Annotated[tuple[int, int], Field(description="(ny, nx), px.")]
    pixel_unit: Annotated[str, Field(description="Unit of the pixels: adu, electron/s, nJy, ...")] = "adu"
    zero_point: Annotated[float | None, Field(description="AB magnitude of 1 pixel unit of flux, mag.")] = None
    zero_point_err: Annotated[float | None, Field(ge=0, description="mag")] = None
    gain: Annotated[float | None, Field(gt=0, description="electrons per pixel unit")] = None
    saturation: Annotated[float | None, Field(description="pixel units")] = None
    wcs_header: Annotated[str | None, Field(description="FITS header cards of the WCS, newline separated.")] = None
    psf: PsfModel
    background: Annotated[float, Field(description="Robust median of the usable pixels, pixel units.")]
    noise: Annotated[float, Field(gt=0, description="Robust standard deviation of a pixel about it, pixel units.")]
    noise_correlation: Annotated[
        tuple[tuple[float, ...], ...],
        Field(description="Autocorrelation of the noise at lags -L..L in y and x; (2L+1, 2L+1), 1 at the centre."),
    ] = ((1.0,),)
    noise_variation: Annotated[
        Variation | None, Field(description="Noise at each place over `noise`; null: it varies by less than 10 %.")
    ] = None
    masked_fraction: Annotated[float, Field(ge=0, le=1, description="Share of unusable pixels.")] = 0.0
    source_uri: str
    source_sha256: Annotated[str, Field(description="SHA-256 of all files of the exposure, in order.")]
    is_part: Annotated[
        bool, Field(description="A cutout or a tile: its middle is not that of the detector, where amplifiers meet.")
    ] = False
    planes: Annotated[tuple[str, ...], Field(description="Arrays present beside `difference` and `mask`.")] = ()
    flags: Annotated[tuple[str, ...], Field(description="no_wcs, no_zero_point, assumed_psf, assumed_site, ...")] = ()
    subtraction_residual: Annotated[
        float | None, Field(description="Median share of bright stars' light that is left, where subtracted here.")
    ] = None

    @property
    def ab_zero_point(self) -> float | None:
        """Return the AB magnitude of 1 pixel unit of flux; for pixels in nJy it does not need a header."""
        return NJY_ZERO_POINT if self.zero_point is None and self.pixel_unit == "nJy" else self.zero_point

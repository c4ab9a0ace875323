"""Mapping of the FITS keywords of an unknown instrument."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

TimeScale = Literal["utc", "tai", "tt", "tdb", "gps"]

Instant = Literal["start", "middle", "end"]
"""Instant of an exposure at which a keyword gives the time."""

WidthUnit = Literal["px", "arcsec", "deg"]
"""Unit of the width of a PSF."""

PixelUnit = Literal["adu", "adu/s", "electron", "electron/s", "nJy", "uJy", "mJy", "Jy", "MJy/sr", "nmgy", "unknown"]
"""Unit of pixels; ``nmgy`` is the nanomaggy, 3.631 uJy."""


class FromHeader(BaseModel):
    """Quantity given by a keyword, or by a value in the settings; not known without either."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual: ClassVar[str | None] = None
    """Keyword where other entries are given, and neither keyword nor value."""

    keyword: Annotated[str | None, Field(description="Keyword of the image's header, else of the primary one.")] = None
    value: Annotated[float | str | None, Field(description="Constant that holds for every file.")] = None

    @model_validator(mode="before")
    @classmethod
    def _of_the_usual(cls, given: Any) -> Any:
        if isinstance(given, dict) and given and not given.keys() & {"keyword", "value"}:
            return {"keyword": cls.usual, **given}
        return given

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if self.keyword is not None and self.value is not None:
            raise ValueError(f"give keyword or value, not both: {self.keyword!r} and {self.value!r}")
        return self


class BandFromHeader(FromHeader):
    """Filter band."""

    usual = "FILTER"

    aliases: Annotated[dict[str, str], Field(description="Header value -> band; others stay as they are.")] = {}


class DurationFromHeader(FromHeader):
    """Exposure time."""

    usual = "EXPTIME"

    unit: Annotated[
        Literal["s", "ms", "us", "min", "h", "d"] | None,
        Field(description="Unit; null: by the keyword's comment, else s."),
    ] = None


class TimeFromHeader(FromHeader):
    """Time of the exposure."""

    usual = "DATE-OBS"

    format: Annotated[Literal["mjd", "jd", "isot"], Field(description="Day number or ISO 8601 text.")] = "isot"
    scale: Annotated[
        TimeScale | None, Field(description="Null: `TIMESYS`, else by the keyword's comment, else UTC.")
    ] = None
    at: Annotated[
        Instant | None, Field(description="Instant of the exposure; null: by the keyword's comment, else the start.")
    ] = None
    clock: Annotated[
        str | None,
        Field(description="Keyword of the time of day, where the other holds a date alone; null: usual ones."),
    ] = None
    contradictions: Annotated[
        Literal["refuse", "ignore"],
        Field(description="Other keywords that differ from `DATE-OBS` by more than an exposure and a minute."),
    ] = "refuse"


class FwhmFromHeader(BaseModel):
    """Width of the PSF; without keywords and a value it is estimated from the image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keywords: Annotated[tuple[str, ...], Field(description="Several, e.g. one per axis: their mean.")] = ()
    value: Annotated[float | None, Field(gt=0, description="The same for every file.")] = None
    unit: Annotated[
        WidthUnit | None,
        Field(description="Null: by brackets in the keyword's comment, else px, with a flag; on the sky needs a WCS."),
    ] = None


class KeywordMapping(BaseModel):
    """Settings for generic FITS files. ZTF and Rubin files are recognised and need none of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    extension: Annotated[
        int | str | None, Field(description="Extension of the image; null: the one named DIFF, else the only one.")
    ] = None
    planes: Annotated[
        dict[Literal["mask", "variance", "science", "template"], int | str],
        Field(
            description="Extensions of other planes in the same file; a mask is bad where it is not 0, or as its "
            "`MP_…` cards tell."
        ),
    ] = {}
    checksum: Annotated[
        Literal["check", "ignore"],
        Field(description="ignore: use files whose CHECKSUM or DATASUM is wrong, ZTF's and Rubin's too."),
    ] = "check"
    longitude_deg: Annotated[
        float | None,
        Field(
            ge=-180,
            le=360,
            description="Longitude of the site, east, deg; sets the night. Null: by the header, else 0.",
        ),
    ] = None
    instrument: FromHeader = FromHeader(keyword="INSTRUME")
    visit: Annotated[
        FromHeader, Field(description="Not given: tenths of a second from MJD 0 to mid-exposure, TAI.")
    ] = FromHeader()
    detector: Annotated[FromHeader, Field(description="Not given: `CCDNUM` and the like, else 0.")] = FromHeader()
    band: BandFromHeader = BandFromHeader(keyword=BandFromHeader.usual)
    time: TimeFromHeader = TimeFromHeader(keyword=TimeFromHeader.usual)
    exposure_time: DurationFromHeader = DurationFromHeader(keyword=DurationFromHeader.usual)
    pixel_unit: Annotated[
        PixelUnit | None, Field(description="Null: `BUNIT`, adu without it; Jy and its like have their zero point.")
    ] = None
    zero_point: Annotated[FromHeader, Field(description="AB magnitude of 1 pixel unit, mag.")] = FromHeader()
    zero_point_err: Annotated[FromHeader, Field(description="mag")] = FromHeader()
    gain: Annotated[
        FromHeader,
        Field(
            description="Keyword: electrons per adu, converted where pixels are electrons or rates; value: electrons "
            "per pixel unit. Not given: `EGAIN` (with a flag if no BUNIT), else `GAIN` with a flag."
        ),
    ] = FromHeader()
    saturation: Annotated[FromHeader, Field(description="pixel units")] = FromHeader()
    psf_fwhm: FwhmFromHeader = FwhmFromHeader()
    psf_beta: Annotated[
        FromHeader, Field(description="Moffat slope, 100 for a Gaussian. Not given: by stars, else 3 with its error.")
    ] = FromHeader()

"""One line of the table of exposures."""

from dataclasses import dataclass

from flows.report.causes import refused_words
from flows.report.night import Exposure
from flows.report.sky import compass, depth
from flows.report.words import NOTHING, count, number, utc
from schemas.exposure import ExposureInfo

HEADINGS = (
    ("Visit", ""),
    ("Detector", ""),
    ("Band", ""),
    ("Middle", "UTC"),
    ("Seeing", "FWHM"),
    ("Noise", "σ per px"),
    ("Zero point", "mag"),
    ("Depth", "mag, 5σ point"),
    ("Masked", ""),
    ("Windows", ""),
    ("Unscored", "windows"),
    ("Detections", ""),
    ("Refused", "candidates, by cause"),
    ("Worker time", "s"),
    ("Notes", ""),
)
"""Names of the columns, and what they are measured in."""

_NOTES = {"no_wcs": "no WCS", "no_zero_point": "no zero point", "assumed_psf": "PSF assumed"}


@dataclass(frozen=True)
class ExposureRow:
    """Cells in the order of `HEADINGS`."""

    name: str
    cells: tuple[str, ...]


def exposure_row(exposure: Exposure, info: ExposureInfo | None) -> ExposureRow:
    """Describe an exposure; what is not known is a dash. ``info`` is None where its tiles are gone."""
    record = exposure.record
    cells = (
        str(record.visit),
        str(record.detector),
        *(_described(info) if info else (NOTHING,) * 7),
        count(record.windows),
        count(record.windows_unscored),
        count(record.detections),
        refused_words(record.causes),
        number(sum(record.seconds.values())),
        ", ".join(_NOTES.get(flag, flag.replace("_", " ")) for flag in info.flags) if info else "tiles are gone",
    )
    return ExposureRow(record.key.name, cells)


def _described(info: ExposureInfo) -> tuple[str, ...]:
    directions = compass(info)
    if directions is None:
        seeing = number(info.psf.fwhm_px, 2, " px")
    else:
        seeing = number(info.psf.fwhm_px * directions.scale, 2, "″")
    return (
        info.band,
        utc(info.midpoint_mjd_tai),
        seeing,
        number(info.noise, 2, f" {info.pixel_unit}"),
        number(info.zero_point, 3),
        number(depth(info), 2),
        number(100 * info.masked_fraction, 1, " %"),
    )

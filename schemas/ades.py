"""Reports to the Minor Planet Center (ADES): settings, records of submissions, and permitted values."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

ADES_VERSION = "2022"
"""Version of the format, given in the first line or element of a file."""

SUBMISSION_VERSION = 1
"""Version of the submission records. A reader refuses a later one."""

MODES = ("CCD", "CMO", "VID", "PHO", "ENC", "PMT", "MIC", "MER", "TDI", "OCC", "UNK")
"""https://minorplanetcenter.net/iau/info/ADESFieldValues.html, as of 2026-09-27, as are catalogues and bands."""

UNKNOWN_CATALOGUE = "UNK"

CATALOGUES = (
    *("Gaia3", "Gaia3E", "Gaia2", "Gaia1", "Gaia2016", "Gaia_2016", "Gaia_Int", "PS1_DR1", "PS1_DR2", "ATLAS2"),
    *("UCAC5", "UCAC4", "URAT1", "PPMXL", "NOMAD", "2MASS", "UBSC", "UCAC3", "UCAC2", "UCAC1", "USNOB1", "USNOA2"),
    *("USNOSA2", "USNOA1", "USNOSA1", "Tyc2", "Tyc1", "Hip2", "Hip1", "ACT", "GSCACT", "GSC2.3", "GSC2.2", "GSC1.2"),
    *("GSC1.1", "GSC1.0", "GSC", "SDSS8", "SDSS7", "CMC15", "CMC14", "SSTRC4", "SSTRC1", "MPOSC3", "PPM", "AC"),
    *("SAO1984", "SAO", "AGK3", "FK4", "ACRS", "LickGas", "Ida93", "Perth70", "COSMOS", "Yale", "ZZCAT", "IHW", "GZ"),
    UNKNOWN_CATALOGUE,
)
"""Values of astCat and photCat, including those no longer recommended."""

MOVING = (
    *("245", "247", "248", "249", "250", "258", "270", "274", "275"),
    *("C49", "C50", "C51", "C52", "C53", "C54", "C55", "C56", "C57", "C59"),
)
"""Codes of roving observers and of telescopes in space: each observation must tell where it was made."""

BANDS = {
    "Uj": "U",
    "Bj": "B",
    "Vj": "V",
    "Rc": "R",
    "Ic": "I",
    "VR": "V",
    "Gb": "G",
    "Gg": "G",
    "Gr": "G",
    **{f"S{band}": band for band in "ugriz"},
    **{f"P{band}": band for band in "grizyw"},
    **{f"L{band}": band for band in "ugrizy"},
    "Ao": "o",
    "Ac": "c",
    **{band: band for band in "UBVRICWLGHJKYugrizywocv"},
}
"""Value of band -> the letter that stands for it in 80 columns.

Two letters: Johnson and Cousins, DECam's VR, Gaia, Sloan, Pan-STARRS, Rubin (IAU-ADES/ADES-Master issue 60), ATLAS; the
letters as issue 88 has them. One letter: https://minorplanetcenter.net/iau/info/OpticalObs.html.
"""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _require_lines(texts: Iterable[str], most: int) -> None:
    for text in texts:
        if not text.strip() or "|" in text or not text.isprintable() or len(text) > most:
            raise ValueError(f"must be one line of {most} characters at most, without |, got {text!r}")


def _require_listed(names: Iterable[str], known: Iterable[str]) -> None:
    listed = tuple(known)
    for name in names:
        if name not in listed:
            raise ValueError(f"must be what the Minor Planet Center lists, got {name!r}; known are {', '.join(listed)}")


class AdesTelescope(_Frozen):
    """Telescope; design, aperture and detector are built in for some observatories, and required for others."""

    name: Annotated[str | None, Field(description="Its name.")] = None
    design: Annotated[str | None, Field(description="Reflector, Schmidt, ...")] = None
    aperture: Annotated[float | None, Field(gt=0, lt=1000, description="m")] = None
    detector: Annotated[str | None, Field(description="CCD, CMOS, ...")] = None
    f_ratio: Annotated[float | None, Field(gt=0, lt=1000, description="Focal length over aperture.")] = None
    pixel_scale: Annotated[float | None, Field(gt=0, lt=1000, description="arcsec / px")] = None

    @field_validator("name", "design", "detector")
    @classmethod
    def _short(cls, value: str | None, info: ValidationInfo) -> str | None:
        _require_lines(() if value is None else (value,), 100 if info.field_name == "name" else 25)
        return value


class AdesSettings(_Frozen):
    """Reports to the Minor Planet Center. Nothing is submitted without submitter, measurers and ast_cat."""

    mpc_code: Annotated[
        str | None, Field(description="Code of the observatory; null: by the instrument (ZTF, Rubin, DECam).")
    ] = None
    submitter: Annotated[str | None, Field(description="Who submits: initials and surname.")] = None
    institution: Annotated[str | None, Field(description="Institution of the submitter.")] = None
    measurers: Annotated[tuple[str, ...], Field(description="Who measured: initials and surname of each.")] = ()
    observers: Annotated[tuple[str, ...], Field(description="Who observed, likewise.")] = ()
    telescope: AdesTelescope = AdesTelescope()
    ast_cat: Annotated[str | None, Field(description="Catalogue of the astrometry: Gaia2, Gaia3, ...")] = None
    phot_cat: Annotated[
        str | None, Field(description="Catalogue of the photometry; null: PS1_DR1 for ZTF, else not told.")
    ] = None
    bands: Annotated[
        dict[str, str],
        Field(description="Band of the catalogues -> the Minor Planet Center's; beyond those known by the instrument."),
    ] = {}
    funding_source: Annotated[str | None, Field(description="Who paid.")] = None
    comments: Annotated[tuple[str, ...], Field(description="Lines of comment.")] = ()
    notes: Annotated[
        str, Field(pattern=r"^[A-Za-z]{0,3}$", description="Notes that all observations have, a letter each.")
    ] = ""
    known_singles: Annotated[
        bool, Field(description="Report detections of known objects that are in no tracklet, too.")
    ] = False
    max_chance: Annotated[
        float, Field(gt=0, description="Largest `chance` of a tracklet that is reported under no designation.")
    ] = 0.05

    @field_validator("submitter", "institution", "funding_source")
    @classmethod
    def _line(cls, value: str | None) -> str | None:
        _require_lines(() if value is None else (value,), 100)
        return value

    @field_validator("measurers", "observers", "comments")
    @classmethod
    def _lines(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        _require_lines(value, 100)
        return value

    @field_validator("ast_cat", "phot_cat")
    @classmethod
    def _catalogue(cls, value: str | None) -> str | None:
        _require_listed(() if value is None else (value,), CATALOGUES)
        return value

    @field_validator("bands")
    @classmethod
    def _listed(cls, value: dict[str, str]) -> dict[str, str]:
        _require_listed(value.values(), BANDS)
        return value


class ReportedDetection(_Frozen):
    """Submitted detection: fields that identify it even if its id has changed, and what was reported."""

    visit: int
    detector: int
    ra: Annotated[float, Field(description="deg")]
    dec: Annotated[float, Field(description="deg")]
    trkSub: Annotated[str, Field(description="Name of its tracklet; empty if it was submitted alone.")]
    values: Annotated[dict[str, str], Field(description="obsTime, ra, dec, mag and band as they were written.")]


class SubmissionRecord(_Frozen):
    """Submitted report with its text, from which the file is written."""

    schema_version: int = SUBMISSION_VERSION
    night: Annotated[str, Field(pattern=r"^\d{8}$")]
    number: Annotated[int, Field(ge=1, description="Number among the submissions of the night.")]
    form: Annotated[str, Field(description="psv, xml or obs80.")]
    correction: Annotated[bool, Field(description="Whether it repeats detections whose measurements changed.")]
    detections: tuple[ReportedDetection, ...]
    text: str
    submitted_at: Annotated[str, Field(description="UTC, ISO 8601.")]
    software: Annotated[str, Field(description="Version of nightstride.")]

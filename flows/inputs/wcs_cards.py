"""The part of a header that maps pixels to the sky."""

import math
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from flows.inputs.fits_damage import require_one_value, value_of
from schemas.errors import BadInput

if TYPE_CHECKING:
    from astropy.wcs import WCS

_CARD = re.compile(
    r"RADESYS|RADECSYS|EQUINOX|LONPOLE|LATPOLE|"
    r"(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA)[12]|(CD|PC)[12]_[12]|PC00[12]00[12]|(PV|PS)[12]_\d+|"
    r"(A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)"
)
"""PC00i00j is the form of PCi_j before the standard, still used by Pan-STARRS."""

_TEXT = re.compile(r"RADESYS|RADECSYS|(CTYPE|CUNIT)[12]|PS[12]_\d+")
"""Cards that hold text; all others hold numbers."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?")

_TABLES = {"CPDIS": "CPERR", "CQDIS": "", "D2IMDIS": "D2IMERR"}
"""Distortions from tables or by formulas that are not computed -> keyword of how large they are at most, px."""

_SMALL_PX = 0.1
"""Largest such distortion that is left out silently."""

_IRAF = re.compile(r"WAT[12]_\d+")
_ESSENTIAL = ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
_FRAME = ("RADESYS", "RADECSYS", "EQUINOX")
_SINGULAR = 1e-8  # determinant over squared norm; a pixel 10,000 times longer than wide has 1e-4
_SCALE = ("CD1_1", "CD1_2", "CD2_1", "CD2_2", "CDELT1", "CDELT2")


def wcs_cards(headers: tuple[fits.Header, ...], where: str, shape: tuple[int, int]) -> str | None:
    r"""Return the WCS cards of a header, distortion (PV, SIP) included.

    Parameters
    ----------
    headers
        Headers; the first with CTYPE1 is used, as a whole.
    where
        URI, for messages.
    shape
        Shape (ny, nx) of the image, px.

    Returns
    -------
    str or None
        Cards, newline separated, for ``WCS(Header.fromstring(cards, sep="\\n"))``; None if there are none at all.

    Raises
    ------
    BadInput
        ``missing_wcs``: some of the keywords are missing; ``invalid_keyword``: one cannot be read, is not finite, or
        lacks a required value, or is no number where it has to be; ``singular_wcs``: the matrix cannot be inverted, the
        image is not on the sky, its coordinates are neither equatorial nor galactic or in an unknown frame, or its
        distortion is not supported here.
    """
    from astropy.wcs import WCS  # planning does not need WCS
    from astropy.wcs.utils import wcs_to_celestial_frame

    header = next((one for one in headers if "CTYPE1" in one), None)
    if header is None:
        found = sorted({key for one in headers for key in (*_ESSENTIAL, *_SCALE) if key in one})
        if found:
            raise _missing(where, [key for key in _ESSENTIAL if key not in found])
        return None
    if missing := [key for key in _ESSENTIAL if key not in header]:
        raise _missing(where, missing)
    if not any(key in header for key in _SCALE):
        raise _missing(where, ["CD1_1 or CDELT1"])
    if not any(key in header for key in _SCALE[:4]) and (missing := [key for key in _SCALE[4:] if key not in header]):
        raise _missing(where, missing)  # which would be 1 degree by the standard
    for one, other in (("A", "B"), ("B", "A"), ("AP", "BP"), ("BP", "AP")):
        if f"{one}_ORDER" in header and f"{other}_ORDER" not in header:
            raise _singular(where, f"{one}_ORDER is there and {other}_ORDER is not, SIP distortion has both")
    with warnings.catch_warnings():
        # Cards that break the standard in ways that wcslib repairs (RADECSYS, odd units).
        warnings.simplefilter("ignore", AstropyWarning)
        cards = _cards(header, where, _primary_of(header, headers))
        try:
            world = WCS(cards, relax=True)
            centre = world.all_pix2world([[(shape[1] - 1) / 2, (shape[0] - 1) / 2]], 0)
            matrix = _matrix(cards, world)
        except Exception as error:  # wcslib's errors have no common base class
            told = ", ".join(f"{key} is {header[key]!r}" for key in _ESSENTIAL)
            raise _singular(where, f"it cannot be computed with {told}") from error
    if str(cards["CTYPE1"]).endswith("-TNX") and any(map(_IRAF.fullmatch, header)):
        raise _singular(where, f"CTYPE1 is {cards['CTYPE1']!r}, IRAF's distortion (WAT1_001, ...) is not computed")
    _require_computed(header, cards, where)
    if not world.has_celestial:
        raise _singular(where, f"CTYPE1 is {header['CTYPE1']!r}, no celestial axis")
    if world.wcs.lngtyp.strip() not in ("RA", "GLON"):  # astropy would take ecliptic longitudes for right ascensions
        raise _singular(where, f"CTYPE1 is {header['CTYPE1']!r}, neither equatorial nor galactic")
    try:
        wcs_to_celestial_frame(world)
    except ValueError as error:
        told = ", ".join(f"{key} is {cards[key]!r}" for key in ("RADESYS", "EQUINOX") if key in cards)
        raise _singular(where, f"its reference frame is not known: {told}") from error
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) <= _SINGULAR * np.sum(np.square(matrix)):
        raise _singular(where, f"the matrix {matrix.tolist()} from pixels to degrees cannot be inverted")
    if not np.isfinite(centre).all():
        raise _singular(where, "the middle of the image has no place on the sky")
    return cards.tostring(sep="\n", endcard=False, padding=False)


def equinox_of_epoch(headers: tuple[fits.Header, ...]) -> float | None:
    """Return the equinox that EPOCH gave before the standard, if no keyword of the standard gives one.

    None also for 2000, which is as good as ICRS, the default.
    """
    header = next((one for one in headers if "CTYPE1" in one), None)
    if (
        header is None
        or not str(value_of(header, "CTYPE1")).startswith(("RA", "DEC"))
        or "EQUINOX" in header
        or "ICRS" in (value_of(header, "RADESYS"), value_of(header, "RADECSYS"))
    ):
        return None
    epoch = value_of(header, "EPOCH")
    return float(epoch) if isinstance(epoch, int | float) and epoch != 2000 and 1850 < epoch < 2150 else None


def equinox_of_primary(headers: tuple[fits.Header, ...]) -> float | None:
    """Return the equinox that the primary header alone gives, if it is not 2000 and the WCS is not in that header.

    It is that of the WCS if this has ``INHERIT = T``; otherwise it may be that of the telescope's pointing.
    """
    header = next((one for one in headers if "CTYPE1" in one), None)
    if header is None or not str(value_of(header, "CTYPE1")).startswith(("RA", "DEC")):
        return None
    if any(key in header for key in (*_FRAME, "EPOCH")) or (primary := _primary_of(header, headers)) is None:
        return None
    told = str(value_of(primary, "EQUINOX")).strip().lstrip("JB")
    equinox = float(told) if _NUMBER.fullmatch(told) else 2000.0
    return equinox if equinox != 2000 else None


def pixel_scale_arcsec(cards: str) -> float:
    """Return the side of a pixel at the reference point, arcsec, from the cards of `wcs_cards`."""
    from astropy.wcs.utils import proj_plane_pixel_scales

    return float(np.mean(proj_plane_pixel_scales(world_of(cards).celestial))) * 3600


def pixel_area_arcsec2(cards: str) -> float:
    """Return the area of a pixel at the reference point, arcsec², from the cards of `wcs_cards`."""
    from astropy.wcs.utils import proj_plane_pixel_area

    return float(proj_plane_pixel_area(world_of(cards).celestial)) * 3600**2


def same_grid(cards: str, others: str, shape: tuple[int, int], within: float = 0.5) -> bool:
    """Return whether two WCS agree at the corners and centre of an image (ny, nx) to ``within`` px."""
    far_y, far_x = shape[0] - 1, shape[1] - 1
    points = np.array([(0, 0), (far_x, 0), (0, far_y), (far_x, far_y), (far_x / 2, far_y / 2)], float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # if the distortion cannot be inverted, the result is far off anyway
        there = np.stack(world_of(cards).world_to_pixel(world_of(others).pixel_to_world(*points.T)), 1)
    return bool(np.nanmax(np.abs(there - points), initial=0) < within and np.isfinite(there).all())


def world_of(cards: str) -> "WCS":
    """Return the WCS made from the cards of `wcs_cards`."""
    from astropy.wcs import WCS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        return WCS(fits.Header.fromstring(cards, sep="\n"), relax=True)


def _matrix(cards: fits.Header, world: "WCS") -> NDArray[np.float64]:
    if any(key.startswith(("CD1_", "CD2_")) for key in cards):
        # Not astropy's: it ignores a matrix of zeros.
        return np.array([[float(cards.get(f"CD{i}_{j}", 0.0)) for j in (1, 2)] for i in (1, 2)])
    return np.asarray(world.pixel_scale_matrix, float)


def _primary_of(header: fits.Header, headers: tuple[fits.Header, ...]) -> fits.Header | None:
    """Return the primary header beside that of an extension."""
    return next((one for one in headers if one is not header and "XTENSION" not in one), None)


def _cards(header: fits.Header, where: str, primary: fits.Header | None) -> fits.Header:
    keys = [key for key in header if _CARD.fullmatch(key) and key != "WCSAXES"]  # axes of length 1 are ignored
    if any(key.startswith("CD1_") for key in keys):
        # IRAF leaves CROTA and CDELT beside the CD matrix; the standard forbids using both.
        keys = [key for key in keys if not key.startswith(("CDELT", "CROTA", "PC"))]
    found = {key: _value(header, key, where) for key in dict.fromkeys(keys)}
    found.setdefault("EQUINOX", equinox_of_epoch((header,)))
    if primary is not None and value_of(header, "INHERIT") is True and not any(key in header for key in _FRAME):
        found |= {key: _value(primary, key, where) for key in _FRAME if key in primary}
    if "A_ORDER" in found:  # astropy applies the distortion in any case, and without the suffix says so on stdout
        found |= {key: f"{found[key]}-SIP" for key in ("CTYPE1", "CTYPE2") if str(found[key]).endswith("-TAN")}
    return fits.Header([(key, value) for key, value in found.items() if value is not None])


def _value(header: fits.Header, key: str, where: str) -> Any:
    """Return the value of a card; None if it has none and none is required."""
    try:
        value = header[key]
        require_one_value(header, key, where)
    except fits.VerifyError:
        raise _invalid(where, key, "has no value that can be read") from None
    if value is None or isinstance(value, fits.card.Undefined):
        if key in (*_ESSENTIAL, *_SCALE):
            raise _invalid(where, key, "has no value that can be read")
        return None
    if isinstance(value, str) and not _TEXT.fullmatch(key):
        value = _number_in(value, key, where)
    if isinstance(value, float) and not math.isfinite(value):
        raise _invalid(where, key, f"is {value}")
    return value


def _number_in(text: str, key: str, where: str) -> float:
    """Return the number that a card holds as text, which wcslib would take for absent."""
    plain = text.strip()
    if key == "EQUINOX":
        plain = plain.lstrip("JB")
    if not _NUMBER.fullmatch(plain):
        raise _invalid(where, key, f"is {text!r}, must be a number")
    return float(plain.upper().replace("D", "E"))


def _require_computed(header: fits.Header, cards: fits.Header, where: str) -> None:
    """Refuse a header whose other keywords move the pixels on the sky, which is not computed here."""
    for axis in (1, 2):
        for kind, largest in _TABLES.items():
            told = value_of(header, f"{kind}{axis}")
            most = value_of(header, f"{largest}{axis}") if largest else None
            small = isinstance(most, int | float) and abs(most) <= _SMALL_PX
            if isinstance(told, str) and told.strip() and not small:
                raise _singular(where, f"{kind}{axis} is {told!r}, a distortion that is not computed")
    turned = cards.get("CROTA1", 0)
    if turned and "CROTA2" not in cards and not any(key.startswith("PC") for key in cards):
        raise _singular(where, f"CROTA1 is {turned} and there is no CROTA2, by which the standard turns an image")


def _invalid(where: str, key: str, what: str) -> BadInput:
    return BadInput("invalid_keyword", where, f"{key} {what}.", f"correct {key} in the header.")


def _missing(where: str, keys: list[str]) -> BadInput:
    return BadInput(
        "missing_wcs", where, f"the header has no keyword {', '.join(keys)}.", "solve the image's astrometry first."
    )


def _singular(where: str, detail: str) -> BadInput:
    return BadInput("singular_wcs", where, f"the WCS cannot be used: {detail}.", "solve the image's astrometry first.")

"""Inspection of a file with the code of a run: its values, assumptions, and unused keywords."""

import math
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.time import Time
from astropy.wcs.utils import proj_plane_pixel_scales, wcs_to_celestial_frame

from flows.inputs.described import FAINT_STARS, FewStars, described, few_stars, stars_psf
from flows.inputs.files import open_part
from flows.inputs.fits_damage import damage
from flows.inputs.fits_generic import GENERIC, given_mapping
from flows.inputs.fits_header import (
    FitsFormat,
    HeaderCalibration,
    HeaderOrigin,
    Headers,
    Identity,
    IdentityParts,
    Keywords,
    image_shape,
    is_image,
)
from flows.inputs.fits_io import read_headers
from flows.inputs.fits_layout import extension_name, likely_planes
from flows.inputs.probe import changed_calibration, changed_identity, format_of, read
from flows.inputs.source import Source, name_of
from flows.inputs.wcs_cards import wcs_cards, world_of
from flows.results.likely_keywords import Unused, unused_keywords
from kernels.image.pixel_state import usable_pixels
from kernels.psf.seeing import BRIGHT, LEAST_STARS, StarsPsf
from kernels.sky.projection import local_scales
from schemas.errors import BadInput, NightstrideError
from schemas.exposure import ASSUMPTIONS, ExposureInfo
from schemas.keyword_mapping import KeywordMapping
from schemas.pixels import is_large
from schemas.settings import Settings

ASSUMED = "ASSUMED"

_REFUSED = "the file is refused, and this may be why; if it tells what is missing, name it in the settings"


_NOTHING = IdentityParts({}, ())

_Stars = StarsPsf | FewStars | None


class Quantity(NamedTuple):
    """Quantity that the search needs.

    Attributes
    ----------
    name, value, unit
        Name, value and unit; value None: not known.
    keyword, said
        Keyword of the quantity, and its value in the header; "" without a keyword.
    note
        How it was found.
    assumed
        Whether the value is a guess or in doubt.
    """

    name: str
    value: Any
    unit: str = ""
    keyword: str = ""
    said: str = ""
    note: str = ""
    assumed: bool = False


class Extension(NamedTuple):
    """HDU of a file: its number, name, kind or sides, what it is used as, and which plane it may be ("" for none)."""

    hdu: int
    name: str
    kind: str
    used: str
    likely: str = ""


@dataclass(frozen=True)
class Inspection:
    """Result of the inspection of a file.

    Attributes
    ----------
    uri, form
        Its name, and its format.
    quantities, extensions, unused
        Quantities for the search; HDUs of the file; keywords that may hold more, and why they are not used.
    flags
        Flags of the exposure.
    error
        Reason why it cannot be searched; None: it can.
    headers
        Headers of its image: the image's own header, then the primary one.
    origins
        Origins of the quantities.
    """

    uri: str
    form: str
    quantities: tuple[Quantity, ...]
    extensions: tuple[Extension, ...]
    unused: tuple[Unused, ...]
    flags: tuple[str, ...]
    error: NightstrideError | None
    headers: Headers = ()
    origins: tuple[HeaderOrigin, ...] = ()

    def value(self, name: str) -> Any:
        """Return the value of a quantity; None if it is not known."""
        return next((one.value for one in self.quantities if one.name == name), None)

    def values(self) -> dict[str, Any]:
        """Return all fields as JSON-serialisable values."""
        error = self.error
        return {
            "uri": self.uri,
            "format": self.form,
            "quantities": {
                one.name: {k: v for k, v in one._asdict().items() if k != "name"} for one in self.quantities
            },
            "extensions": [one._asdict() for one in self.extensions],
            "unused": [asdict(one) for one in self.unused],
            "flags": {flag: ASSUMPTIONS.get(flag, "") for flag in self.flags},
            "error": None if error is None else {k: getattr(error, k) for k in ("code", "where", "problem", "remedy")},
        }


@dataclass(frozen=True)
class _Read:
    """Readable content of the headers.

    Attributes
    ----------
    form, headers, layout
        Format, headers and layout of the file; the layout is empty if there is none.
    parts
        Parts of the identity.
    calibration
        None: not known.
    wcs, shape
        Cards, "" if they are in error, and sides, px, of the image.
    named
        Keywords in the settings.
    image
        HDU whose header is used if there is no layout.
    """

    form: FitsFormat
    headers: Headers
    named: frozenset[str]
    layout: Mapping[str, int] = field(default_factory=dict)
    parts: IdentityParts = _NOTHING
    calibration: HeaderCalibration | None = None
    wcs: str | None = ""
    shape: tuple[int, int] = (0, 0)
    image: int = 0

    @property
    def words(self) -> Keywords:
        return Keywords("", tuple(self.headers[index] for index in (self.layout.get("difference", self.image), 0)))


def inspect_source(source: Source, settings: Settings) -> Inspection:
    """Return the inspection of a file, read as in a run, with the results of every step.

    An error of the file is part of the result, together with everything found before it.
    """
    if source.refusal is not None or source.is_folder or source.index is not None:
        return _unheaded(source, settings)
    try:
        with open_part(source.uri) as file:
            headers = read_headers(file, source.uri)
    except NightstrideError as error:
        if getattr(error, "code", "") == "not_fits":
            return _unheaded(source, settings)
        return Inspection(name_of(source), "", (), (), (), (), error)
    known, trouble = _read(source, headers, settings)
    if trouble is not None:
        return _inspection(source, known, None, None, trouble)
    try:
        info, stars = _pixels(source, settings)
    except NightstrideError as error:
        return _inspection(source, known, None, None, error)
    return _inspection(source, known, info, stars, None)


def _unheaded(source: Source, settings: Settings) -> Inspection:
    """Return the inspection of an input that is not a FITS file: an image of a stack, or an unreadable file."""
    try:
        if source.refusal is not None:
            raise source.refusal
        info, stars = _pixels(source, settings)
    except NightstrideError as error:
        return Inspection(name_of(source), "", (), (), (), (), error)
    rows = (*_identity_rows(_told_by(info), info.flags), *_described_rows(info), *_pixel_rows(info, stars))
    return Inspection(name_of(source), "npz stack", rows, (), (), info.flags, None)


def _read(source: Source, headers: Headers, settings: Settings) -> tuple[_Read, NightstrideError | None]:
    """Return the readable content of the headers, and the first error, which is also that of a run."""
    form, uri, mapping = format_of(headers), source.uri, given_mapping(settings.fits, source.overrides)
    known, first = _Read(form, headers, _named(mapping) if form is GENERIC else frozenset()), None
    for step in (_layout, _identity, _wcs, _calibration):
        try:
            with damage(uri):
                known = step(known, source, mapping)
        except NightstrideError as error:
            first = first or error
        except IndexError:
            axes = BadInput(
                "wrong_dimensions",
                uri,
                "the image has not two axes.",
                "write the plane to be searched as an image of two.",
            )
            first = first or axes
        if not known.layout:
            return _of_first_image(known, source, mapping), first
    if not known.parts.values:
        with suppress(NightstrideError), damage(uri):
            known = replace(known, parts=form.parts(headers, uri, mapping))
    return known, first


def _of_first_image(known: _Read, source: Source, mapping: KeywordMapping) -> _Read:
    """Return the content of the headers with quantities of the first of several images that probably apply to all."""
    image = next((index for index, header in enumerate(known.headers) if is_image(header)), None)
    if image is None or known.form is not GENERIC:
        return known
    chosen = mapping.model_copy(update={"extension": image, "planes": {}})
    with suppress(NightstrideError), damage(source.uri):
        parts = GENERIC.parts(known.headers, source.uri, chosen)
        values = {name: value for name, value in parts.values.items() if name != "detector"}
        known = replace(known, image=image, parts=parts._replace(values=values))
        known = _calibration(known, source, chosen)
    return known


def _named(mapping: KeywordMapping) -> frozenset[str]:
    told = (mapping.time.keyword, mapping.time.clock, mapping.exposure_time.keyword, mapping.band.keyword)
    unit = "BUNIT" if mapping.pixel_unit is None else None
    return frozenset(name for name in (*told, mapping.instrument.keyword, mapping.visit.keyword, unit) if name)


def _layout(known: _Read, source: Source, mapping: KeywordMapping) -> _Read:
    return replace(known, layout=known.form.layout(known.headers, source.uri, mapping))


def _identity(known: _Read, source: Source, mapping: KeywordMapping) -> _Read:
    found = changed_identity(known.form.identity(known.headers, source.uri, mapping), source)
    return replace(known, parts=IdentityParts(_told_by(found), found.origins))


def _wcs(known: _Read, source: Source, _mapping: KeywordMapping) -> _Read:
    own = known.headers[known.layout["difference"]]
    sides = image_shape(own)
    shape = sides[0], sides[1]
    return replace(known, wcs=wcs_cards((own, known.headers[0]), source.uri, shape), shape=shape)


def _calibration(known: _Read, source: Source, mapping: KeywordMapping) -> _Read:
    found = known.form.calibration(known.headers, source.uri, mapping, known.wcs or None)
    return replace(known, calibration=changed_calibration(found, source))


def _pixels(source: Source, settings: Settings) -> tuple[ExposureInfo, _Stars]:
    """Return the metadata from the pixels as in a run, and the stars of the PSF, even if a run would not need them."""
    info, planes = described(read(source, settings))
    if is_large(info.shape):
        return info, None
    image = planes["difference"]
    shown = {**planes, "image": image}, usable_pixels(image, planes["mask"]), info.saturation
    seen = stars_psf(*shown)
    return info, few_stars(*shown) if seen is None else seen.psf


def _inspection(
    source: Source, known: _Read, info: ExposureInfo | None, stars: _Stars, error: NightstrideError | None
) -> Inspection:
    measured = info is not None and info.psf.source != "header"
    origins, words = _origins(known, {"psf_fwhm"} if measured else set()), known.words
    if info is None:
        rows = [*_identity_rows(known.parts.values, ()), *_untimed(known.parts), *_header_rows(known)]
    else:
        rows = [*_identity_rows({**known.parts.values, **_told_by(info)}, info.flags)]
        constant = any(one.quantity == "psf_fwhm" and not one.keyword for one in origins)
        rows += [*_described_rows(info), *_pixel_rows(info, stars, "settings" if constant else "header")]
    told = tuple(_told(row, origins, words) for row in rows)
    used = {key for one in origins for key in _keys(one)}
    asked = known.form.asked.items()
    used |= {key for name, keys in asked if not (measured and name == "psf_fwhm") for key in keys}
    used |= known.named if error is not None else frozenset()
    unit = info.pixel_unit if info is not None else known.calibration.pixel_unit if known.calibration else None
    unused = unused_keywords(words, used, known.form.name, unit)
    if error is not None:
        missing = _missing(known)
        unused = tuple(replace(one, why=_REFUSED) if one.quantity in missing else one for one in unused)
    return Inspection(
        name_of(source),
        known.form.name,
        told,
        tuple(_extensions(known)),
        unused,
        () if info is None else info.flags,
        error,
        words.headers,
        origins,
    )


def _missing(known: _Read) -> set[str]:
    """Return the quantities missing in the headers, which may be why the file is refused."""
    values = known.parts.values
    if not values:
        return {"exposure_time", "time", "detector", "band"} if known.layout else set()
    needed = {"exposure_time": "exposure_time_s", "time": "midpoint_mjd_tai", "detector": "detector", "band": "band"}
    missing = {name for name, field in needed.items() if field not in values}
    if "exposure_time" in missing:  # without it neither the time nor the gain of rates is asked for
        missing.discard("time")
    elif known.calibration is None and values["exposure_time_s"] > 0:
        missing |= {"pixel_unit", "gain", "zero_point", "saturation"}
    return missing - {one.quantity for one in known.parts.origins}


def _origins(known: _Read, without: Set[str]) -> tuple[HeaderOrigin, ...]:
    """Return the origin of each quantity, from the format or else from the keywords that it uses."""
    own = [
        *known.parts.origins,
        *(known.calibration.origins if known.calibration else ()),
    ]
    asked = known.form.asked.items()
    found = [
        HeaderOrigin(name, hit[0])
        for name, names in asked
        if name not in without and (hit := known.words.find(*names)) is not None
    ]
    return (*own, *found)


def _told(row: Quantity, origins: tuple[HeaderOrigin, ...], words: Keywords) -> Quantity:
    """Return a quantity with its keyword and value in the header."""
    name = {"mid_exposure_utc": "time", "mid_exposure_tai": "time"}.get(row.name, row.name)
    origin = next((one for one in origins if one.quantity == name), None)
    if origin is None:
        return row
    keys = _keys(origin)
    present = {key: str(found[1]).strip() for key in keys if (found := words.find(key)) is not None}
    note = "; ".join(part for part in (row.note, origin.note, *_primary(keys, words, origin.note)) if part)
    keyword, said = " + ".join(present), ", ".join(present.values())
    if keys and not present:
        note = f"no {origin.keyword}"
    return row._replace(
        keyword=keyword, said=said, note=note, assumed=row.assumed or bool(origin.flag) or origin.assumed
    )


def _primary(keys: list[str], words: Keywords, told: str) -> Iterator[str]:
    """Yield values of the primary header that contradict the image's own header and are not reported elsewhere."""
    turned = words.primary_first() or words
    for key in keys:
        own, other = words.find(key), turned.find(key)
        if own is not None and other is not None and own[1] != other[1] and "of the primary header" not in told:
            yield f"the primary header has {key} = {other[1]}"


def _keys(origin: HeaderOrigin) -> list[str]:
    return [key.strip() for key in origin.keyword.replace("+", ",").split(",") if key.strip()]


def _told_by(known: ExposureInfo | Identity) -> dict[str, Any]:
    """Return the values of `IdentityParts` for a complete identity."""
    key = known.key if isinstance(known, Identity) else known
    values = {name: getattr(key, name) for name in ("visit", "detector", "night")}
    values |= {name: getattr(known, name) for name in ("instrument", "band", "exposure_time_s", "midpoint_mjd_tai")}
    longitude = known.longitude_deg if isinstance(known, Identity) else None
    return values if longitude is None else values | {"longitude_deg": longitude}


def _identity_rows(values: Mapping[str, Any], flags: tuple[str, ...]) -> Iterator[Quantity]:
    no_time = "no_time" in flags
    for name in ("visit", "detector", "instrument", "band"):
        if name in values:
            yield Quantity(name, values[name])
    if "exposure_time_s" in values:
        yield Quantity("exposure_time", values["exposure_time_s"], "s")
    if (middle := values.get("midpoint_mjd_tai")) is not None:
        tai = Time(middle, format="mjd", scale="tai", precision=3)
        yield Quantity("mid_exposure_utc", tai.utc.isot, "UTC", assumed=no_time)
        yield Quantity("mid_exposure_tai", round(middle, 8), "MJD TAI", note=tai.isot, assumed=no_time)
    if "night" in values:
        unsure = "assumed_site" in flags or no_time
        yield Quantity("night", values["night"], note="date of the local evening", assumed=unsure)
    if "longitude_deg" in values:
        yield Quantity("longitude_deg", round(values["longitude_deg"], 4), "deg east")


def _untimed(parts: IdentityParts) -> Iterator[Quantity]:
    if "midpoint_mjd_tai" not in parts.values and any(one.quantity == "time" for one in parts.origins):
        yield Quantity("mid_exposure_utc", None, "UTC", note="half the exposure time is missing")


def _described_rows(info: ExposureInfo) -> Iterator[Quantity]:
    yield from _calibration_rows(info.pixel_unit, info.ab_zero_point, info.zero_point_err, info.gain, info.saturation)
    yield from _sky_rows(info.wcs_header, info.shape)


def _header_rows(known: _Read) -> Iterator[Quantity]:
    """Yield the quantities of calibration and sky from the headers, without the pixels."""
    if (one := known.calibration) is not None:
        rows = _calibration_rows(one.pixel_unit, one.zero_point, one.zero_point_err, one.gain, one.saturation)
        unsure = known.wcs == "" and one.pixel_unit == "MJy/sr"  # its zero point depends on the area of a pixel
        yield from (row for row in rows if not (unsure and row.name == "zero_point"))
    if known.wcs != "":
        yield from _sky_rows(known.wcs, known.shape)


def _calibration_rows(
    unit: str, zero_point: float | None, zero_point_err: float | None, gain: float | None, saturation: float | None
) -> Iterator[Quantity]:
    yield Quantity("pixel_unit", unit, assumed=unit == "unknown")
    note = "" if zero_point is not None else "fluxes are null"
    yield Quantity("zero_point", _known(zero_point), f"mag(AB) of 1 {unit}", note=note)
    yield Quantity("zero_point_err", zero_point_err, "mag")
    note = "" if gain is not None else "photon noise of the sources is left out"
    yield Quantity("gain", _known(gain), f"electrons per {unit}", note=note)
    note = "" if saturation is not None else "nothing counts as saturated"
    yield Quantity("saturation", saturation, unit, note=note)


def _sky_rows(cards: str | None, shape: tuple[int, int]) -> Iterator[Quantity]:
    if cards is None:
        yield Quantity("wcs", None, note="no WCS: sky columns are null")
        return
    world, (ny, nx) = world_of(cards).celestial, shape
    (ra,), (dec,), (matrix,) = local_scales(world, np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2]))
    along_x, along_y = matrix.T  # east and north components of each
    frame = wcs_to_celestial_frame(world).name
    distortion = "SIP" if "A_ORDER" in cards else "PV" if "PV1_" in cards or "PV2_" in cards else "no"
    note = f"ICRS{'' if frame == 'icrs' else f', converted from {frame}'}; {distortion} distortion"
    yield Quantity("centre", f"{ra % 360:.6f} {dec:+.6f}", "deg", note=note)
    yield Quantity("pixel_scale", round(float(np.mean(proj_plane_pixel_scales(world))) * 3600, 5), "arcsec/px")
    north = math.degrees(math.atan2(*along_y))
    yield Quantity("orientation", round(north, 3) % 360, "deg", note="position angle of +y, from ICRS north to east")
    handed = along_x[0] * along_y[1] < along_x[1] * along_y[0]
    yield Quantity("parity", "as on the sky" if handed else "mirrored", note="east is left of north" if handed else "")


def _pixel_rows(info: ExposureInfo, stars: _Stars, teller: str = "header") -> Iterator[Quantity]:
    psf, unit, guess = info.psf, info.pixel_unit, info.psf.source == "assumed"
    yield Quantity("background", _rounded(info.background), unit)
    yield Quantity("noise", _rounded(info.noise), unit, note="standard deviation of a pixel")
    yield Quantity("masked_fraction", _rounded(info.masked_fraction))
    sources = {"image": "the difference image", "header": f"the {teller}", "stamp": "the PSF image"}
    of = "neither a header nor stars tell it" if guess else f"of {sources.get(psf.source, f'the {psf.source} image')}"
    yield Quantity("psf_fwhm", _rounded(psf.fwhm_px), "px", note=f"+- {psf.fwhm_err:.2g} px, {of}", assumed=guess)
    profile = "as good as Gaussian" if psf.beta > 15 else "Moffat"
    unsure = guess or psf.flatness_err >= 0.1
    note = f"{profile}; 1/beta +- {psf.flatness_err:.2g}" + (", not measured" if unsure else "")
    yield Quantity("psf_beta", _rounded(psf.beta), note=note, assumed=unsure)
    if isinstance(stars, FewStars):
        note = f"of {stars.seen} are above {BRIGHT:g} sigma; {LEAST_STARS}, or {FAINT_STARS} in all, would tell the PSF"
        yield Quantity("stars", stars.bright, note=note)
    elif stars is not None:
        yield Quantity("stars", stars.stars, note=f"FWHM {stars.fwhm_px:.2f} px, beta {stars.beta:.1f}")
        note = f"major axis at {stars.angle_deg:.0f} deg from +x to +y"
        yield Quantity("psf_ellipticity", round(stars.ellipticity, 3), note=note)


def _known(value: float | None) -> float | None:
    """Return a header value with the digits of a float32 or a keyword, without digits from conversion."""
    return None if value is None else float(f"{value:.9g}")


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _extensions(known: _Read) -> Iterator[Extension]:
    used = {index: plane for plane, index in known.layout.items()}
    likely = likely_planes(known.headers, known.layout) if known.form is GENERIC else {}
    for index, header in enumerate(known.headers):
        own = image_shape(header) if is_image(header) else None
        kind = " x ".join(map(str, reversed(own))) if own is not None else _kind(header)
        yield Extension(index, extension_name(header), kind, used.get(index, ""), likely.get(index, ""))


def _kind(header: fits.Header) -> str:
    return "table" if "TABLE" in str(header.get("XTENSION", "")) else "no pixels"

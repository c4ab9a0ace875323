"""Layout of a FITS file of any instrument: the HDU of the image, and the detector number."""

import re
from collections.abc import Mapping

from astropy.io import fits

from flows.inputs.fits_damage import value_of
from flows.inputs.fits_header import HeaderOrigin, Headers, Keywords, as_integer, image_shape, is_image, no_image
from schemas.errors import BadInput
from schemas.keyword_mapping import KeywordMapping

DIFFERENCE_NAMES = frozenset(
    {"DIFF", "DIFFERENCE", "DIFFIM", "DIFFIMG", "DIFF_IMAGE", "DIFFERENCE_IMAGE", "SUB", "SUBTRACTED"}
)
"""Names (EXTNAME, upper case) of difference images."""

_OTHER = re.compile(
    r".*(MASK|FLAG|VAR|ERR|SIGMA|UNCERT|WEIGHT|WHT|IVAR|WMAP|RMS|NOISE|BKG|BACKGROUND|SKY|PSF|KERNEL|TEMPL|EXPMAP).*"
    r"|MSK|WGT|DQ\d*|BPM|REF|REFERENCE|CON|CTX|SAMP|TIME|EXP"
)
"""Names of HDUs that accompany an image but are not one."""

PLANES = {
    "mask": re.compile(r".*(MASK|FLAG)|MSK|DQ|BPM"),
    "science": re.compile(r"SCI|OBJ|NEW"),
    "template": re.compile(r"REF|TEMPL"),
    "variance": re.compile(r"VAR"),
}
"""Planes of an exposure, and how the names of their HDUs begin."""

_NO_VARIANCE = re.compile(
    r"(.*[_ -])?(WEIGHTS?|WGT|WHT|WMAP|IVAR|INV(ERSE)?[_ -]?VAR(IANCE)?|ERR|ERRORS?|SIGMA|STD([_ -]?DEV)?|STDEV|RMS|"
    r"UNC(ERT(AINTY)?)?)([_ -]?(MAP|IMAGE))?[_ -]?\d*"
)

PLANES_LEFT_OUT = "planes_left_out"
"""Exposure flag: images in the file look like planes of the exposure but are not used."""

DETECTORS = ("CCDNUM", "CCDID", "CCD_ID", "CCD", "DETNUM", "DET-ID", "DET_ID", "DETECTOR", "CHIPID", "CHIPNUM")
"""Keywords for the detector number, in the order in which they are looked up."""

_NUMBERED = re.compile(r"(CCD|CHIP|DET|DETECTOR|SENSOR)[ _-]?0*(?P<number>\d{1,3})")
_MOST = 2**9


def layout_of(headers: Headers, where: str, mapping: KeywordMapping) -> Mapping[str, int]:
    """Return plane -> index of its HDU.

    Raises
    ------
    BadInput
        ``no_image``, ``missing_extension``; ``ambiguous_image``: several HDUs may be the difference image, or have the
        name given in the settings; ``not_a_variance``.
    """
    planes: dict[str, int] = {plane: _extension(headers, name, where) for plane, name in mapping.planes.items()}
    if "variance" in planes:
        require_variance(headers[planes["variance"]], where)
    if mapping.extension is None:
        index = _image(headers, where, set(planes.values()))
    else:
        index = _extension(headers, mapping.extension, where)
        if not is_image(headers[index]):
            raise no_image(where)
    return {"difference": index, **planes}


def require_variance(header: fits.Header, where: str) -> None:
    """Refuse a variance plane whose name says weights or standard deviations.

    Raises
    ------
    BadInput
        ``not_a_variance``.
    """
    name = extension_name(header)
    if _NO_VARIANCE.fullmatch(name.upper()):
        raise BadInput(
            "not_a_variance",
            where,
            f"extension {name} is given for the variance, and by its name holds weights or standard deviations.",
            "write the variance of each pixel (1 / weight, or the square of the error), or leave it out.",
        )


def mapping_for(headers: Headers, mapping: KeywordMapping) -> KeywordMapping:
    """Adapt the settings of science images to a template, which may lack their extensions.

    A missing plane is replaced by the only extension whose name is that of such a plane; if there are several, its
    setting is kept, and if there are none, dropped.
    """
    names = [*map(extension_name, headers)]
    numbers = range(len(headers))
    there, kept = {*numbers, *map(str, numbers), *names}, dict[str, str | int]()
    for plane, name in mapping.planes.items():
        likely = [other for other in names if PLANES[plane].match(other.upper())]
        if name in there or len(likely) > 1:
            kept[plane] = name
        elif likely:
            kept[plane] = likely[0]
    extension = mapping.extension if mapping.extension in there else None
    return mapping.model_copy(update={"planes": kept, "extension": extension})


def _image(headers: Headers, where: str, others: set[int]) -> int:
    images = [index for index, header in enumerate(headers) if is_image(header) and index not in others]
    if not images:
        raise no_image(where)
    names = {index: extension_name(headers[index]).upper() for index in images}
    for chosen in (
        images,
        [index for index in images if names[index] in DIFFERENCE_NAMES],
        [index for index in images if not _OTHER.fullmatch(names[index])],
    ):
        if len(chosen) == 1:
            return chosen[0]
    told = ", ".join(
        f"{index} ({extension_name(headers[index]) or 'no name'}, {_sides(headers, index)})" for index in images
    )
    raise BadInput(
        "ambiguous_image",
        where,
        f"it holds several images, and none alone is named DIFF or DIFFERENCE: {told}.",
        "name the one to be searched in the settings, fits.extension; of a mosaic, write each detector to a file.",
    )


_OF_FILES = {**PLANES, "psf": re.compile(r".*PSF")}
"""The same of planes in files of their own."""


def plane_images(headers: Headers, plane: str) -> list[int]:
    """Return the HDUs of a plane's own file that may hold it.

    They are the only image, or those with a name of such a plane; for a science image or a template else those that by
    their names are neither another plane nor a difference image; otherwise all images.
    """
    images = [index for index, header in enumerate(headers) if is_image(header)]
    names = {index: extension_name(headers[index]).upper() for index in images}
    named = [index for index in images if _OF_FILES[plane].match(names[index])]
    if len(images) > 1 and not named and plane in ("science", "template"):
        named = [index for index in images if not (names[index] in DIFFERENCE_NAMES or _OTHER.fullmatch(names[index]))]
    return named if len(images) > 1 and named else images


def plane_image(headers: Headers, plane: str, where: str) -> int:
    """Return the HDU of a plane in a file of its own.

    Raises
    ------
    BadInput
        ``no_image``; ``ambiguous_image``: several images may be that plane.
    """
    images = plane_images(headers, plane)
    if len(images) == 1:
        return images[0]
    if not images:
        raise no_image(where)
    told = ", ".join(f"{index} ({extension_name(headers[index]) or 'no name'})" for index in images)
    raise BadInput(
        "ambiguous_image",
        where,
        f"it is given for the plane {plane!r}, and several of its images may be that: {told}.",
        "write the plane to a file of its own.",
    )


def likely_planes(headers: Headers, layout: Mapping[str, int]) -> Mapping[int, str]:
    """Return HDU -> plane of unused images that by name and shape may be planes of the exposure."""
    searched = layout.get("difference")
    if searched is None:
        return {}
    shape = image_shape(headers[searched])
    beside = (
        index
        for index, header in enumerate(headers)
        if index not in layout.values() and is_image(header) and image_shape(header) == shape
    )
    likely = {}
    for index in beside:
        name = extension_name(headers[index]).upper()
        plane = next((plane for plane, begins in PLANES.items() if begins.match(name) and plane not in layout), None)
        if plane is not None:
            likely[index] = plane
    return likely


def left_out(headers: Headers, layout: Mapping[str, int]) -> tuple[HeaderOrigin, ...]:
    """Return a flagged note on unused images that may be planes of the exposure, if any."""
    told = [f"{extension_name(headers[index])} ({plane})" for index, plane in likely_planes(headers, layout).items()]
    return (HeaderOrigin("planes", note=", ".join(told), flag=PLANES_LEFT_OUT),) if told else ()


def _sides(headers: Headers, index: int) -> str:
    return " x ".join(str(side) for side in reversed(image_shape(headers[index])))


def extension_name(header: fits.Header) -> str:
    """Return the name of an HDU, or ""."""
    return str(value_of(header, "EXTNAME") or "").strip()


def _extension(headers: Headers, wanted: int | str, where: str) -> int:
    found = [index for index, header in enumerate(headers) if wanted in (index, extension_name(header))]
    if not found and str(wanted).isdecimal() and int(wanted) < len(headers):  # as text: from an environment variable
        return int(wanted)
    images = [index for index in found if is_image(headers[index])]
    if len(images) > 1:
        raise BadInput(
            "ambiguous_image",
            where,
            f"{len(images)} extensions are named {wanted!r}: {', '.join(map(str, images))}.",
            "name one of them by its number in the settings, section [fits].",
        )
    if found:
        return (images or found)[0]
    names = [extension_name(header) or str(index) for index, header in enumerate(headers)]
    raise BadInput(
        "missing_extension",
        where,
        f"there is no extension {wanted!r}, only {', '.join(names)}.",
        "name one of them in the settings, section [fits].",
    )


def detector_of(words: Keywords, mapping: KeywordMapping) -> tuple[int, HeaderOrigin]:
    """Return the detector number: from the settings, else from the usual keywords or EXTNAME, else 0.

    Raises
    ------
    BadInput
        ``ambiguous_detector``: keywords and EXTNAME disagree. ``invalid_keyword``: one has several values.
    """
    given = mapping.detector
    if given.keyword is not None:
        return words.integer(given.keyword, below=_MOST), HeaderOrigin("detector", given.keyword)
    if given.value is not None:
        value = as_integer(given.value, "fits.detector.value", words.where, _MOST)
        return value, HeaderOrigin("detector", note="of the settings")
    found = {name: number for name in DETECTORS if (number := _number(words, name)) is not None}
    if len(set(found.values())) > 1:
        raise BadInput(
            "ambiguous_detector",
            words.where,
            f"{' and '.join(f'{name} is {number}' for name, number in found.items())}.",
            "name the keyword of the detector's number in the settings, section [fits.detector].",
        )
    if found:
        name, number = next(iter(found.items()))
        return number, HeaderOrigin("detector", name)
    named = _NUMBERED.fullmatch(extension_name(words.headers[0]).upper())
    if named is not None and int(named["number"]) < _MOST:
        return int(named["number"]), HeaderOrigin("detector", "EXTNAME")
    return 0, HeaderOrigin("detector", note="no keyword tells it", assumed=True)


def _number(words: Keywords, name: str) -> int | None:
    found = words.find(name)
    if found is None or isinstance(found[1], bool | float):
        return None
    text = str(found[1]).strip()
    if not (text.isascii() and text.isdigit() and int(text) < _MOST):
        return None
    words.required(name)  # refuses several values
    return int(text)

"""Selection of the template to subtract from each science image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flows.inputs.files import open_part
from flows.inputs.fits_damage import damage
from flows.inputs.fits_header import image_shape
from flows.inputs.fits_io import read_headers
from flows.inputs.fits_layout import mapping_for
from flows.inputs.probe import format_of
from flows.inputs.source import REFERENCE, Source
from flows.inputs.template import LEAST_OVERLAP
from flows.inputs.wcs_cards import wcs_cards, world_of
from kernels.sky.projection import positions_in_pixels
from schemas.errors import BadInput, Misconfigured, NightstrideError
from schemas.settings import Settings


@dataclass(frozen=True)
class ImageArea:
    """Header information of an image: its URI, WCS cards, shape (ny, nx) and band."""

    uri: str
    wcs_header: str | None
    shape: tuple[int, int]
    band: str


def choose_template(science: ImageArea, among: Sequence[ImageArea]) -> str | None:
    """Return the URI of the template that has an exposure's band and covers most of it; None if there is none.

    Coverage is measured at 11 x 11 positions; if equal, the first by name is taken.
    """
    if science.wcs_header is None:
        return None
    sides = (np.linspace(0, side - 1, 11) for side in science.shape)
    y, x = (part.ravel() for part in np.meshgrid(*sides, indexing="ij"))
    sky = world_of(science.wcs_header).pixel_to_world(x, y).icrs
    best: tuple[float, str] | None = None
    for one in sorted(among, key=lambda template: template.uri):
        if one.band != science.band or one.wcs_header is None:
            continue
        tx, ty = positions_in_pixels(world_of(one.wcs_header), sky.ra.deg, sky.dec.deg)
        inside = (tx >= 0) & (ty >= 0) & (tx <= one.shape[1] - 1) & (ty <= one.shape[0] - 1)
        covered = float(inside.mean())  # NaN is not inside
        if covered > LEAST_OVERLAP and (best is None or covered > best[0]):
            best = covered, one.uri
    return None if best is None else best[1]


def image_area(uri: str, settings: Settings, *, template: bool = False) -> ImageArea:
    """Return the position of a FITS image on the sky, and its band, from its headers.

    Parameters
    ----------
    uri, settings
        The file, and settings for reading its headers.
    template
        Whether it is a template, which may lack extensions that the settings name for science images.

    Raises
    ------
    BadInput, Retryable
        The file cannot be read; a keyword is missing or invalid.
    """
    with damage(uri), open_part(uri) as file:
        headers = read_headers(file, uri)
        form = format_of(headers)
        mapping = mapping_for(headers, settings.fits) if template else settings.fits
        index = form.layout(headers, uri, mapping)["difference"]
        ny, nx = image_shape(headers[index])
        wcs = wcs_cards((headers[index], headers[0]), uri, (ny, nx))
        return ImageArea(uri, wcs, (ny, nx), form.band(headers, uri, mapping))


def attach_templates(sources: Sequence[Source], templates: Sequence[str], settings: Settings) -> list[Source]:
    """Attach a template to each science image; those without one are refused.

    Parameters
    ----------
    sources
        Science images.
    templates
        URIs. A single one is used for all; of several, `choose_template` selects. An image is never its own template.
    settings
        Settings of the run.

    Raises
    ------
    Misconfigured
        ``bad_template``: the header of a template cannot be read.
    """
    if len(templates) == 1:
        return [_with_template(source, templates[0]) for source in sources]
    try:
        among = [image_area(uri, settings, template=True) for uri in templates]
    except NightstrideError as error:
        remedy = "correct the header, or leave the file out of the folder of templates."
        raise Misconfigured("bad_template", error.where, error.problem, remedy) from error
    return [_chosen(source, among, settings) for source in sources]


def _chosen(source: Source, among: Sequence[ImageArea], settings: Settings) -> Source:
    if source.refusal is not None or source.is_folder:
        return source
    try:
        science = image_area(source.uri, settings)
    except NightstrideError as error:
        return replace(source, refusal=BadInput(error.code, error.where, error.problem, error.remedy))
    others = [one for one in among if one.uri != source.uri]  # an image minus itself is empty
    uri = choose_template(science, others)
    if uri is not None:
        return _with_template(source, uri)
    return replace(source, refusal=_none_fits(science, others))


def _none_fits(science: ImageArea, among: Sequence[ImageArea]) -> BadInput:
    if science.wcs_header is None:
        known = "it has no WCS, by which one could be chosen."
        return BadInput("no_template", science.uri, known, "solve its astrometry, or name one template.")
    if not among:
        own = "there is no other image to be its template."
        return BadInput("no_template", science.uri, own, "add one of its field and band.")
    if science.band not in (bands := sorted({one.band for one in among})):
        others = f"none of {len(among)} templates is of band {science.band}: they are of {', '.join(bands)}."
        aliases = "add one; where the same band has two names, give aliases in the settings, section [fits.band]."
        return BadInput("no_template", science.uri, others, aliases)
    problem = f"of {len(among)} templates none of band {science.band} covers {LEAST_OVERLAP:.0%} of it."
    return BadInput("no_template", science.uri, problem, "add one of its field and band.")


def _with_template(source: Source, uri: str) -> Source:
    """Return a source whose image is a science image, with its template to subtract."""
    if uri == source.uri and source.refusal is None:
        own = BadInput("no_template", uri, "it is the template itself.", "leave it out, or name another template.")
        return replace(source, refusal=own)
    siblings = tuple(one for one in source.siblings if one[0] in ("mask", "variance"))
    return replace(source, siblings=(*siblings, (REFERENCE, uri)))

"""How large the image of a source is, from its headers."""

import math

from flows.adapters.files import open_part
from flows.adapters.fits_io import is_image, read_headers
from flows.adapters.npz_stack import stack_form
from flows.adapters.sources import Source


def shape_of(source: Source) -> tuple[int, int]:
    """Give (ny, nx) of the largest image in a source.

    Raises
    ------
    BadInput, Retryable
        The file cannot be read.
    """
    with open_part(source.uri) as file:
        if source.index is not None:
            return stack_form(file, source.uri).shape[1:]
        headers = [header for header in read_headers(file, source.uri) if is_image(header)]
    prefixes = ["ZNAXIS" if header.get("ZIMAGE") else "NAXIS" for header in headers]
    sizes = [(int(h.get(f"{p}2", 1)), int(h.get(f"{p}1", 1))) for h, p in zip(headers, prefixes, strict=True)]
    return max(sizes, key=math.prod, default=(0, 0))

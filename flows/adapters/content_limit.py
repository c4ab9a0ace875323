"""How much a file may become when it is unpacked: a small file can hold an image that no memory does."""

from schemas.errors import BadInput

LARGEST = 4 * 2**30
"""Bytes: a mosaic of 32,768 x 32,768 px in float32."""


def require_allowed(size: int, where: str, what: str) -> None:
    """Refuse what would be larger than `LARGEST` before anything of it is unpacked.

    Parameters
    ----------
    size
        Bytes, unpacked.
    where
        Uri, for messages.
    what
        Which part of the file it is.

    Raises
    ------
    BadInput
        ``too_large``.
    """
    if size > LARGEST:
        raise BadInput(
            "too_large",
            where,
            f"{what} unpacks to {size / 2**30:.1f} GiB or more, the limit is {LARGEST / 2**30:.0f} GiB.",
            "if it is an image and no attack, cut it into detectors first.",
        )

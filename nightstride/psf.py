"""PSF for a search in memory: ``nightstride.PsfModel``."""

from typing import Any

from pydantic import ValidationError

from schemas.errors import Misconfigured, choice
from schemas.exposure import PsfModel


class StatedPsf(PsfModel):
    """Circular Moffat profile ``(1 + (r / alpha)^2)^-beta`` (Moffat 1969, A&A 3, 455), given by width and slope.

    Example: ``PsfModel(fwhm_px=2.2, beta=3)``. ``alpha`` follows from ``fwhm_px = 2 alpha (2^(1/beta) - 1)^0.5``.

    Attributes
    ----------
    fwhm_px
        Full width at half maximum before the pixels blur it, px.
    beta
        Slope of the wings, above 1; at 100 the profile is practically Gaussian.
    fwhm_err, flatness_err
        Standard errors of the width, px, and of ``1 / beta``; 0: negligible.
    source
        Origin of the PSF.
    variation, ellipticity_err
        Variation over the image; None: the PSF is the same everywhere, and round.

    Raises
    ------
    Misconfigured
        There is no such field, or a value is out of its range (``bad_psf``).
    """

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            name, known = ".".join(map(str, first["loc"])), PsfModel.model_fields
            remedy = "correct it." if name in known and name in fields else choice(name, known)
            if first["type"] == "missing":
                remedy = "give it: PsfModel(fwhm_px=2.2)."
            raise Misconfigured("bad_psf", f"PsfModel: {name}", f"{first['msg']}.", remedy) from error

    def __repr_name__(self) -> str:
        """Return the name under which the class is exported."""
        return "PsfModel"

"""Patches of the sky: nested HEALPix pixels, the unit of work on objects."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

COVER_ORDER = 9
"""Order of the pixels by which exposures tell where they lie, and the highest of a patch."""


class PatchKey(BaseModel):
    """Patch of the sky in a night.

    Its rows are those whose position lies in the nested HEALPix pixel (Gorski et al. 2005, ApJ 622, 759).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    night: Annotated[str, Field(pattern=r"^\d{8}$", description="YYYYMMDD of the local evening.")]
    order: Annotated[int, Field(ge=0, le=COVER_ORDER)]
    pixel: Annotated[int, Field(ge=0, description="Number of the pixel, nested scheme.")]

    @property
    def name(self) -> str:
        """Return ``<order>-<pixel>``, unique in a night."""
        return f"{self.order}-{self.pixel}"

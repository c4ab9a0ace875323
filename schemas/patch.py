"""Patches of the sky: nested HEALPix pixels, the unit of work on objects."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

COVER_ORDER = 9
"""HEALPix order of the footprints of exposures, and highest order of a patch."""


class PatchKey(BaseModel):
    """Patch of the sky in a night.

    It holds the rows whose position lies in a nested HEALPix pixel (Gorski et al. 2005, ApJ 622, 759).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    night: Annotated[str, Field(pattern=r"^\d{8}$", description="YYYYMMDD of the local evening.")]
    order: Annotated[int, Field(ge=0, le=COVER_ORDER)]
    pixel: Annotated[int, Field(ge=0, description="Number of the pixel, nested scheme.")]

    @property
    def name(self) -> str:
        """Return ``<order>-<pixel>``, unique in a night."""
        return f"{self.order}-{self.pixel}"

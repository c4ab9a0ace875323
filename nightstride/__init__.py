"""Python interface of Nightstride: published tables, stored pixels and searches of arrays in memory.

>>> import nightstride as ns
>>> night = ns.open("OUT")  # doctest: +SKIP
>>> night.detections(where="reliability > 0.9").to_pandas()  # doctest: +SKIP
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from nightstride.array import search
from nightstride.night import Night, open
from nightstride.psf import StatedPsf as PsfModel
from nightstride.table import Table
from schemas.dia_source import DetectionFlag
from schemas.errors import BadInput, Misconfigured, NightstrideError, NoWork, Retryable
from schemas.pixels import MaskPlane

if TYPE_CHECKING:
    from flows.results.explain import Explanation
    from nightstride.light_curve import LightCurve
    from nightstride.pictures import Cutout, PlaneImage

__version__ = version("nightstride")

__all__ = [
    "BadInput",
    "Cutout",
    "DetectionFlag",
    "Explanation",
    "LightCurve",
    "MaskPlane",
    "Misconfigured",
    "Night",
    "NightstrideError",
    "NoWork",
    "PlaneImage",
    "PsfModel",
    "Retryable",
    "Table",
    "__version__",
    "open",
    "search",
]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__


def __getattr__(name: str) -> Any:
    """Return a class for pixels or light curves, imported on first use: astropy is slow to import."""
    if name in ("Cutout", "PlaneImage"):
        from nightstride import pictures

        return getattr(pictures, name)
    if name == "Explanation":
        from flows.results.explain import Explanation

        return Explanation
    if name == "LightCurve":
        from nightstride.light_curve import LightCurve

        return LightCurve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Lasting object of the science images, explained by its id: what it was in each night."""

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.runtime.words import counted
from flows.storage.association_store import association_as_it_is
from flows.storage.static_objects import StaticObjects
from schemas.errors import NightstrideError
from schemas.objects import BANDS
from schemas.settings import AssociationSettings


@dataclass(frozen=True)
class StaticHistory:
    """Object, what it was by nights (rows of `schemas.static_object.STATIC_ASSOCIATION`), and what may be the same."""

    staticObjectId: int  # noqa: N815
    nights: list[dict[str, Any]]
    beside: list[int]

    def values(self) -> dict[str, Any]:
        """Return everything as JSON-serialisable values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"object on the science images {self.staticObjectId}, of {counted(len(self.nights), 'night')}:"]
        for one in self.nights:
            fluxes = (f"{band} {one[f'{band}_psfFlux']:,.0f}" for band in BANDS if one[f"{band}_psfFlux"] is not None)
            lines.append(
                f"  {one['night']}  object {one['objectId']}, {one['separation']:.2f} arcsec away"
                f", psfFlux in nJy: {', '.join(fluxes) or 'not known'}"
            )
        if self.beside:
            lines.append(f"  may be the same as {', '.join(map(str, self.beside))}: they lie so near to each other")
        return "\n".join(lines)


def explain_static(out: Path, identity: int, settings: AssociationSettings) -> StaticHistory | None:
    """Return the lasting object of an id, its own or that of its row in `object` of a night; None: none is known."""
    if not 0 <= identity < 2**63:
        return None
    with suppress(NightstrideError), association_as_it_is(out, settings) as store:
        static = None if store is None else StaticObjects(store)
        if static is not None and (found := static.of_object(identity)) is not None:
            return StaticHistory(found[0], found[1].to_pylist(), static.beside(found[0]))
    return None

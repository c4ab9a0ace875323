"""History of a permanent object of the science images, by its id."""

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flows.runtime.words import counted
from flows.storage.association_store import association_as_it_is
from flows.storage.static_objects import StaticObjects
from kernels.sky.positions import sky_position
from schemas.errors import Misconfigured, NightstrideError
from schemas.objects import BANDS
from schemas.settings import AssociationSettings


@dataclass(frozen=True)
class StaticHistory:
    """Object, what it was by nights (rows of `schemas.static_object.STATIC_ASSOCIATION`), and what may be the same.

    The rows have ``ra`` and ``dec``, deg, too.
    """

    staticObjectId: int  # noqa: N815
    nights: list[dict[str, Any]]
    beside: list[int]

    def values(self) -> dict[str, Any]:
        """Return all fields as JSON-serialisable values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"object on the science images {self.staticObjectId}, of {counted(len(self.nights), 'night')}:"]
        for one in self.nights:
            fluxes = (f"{band} {one[f'{band}_psfFlux']:,.0f}" for band in BANDS if one[f"{band}_psfFlux"] is not None)
            lines.append(
                f"  {one['night']}  object {one['objectId']} at {one['ra']:.6f}, {one['dec']:.6f} deg"
                f", psfFlux in nJy: {', '.join(fluxes) or 'not known'}"
            )
        if self.beside:
            lines.append(f"  may be the same as {', '.join(map(str, self.beside))}: they lie so near to each other")
        return "\n".join(lines)


def explain_static(out: Path, identity: int, settings: AssociationSettings) -> StaticHistory | None:
    """Return the permanent object of an id, its own or that of a row in `object` of a night; None if not known.

    Raises
    ------
    Misconfigured
        The object is no longer in any night (``object_ended``).
    """
    if not 0 <= identity < 2**63:
        return None
    why = None
    with suppress(NightstrideError), association_as_it_is(out, settings) as store:
        static = None if store is None else StaticObjects(store)
        if static is not None and (found := static.of_object(identity)) is not None:
            ra, dec = sky_position(np.stack([found[1][axis].to_numpy() for axis in "xyz"], axis=1))
            nights = found[1].append_column("ra", pa.array(ra)).append_column("dec", pa.array(dec)).to_pylist()
            return StaticHistory(found[0], nights, static.beside(found[0]))
        why = None if static is None else static.ending(identity)
    if why is not None:
        raise Misconfigured(
            "object_ended", str(out), f"has no object {identity} on the science images any more: it {why}.",
            "give another id; it comes back with an object at its place.",
        )  # fmt: skip
    return None

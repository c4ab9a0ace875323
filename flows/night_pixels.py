"""Pixels of the exposures of a night, one plane at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.adapters.zarr_tiles import TileStore
from schemas.exposure import ExposureInfo
from schemas.ledger import ExposureRecord
from schemas.pixels import SCIENCE


class StoredNight:
    """A `schemas.stage.NightPixels`: reads from the tiles of published exposures.

    Parameters
    ----------
    out
        Output folder.
    records
        Of the exposures.
    """

    def __init__(self, out: Path, records: Sequence[ExposureRecord]) -> None:
        self._out, self._records = out, records
        self._infos: tuple[ExposureInfo, ...] | None = None

    def exposures(self) -> tuple[ExposureInfo, ...]:
        """Give the exposures that have a science image, by visit and detector.

        Raises
        ------
        BadInput
            Tiles are missing or damaged.
        """
        if self._infos is None:
            infos = (self._open(record.night, record.name).info for record in self._records)
            self._infos = tuple(info for info in infos if SCIENCE.name in info.planes)
        return self._infos

    def read(self, exposure: ExposureInfo, plane: str) -> Any:
        """Give a plane of one of them, (ny, nx); errors as in `TileStore.read`."""
        return self._open(exposure.night, exposure.name).read_all(plane)

    def _open(self, night: str, name: str) -> TileStore:
        return TileStore.open(self._out / "tiles" / night / f"{name}.zarr")

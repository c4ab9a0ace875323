"""Alerts of an exposure in Rubin's format."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from flows.publish.avro_rows import ids_or_null
from flows.publish.exposure_pixels import Pictured, opened_pixels
from flows.publish.history import History, ObjectsSeen
from flows.publish.packet import Packet
from flows.publish.published import PublishedExposures
from flows.publish.rubin_object import KnownOrbits, known_records
from flows.publish.rubin_schema import serialise
from flows.publish.rubin_source import encode_sources
from flows.storage.catalog_store import CatalogStore
from schemas.alert_settings import AlertSettings
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput
from schemas.known_object import SS_SOURCE
from schemas.ledger import ExposureRecord

Refuse = Callable[[Packet, BadInput], object]
"""Receives an alert that violates its schema, as JSON, and the error."""


@dataclass(frozen=True)
class _Known:
    """Known objects on an exposure: diaSourceId -> records of ssSource and mpc_orbits."""

    seen: dict[int, dict[str, Any]] = field(default_factory=dict)
    orbits: dict[int, dict[str, Any] | None] = field(default_factory=dict)


class RubinAlerts:
    """Maker of alerts, one exposure after another.

    Parameters
    ----------
    published, history
        Published exposures, and histories of their objects.
    settings, version
        Settings of alerts, and version of the schema.
    refuse
        See `Refuse`.
    """

    def __init__(
        self, published: PublishedExposures, history: History, settings: AlertSettings, version: str, refuse: Refuse
    ) -> None:
        self._published, self._history = published, history
        self._settings, self._version, self._refuse = settings, version, refuse

    def packets(self, record: ExposureRecord, rows: pa.Table) -> Iterator[Packet]:
        """Yield the alerts of detections of an exposure.

        Parameters
        ----------
        record, rows
            Record of the exposure, and detections on it with a position and a time.

        Raises
        ------
        BadInput, Retryable
            Catalogues, pixels or the association cannot be read.
        """
        if not len(rows):
            return
        objects = self._history.of(record, float(rows["midpointMjdTai"][0].as_py()))
        known = self._known(record, rows)
        pixels = opened_pixels(self._published.out, record.key)
        everything = Pictured(np.arange(len(rows)), {}, {})
        for some in [everything] if pixels is None else pixels.pictured(rows, self._settings):
            yield from self._some(record, rows.take(pa.array(some.which)), some, objects, known)

    def _some(
        self, record: ExposureRecord, rows: pa.Table, some: Pictured, objects: ObjectsSeen, known: _Known
    ) -> Iterator[Packet]:
        ids = rows["diaSourceId"].to_pylist()
        of_objects = [objects.of_source.get(one) for one in ids]
        owners = {
            "diaObjectId": ids_or_null(of_objects),
            "ssObjectId": ids_or_null([known.seen[one]["ssObjectId"] if one in known.seen else None for one in ids]),
        }
        processed = self._published.processed(record)
        sources = encode_sources(rows, self._version, processed, owners, some.values)
        key, made_from = (record.night, record.visit, record.detector), record.datasets[DIA_SOURCE.name].digest
        for n, (identity, owner, source) in enumerate(zip(ids, of_objects, sources, strict=True)):
            alert = {
                "diaSourceId": identity,
                "diaSource": source,
                "prvDiaSources": objects.sources.get(owner or -1),
                "prvDiaForcedSources": objects.forced.get(owner or -1),
                "diaObject": objects.records.get(owner or -1),
                "ssSource": known.seen.get(identity),
                "mpc_orbits": known.orbits.get(identity),
                **{name: files[n] for name, files in some.cutouts.items()},
            }
            try:
                body = serialise(alert, self._version)
            except BadInput as error:
                flawed = json.dumps(alert, default=_as_text).encode()
                self._refuse(Packet(identity, *key, self._version, flawed, made_from), error)
                continue
            yield Packet(identity, *key, self._version, body, made_from)

    def _known(self, record: ExposureRecord, rows: pa.Table) -> _Known:
        if SS_SOURCE.name not in record.datasets:
            return _Known()
        found = CatalogStore(self._published.out).read(SS_SOURCE, record.key)
        place = {one: n for n, one in enumerate(rows["diaSourceId"].to_pylist())}
        found = found.filter(pa.array([one in place for one in found["diaSourceId"].to_pylist()], pa.bool_()))
        which = np.array([place[one] for one in found["diaSourceId"].to_pylist()], np.int64)
        ra, dec = (rows[name].to_numpy()[which] for name in ("ra", "dec"))
        orbits = KnownOrbits(self._published.provenance(record.provenance))
        seen = {one["diaSourceId"]: one for one in known_records(found, ra, dec)}
        return _Known(seen, {identity: orbits.record(one["designation"]) for identity, one in seen.items()})


def _as_text(value: Any) -> str:
    """Return a value that JSON cannot hold as text: bytes, such as cutouts, in base 64."""
    return b64encode(value).decode() if isinstance(value, bytes) else str(value)

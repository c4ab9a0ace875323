"""Client of a schema registry: schemas by their numbers, or from the package of Rubin's schemas instead."""

import base64
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from time import monotonic
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from flows.inputs.avro_container import require_bounded
from flows.publish.rubin_schema import packaged, parsed, schema_id
from schemas.alert_settings import AlertSettings
from schemas.errors import BadInput, Misconfigured, NightstrideError, Retryable

USER, PASSWORD = "NIGHTSTRIDE_REGISTRY_USER", "NIGHTSTRIDE_REGISTRY_PASSWORD"
"""Environment variables, for a registry that requires them."""

LONGEST = 16 << 20
"""Largest size of an answer, bytes."""

REST_S = 30.0
"""Pause after a registry did not answer, s: alerts with an unknown schema must not stop a stream."""

_TYPE = "application/vnd.schemaregistry.v1+json"


class SchemaRegistry:
    """Schemas by number, from the REST interface of a registry and from the package.

    Parameters
    ----------
    url
        URL of the registry; None: only the package is used.
    timeout_s
        Longest wait for the registry, s.

    Attributes
    ----------
    warnings
        Failures of the registry for which the package was used instead.
    """

    def __init__(self, url: str | None = None, timeout_s: float = 10.0) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._known: dict[int, Mapping[str, Any]] = {}
        self._failed: tuple[float, Retryable] | None = None
        self.warnings: list[str] = []

    def schema(self, number: int) -> Mapping[str, Any]:
        """Return the schema with a number, parsed by `fastavro`.

        Raises
        ------
        BadInput
            Neither has the schema (``unknown_schema``), or it is not a usable Avro schema (``bad_schema``).
        Retryable
            The registry does not answer, and the package does not have the schema (``registry_down``).
        Misconfigured
            The registry refuses (``registry_refuses``), or the package is missing (``missing_extra``).
        """
        if number in self._known:
            return self._known[number]
        if self._url is None:
            found: Mapping[str, Any] | None = _of_package(number)
        else:
            found = self._asked(number)
        if found is None:
            raise BadInput(
                "unknown_schema", "alert", f"has schema id {number}, which {self._url or 'lsst-alert-packet'} lacks.",
                "see who sends it; name a registry that has it in alerts.registry.",
            )  # fmt: skip
        try:
            require_bounded(found)
        except ValueError as error:
            raise _bad(number, error) from error
        self._known[number] = found
        return found

    def require_same(self, version: str) -> None:
        """Raise if the registry has another schema under the number of a Rubin version: readers would misread alerts.

        Raises
        ------
        Misconfigured
            The registry has another schema or none (``other_schema``), gives an answer that is not a schema
            (``bad_schema``), or refuses (``registry_refuses``).
        """
        if self._url is None:
            return
        number = schema_id(version)
        try:
            found = self._fetched(number)
        except BadInput as error:  # the fault of the registry, not of the alerts
            raise Misconfigured(error.code, self._url, f"{error.where} {error.problem}", error.remedy) from error
        except Retryable as error:
            self.warnings.append(f"schema {version} is taken from lsst-alert-packet: {error}")
            return
        if found is None or _canonical(found) != _canonical(parsed(version)):
            what = "another schema than lsst-alert-packet" if found is not None else "no schema"
            raise Misconfigured(
                "other_schema", self._url, f"has {what} under {number}, the number of version {version}.",
                "register Rubin's schemas there (syncAllSchemasToRegistry.py of lsst-alert-packet).",
            )  # fmt: skip
        self._known[number] = found

    def _asked(self, number: int) -> Mapping[str, Any] | None:
        """Return a schema from the registry, or from the package if the registry is down or lacks it."""
        found, failure = None, None
        try:
            found = self._fetched(number)
        except Retryable as error:
            failure = error
        if found is None:
            with suppress(Misconfigured):  # the package is missing
                found = _of_package(number)
        if failure is not None and found is None:
            raise failure
        if failure is not None and not self.warnings:
            self.warnings.append(f"schema {number} is taken from lsst-alert-packet: {failure}")
        return found

    def _fetched(self, number: int) -> Mapping[str, Any] | None:
        """Return the schema at ``/schemas/ids/NUMBER``, or None; raise the last failure again for `REST_S`."""
        if self._failed is not None and monotonic() - self._failed[0] < REST_S:
            raise self._failed[1]
        try:
            answer = self._answer(f"{self._url}/schemas/ids/{number}")
        except Retryable as error:
            self._failed = monotonic(), error
            raise
        return None if answer is None else _parsed(answer, number)

    def _answer(self, url: str) -> bytes | None:
        request = Request(url, headers={"Accept": f"{_TYPE}, application/json", **_authorization()})
        try:
            with urlopen(request, timeout=self._timeout_s) as answer:
                content: bytes = answer.read(LONGEST + 1)
        except HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                if error.code in (401, 403):
                    raise Misconfigured(
                        "registry_refuses", url, f"answers {error.code}.", f"set {USER} and {PASSWORD}."
                    ) from error
                raise _down(url, f"answers {error.code}") from error
        except (URLError, HTTPException, OSError) as error:
            raise _down(url, f"does not answer ({getattr(error, 'reason', error)})") from error
        if len(content) > LONGEST:
            raise BadInput("bad_schema", url, f"is longer than {LONGEST} bytes.", "see what it is.")
        return content


def registry_of(settings: AlertSettings) -> SchemaRegistry:
    """Return the registry named in the settings."""
    return SchemaRegistry(settings.registry, settings.registry_timeout_s)


def _down(url: str, problem: str) -> Retryable:
    return Retryable(
        "registry_down", url, f"{problem}.",
        "see to the registry and try again; without alerts.registry the schemas of lsst-alert-packet are used.",
    )  # fmt: skip


def _authorization() -> dict[str, str]:
    if not (user := os.environ.get(USER)):
        return {}
    pair = base64.b64encode(f"{user}:{os.environ.get(PASSWORD, '')}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def _parsed(answer: bytes, number: int) -> Mapping[str, Any]:
    from fastavro import parse_schema

    try:
        said = json.loads(answer)
        if said.get("schemaType", "AVRO") != "AVRO" or said.get("references"):
            raise ValueError("it is not one whole schema of Avro")
        # Names of its own: no record of another schema is taken for one of these.
        return dict(parse_schema(json.loads(said["schema"]), named_schemas={}))
    except Exception as error:  # an answer may hold anything
        raise _bad(number, error) from error


def _bad(number: int, error: Exception) -> BadInput:
    reason = f"of the registry cannot be used: {type(error).__name__}: {error}"[:300]
    return BadInput("bad_schema", f"schema {number}", f"{reason}.", "correct it in the registry.")


def _of_package(number: int) -> Mapping[str, Any] | None:
    """Return a schema from the package; None if the package does not have it."""
    try:
        return packaged(f"{number // 100}.{number % 100}")
    except NightstrideError as error:
        if error.code == "no_schema":
            return None
        raise


def _canonical(schema: Mapping[str, Any]) -> Any:
    """Return a schema in the form in which Avro compares schemas (Avro 1.11, "Parsing Canonical Form")."""
    from fastavro.schema import to_parsing_canonical_form

    return to_parsing_canonical_form({name: one for name, one in schema.items() if not name.startswith("__")})

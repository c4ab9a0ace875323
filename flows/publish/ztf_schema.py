"""ZTF's alert schema, and packets and stamps in its format."""

import gzip
import json
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.publish.rubin_schema import field_problem, parsed
from schemas.errors import BadInput
from schemas.pixels import DIFFERENCE, SCIENCE, TEMPLATE

FORM = "ztf"
VERSION = "3.3"

CUTOUTS = {SCIENCE.name: "cutoutScience", TEMPLATE.name: "cutoutTemplate", DIFFERENCE.name: "cutoutDifference"}
"""Plane -> field of the packet."""

_FILE_NAMES = {SCIENCE.name: "targ_sci", TEMPLATE.name: "targ_ref", DIFFERENCE.name: "targ_scimref"}
_BLOCK = 2880


@cache
def ztf_schema() -> Mapping[str, Any]:
    """Return the schema of ZTF's alerts, parsed by `fastavro`."""
    from fastavro import parse_schema

    return dict(parse_schema(json.loads(Path(__file__).with_name("ztf_alert.json").read_text("utf-8"))))


def container_schema(version: str) -> Mapping[str, Any]:
    """Return the schema of a container of packets, Rubin's or ZTF's; raise as `parsed` does."""
    return ztf_schema() if version == FORM else parsed(version)


def serialise(record: Mapping[str, Any]) -> bytes:
    """Return a packet in Avro, without header; as strict as `flows.publish.rubin_schema.serialise`.

    Raises
    ------
    BadInput
        The packet violates the schema (``alert_schema``).
    """
    from fastavro import schemaless_writer

    file, schema = BytesIO(), dict(ztf_schema())
    try:
        schemaless_writer(file, schema, record, strict_allow_default=True)
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        raise BadInput(
            "alert_schema",
            f"alert {record.get('candid')}",
            f"is not one of ZTF's schema {VERSION}: {field_problem(record, schema, error)}.",
            "give each field of the schema a value of its type, and none that it does not have.",
        ) from error
    return file.getvalue()


def stamp_record(identity: int, plane: str, pixels: NDArray[np.float32], unit: str) -> dict[str, Any]:
    """Return a stamp in ZTF's format, as gzipped FITS; the same pixels give the same bytes.

    Parameters
    ----------
    identity, plane
        diaSourceId and name of the plane, for the name of the file.
    pixels : (ny, nx)
        Pixels.
    unit
        Their unit in the notation of FITS.
    """
    content = gzip.compress(_fits(pixels, unit), 6, mtime=0)
    return {"fileName": f"candid{identity}_{_FILE_NAMES[plane]}.fits.gz", "stampData": content}


def _fits(pixels: NDArray[np.float32], unit: str) -> bytes:
    """Return an image as FITS, with only the cards of ZTF's stamps."""
    ny, nx = pixels.shape
    cards = {"SIMPLE": "T", "BITPIX": -32, "NAXIS": 2, "NAXIS1": nx, "NAXIS2": ny}
    lines = [f"{name:8}= {value:>20}".ljust(80) for name, value in cards.items()]
    head = "".join([*lines, f"BUNIT   = '{unit:8}'".ljust(80), "END".ljust(80)])
    data = pixels.astype(">f4").tobytes()
    return head.encode().ljust(_BLOCK) + data + b"\0" * (-len(data) % _BLOCK)

"""What flows between stages: tables and arrays with a declared form."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.ucd import ucd_of


class DatasetError(TypeError):
    """Raised when a dataset does not have its declared form."""


@dataclass(frozen=True)
class TableOf:
    """A catalogue. Field metadata hold ``unit`` and ``doc``; a field that is not nullable has no nulls.

    Attributes
    ----------
    name, schema
        What it is called, and its columns.
    product
        It is published even where a later stage reads it.
    synthetic
        Its rows are of our own making, not of the sky: no stage may read it.
    ids
        Column of the ids of what was seen, if there is one: never below 0, where those of synthetic rows are.
    """

    name: str
    schema: pa.Schema
    product: bool = False
    synthetic: bool = False
    ids: str = ""

    def check(self, value: Any) -> None:
        """Raise `DatasetError` unless ``value`` is a table of exactly this schema."""
        if not isinstance(value, pa.Table):
            raise DatasetError(f"dataset {self.name!r} must be a pyarrow Table, got {type(value).__name__}")
        if not value.schema.equals(self.schema):
            ours = {f"{field.name}: {field.type}" for field in self.schema}
            theirs = {f"{field.name}: {field.type}" for field in value.schema}
            raise DatasetError(
                f"dataset {self.name!r}: missing {sorted(ours - theirs)}, unexpected {sorted(theirs - ours)}"
            )
        for field in self.schema:
            if not field.nullable and (nulls := value[field.name].null_count):
                raise DatasetError(f"dataset {self.name!r}: {field.name} must not be null, got {nulls} nulls")
        if self.ids and (least := pc.min(value[self.ids]).as_py() or 0) < 0:
            raise DatasetError(f"dataset {self.name!r}: {self.ids} {least} is that of a synthetic row, not of the sky")

    def empty(self) -> pa.Table:
        """Table of this schema without rows."""
        return self.schema.empty_table()


@dataclass(frozen=True)
class ArrayOf:
    """Pixels or cutouts: ``dims`` names the axes, ``unit`` the values."""

    name: str
    dtype: str
    dims: tuple[str, ...]
    unit: str

    def check(self, value: Any) -> None:
        """Raise `DatasetError` unless ``value`` is an array of this dtype and rank."""
        if not isinstance(value, np.ndarray) or value.dtype != self.dtype or value.ndim != len(self.dims):
            got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            raise DatasetError(f"dataset {self.name!r} must be {self.dtype} {self.dims}, got {got}")


Dataset = TableOf | ArrayOf


def column(name: str, kind: pa.DataType, unit: str, doc: str, *, nullable: bool = False) -> pa.Field:
    """Field of a catalogue, with its unit (astropy's spelling, "" if none), its meaning, and its UCD by its name."""
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "doc": doc, "ucd": ucd_of(name)})

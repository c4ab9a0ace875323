"""Pickled tables from strangers: arrays and bounds, and nothing that runs code."""

import importlib
import io
import pickle
from typing import Any

from schemas.errors import BadInput

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("galsim.bounds", "BoundsI"),
    ("galsim.position", "PositionI"),
    ("galsim.position", "PositionD"),
    ("__builtin__", "slice"),  # as protocol 2 calls it
    ("__builtin__", "bytearray"),
    ("builtins", "slice"),
    ("builtins", "bytearray"),
    ("_codecs", "encode"),  # how protocols 0 to 2 write bytes
    ("pandas", "DataFrame"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.internals.managers", "BlockManager"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas", "Index"),
    ("pandas", "RangeIndex"),
    ("pandas", "StringDtype"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    ("pandas.arrays", "ArrowStringArray"),
    ("pyarrow", "py_buffer"),
    ("pyarrow.lib", "py_buffer"),
    ("pyarrow.lib", "_restore_array"),
    ("pyarrow.lib", "type_for_alias"),
}
"""What numpy arrays, galsim bounds and pandas tables of numbers and text are made of."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")
        return getattr(importlib.import_module(module.replace("__builtin__", "builtins")), name)


def load_restricted(data: bytes, where: str) -> Any:
    """Unpickle arrays, galsim bounds and pandas tables.

    Parameters
    ----------
    data
        The pickle.
    where
        Uri, for messages.

    Raises
    ------
    BadInput
        ``unsafe_pickle``: it asks for any other object; ``damaged``; ``missing_package``: pandas is not installed.
    """
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except pickle.UnpicklingError as error:
        raise BadInput(
            "unsafe_pickle", where, f"was not unpickled: {error}.", "store plain numpy arrays, or Parquet."
        ) from error
    except ModuleNotFoundError as error:
        raise BadInput(
            "missing_package", where, f"needs the package {error.name!r}.", f"install {error.name}."
        ) from error
    except Exception as error:  # a damaged pickle can raise whatever its constructors do
        raise BadInput(
            "damaged", where, f"cannot be unpickled: {type(error).__name__}: {error}.", "fetch the file again."
        ) from error

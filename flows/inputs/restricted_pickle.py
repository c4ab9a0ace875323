"""Safe unpickling of arrays and tables from untrusted sources."""

import importlib
import io
import math
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from schemas.errors import BadInput

_ALLOWED = {
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("galsim.bounds", "BoundsI"),
    ("galsim.position", "PositionI"),
    ("galsim.position", "PositionD"),
    ("__builtin__", "slice"),  # its name in protocol 2
    ("__builtin__", "bytearray"),
    ("__builtin__", "bytes"),  # without arguments, for an empty array
    ("builtins", "slice"),
    ("builtins", "bytearray"),
    ("builtins", "bytes"),
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
    ("pyarrow.lib", "type_for_alias"),
}
"""Parts of numpy arrays, galsim bounds and pandas tables of numbers and text, in addition to `_GUARDED`."""

_STATEFUL = ("numpy", "galsim", "pandas")
"""Packages whose objects may have their state set."""

_NDARRAY = "numpy.ndarray"
"""Placeholder for the class, which is only an argument of `_new_array`: nothing can be called or set through it."""


def _new_array(kind: Any, shape: Any, code: Any) -> Any:
    if kind != _NDARRAY:
        raise pickle.UnpicklingError(f"it asks for an array of the class {kind!r}, which is not allowed")
    return np.ndarray(0, np.int8)  # its contents come with its state


def _plain_dtype(*arguments: Any) -> Any:
    """Make a dtype of numbers, text, bytes or objects; the fields of structured ones could disguise objects."""
    if not arguments or not isinstance(arguments[0], str) or not set(arguments[1:]) <= {False, True}:
        raise pickle.UnpicklingError("it asks for a structured dtype, which is not allowed")
    made = np.dtype(arguments[0])
    if made.names is not None or made.subdtype is not None:
        raise pickle.UnpicklingError("it asks for a structured dtype, which is not allowed")
    return made


def _checked_array(*parts: Any) -> Any:
    """Restore an Arrow array, and check its offsets and lengths against its buffers."""
    lib: Any = importlib.import_module("pyarrow.lib")
    made = lib._restore_array(*parts)
    made.validate(full=True)
    return made


_GUARDED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _plain_dtype,
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("pyarrow.lib", "_restore_array"): _checked_array,
}
"""Replacements for objects that a pickle names."""


_Python: Any = pickle._Unpickler


class _Unpickler(_Python):
    """Unpickler written in Python: the one in C sets the state (BUILD) of any object without checks."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_Python.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _GUARDED:
            return _GUARDED[module, name]
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")
        return getattr(importlib.import_module(module.replace("__builtin__", "builtins")), name)

    def load_build(self) -> None:
        """Set the state of an object, if object and state are of kinds known to be harmless."""
        made, state = self.stack[-2:]
        if callable(made) or type(made).__module__.split(".")[0] not in _STATEFUL:
            raise pickle.UnpicklingError(f"it sets the state of {_named(made)}, which is not allowed")
        if isinstance(made, np.dtype):
            _require_own_state(made, state)
        elif isinstance(made, np.ndarray):
            _require_contents(state)
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


def _named(made: Any) -> str:
    kind = made if callable(made) else type(made)
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__name__', kind)}"


def _require_own_state(dtype: np.dtype[Any], state: Any) -> None:
    """Refuse a state that differs from the dtype's own in more than byte order: its flags mark pointers."""
    own = dtype.__reduce__()[2]
    same = isinstance(state, tuple) and len(state) == len(own) and state[1] in ("<", ">", "|", "=")
    # The version (first) may be older, and the unit of times (last, if present) may differ.
    if not same or state[2:8] != own[2:8]:
        raise pickle.UnpicklingError(f"it gives {dtype} the state of another dtype, which is not allowed")


def _require_contents(state: Any) -> None:
    """Refuse contents that do not fill the shape of the array."""
    *_, shape, dtype, _, data = state
    if not isinstance(dtype, np.dtype) or any(type(size) is not int or size < 0 for size in shape):
        raise pickle.UnpicklingError(f"it asks for an array of shape {shape} and {dtype}, which is not allowed")
    count = math.prod(shape)
    fills = len(data) == count if dtype.hasobject else len(data) == count * dtype.itemsize
    if not fills or isinstance(data, list) != dtype.hasobject:
        raise pickle.UnpicklingError(f"it fills an array of shape {shape} with {len(data)} bytes or objects")


def load_restricted(data: bytes, where: str) -> Any:
    """Unpickle arrays, galsim bounds and pandas tables.

    Parameters
    ----------
    data
        Pickle.
    where
        URI, for messages.

    Raises
    ------
    BadInput
        ``unsafe_pickle``: the pickle names any other object, or would change a class or the form of an array;
        ``damaged``; ``missing_package``: pandas is not installed.
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
    except Exception as error:  # a damaged pickle can raise any error of the constructors it calls
        raise BadInput(
            "damaged", where, f"cannot be unpickled: {type(error).__name__}: {error}.", "fetch the file again."
        ) from error

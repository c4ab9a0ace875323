"""Functions that numba compiles, or loads compiled, when one is first called.

Numba takes a quarter of a second to import with all functions that are given to it: a process that plans a night, and
imports its stages, calls none of them.
"""

from collections.abc import Callable
from functools import cached_property, update_wrapper
from typing import Any

prange = range
"""Stands for numba's `prange`, which replaces it in importing modules when one of their functions is compiled."""

KERNELS: "list[Compiled]" = []
"""All compiled functions of the imported modules."""


class Compiled:
    """Function in Python, and its compiled form from its first call on.

    Parameters
    ----------
    function, options
        As of `numba.njit`.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        update_wrapper(self, function)
        self.py_func, self._options = function, options
        KERNELS.append(self)

    def __call__(self, *arguments: Any) -> Any:
        """Call the compiled form."""
        return self.dispatcher(*arguments)

    @cached_property
    def dispatcher(self) -> Any:
        """Return numba's object, which compiles for each kind of arguments."""
        import numba

        names = self.py_func.__globals__
        if names.get("prange") is prange:
            names["prange"] = numba.prange
        return numba.njit(**self._options)(self.py_func)

    @property
    def overloads(self) -> Any:
        """Return what is compiled, by the kinds of its arguments."""
        return self.dispatcher.overloads

    @property
    def _numba_type_(self) -> Any:
        """Return how numba sees this in the functions that call it."""
        return self.dispatcher._numba_type_


def njit(**options: Any) -> Any:
    """Return a decorator: `numba.njit` with these options, that waits for the first call."""
    return lambda function: Compiled(function, options)

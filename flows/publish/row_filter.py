"""Filters on the rows of a table, limited to comparisons, arithmetic and logic on its columns."""

import ast
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.dataset import TableOf
from schemas.errors import Misconfigured, choice

LONGEST = 2000
"""Largest length of a filter, characters."""

_ARITHMETIC: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: pc.add,
    ast.Sub: pc.subtract,
    ast.Mult: pc.multiply,
    ast.Div: pc.divide,
    ast.Pow: pc.power,
}
_COMPARISON: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
}


class RowFilter:
    """Filter on the rows of a dataset.

    It may contain numbers, quoted texts, names of columns, ``+ - * / **``, comparisons (also ``0.1 < x < 0.5``),
    ``and``, ``or``, ``not`` and brackets; nothing is run as code. A comparison with null is neither true nor false, and
    neither is what depends only on it; a row is taken if the filter is true for it.

    Parameters
    ----------
    text
        The filter, e.g. ``reliability > 0.5 and trailLength > 2``.
    dataset
        Dataset with the columns.

    Raises
    ------
    Misconfigured
        The text is not such an expression, names an unknown column, or compares numbers with texts (``bad_filter``).
    """

    def __init__(self, text: str, dataset: TableOf) -> None:
        self._text, self._dataset = text, dataset
        try:
            if len(text) > LONGEST:
                raise SyntaxError(f"is longer than {LONGEST} characters")
            self._tree = ast.parse(text.strip(), mode="eval").body
            # Applied to an empty table: names, nodes and types are checked before the first row comes.
            if not pa.types.is_boolean(self._value(self._tree, dataset.empty()).type):
                raise self._bad("is not a condition")
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise self._bad(f"is not an expression ({error})") from error
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid, AttributeError) as error:
            raise self._bad(f"compares or adds what does not go together ({str(error).splitlines()[0]})") from error

    def taken(self, rows: pa.Table) -> pa.Table:
        """Return the rows for which the filter is true."""
        found = self._value(self._tree, rows)
        if isinstance(found, pa.Scalar):  # no column is named
            return rows if found.as_py() else rows.slice(0, 0)
        return rows.filter(found)

    def _value(self, node: ast.expr, rows: pa.Table) -> Any:
        match node:
            case ast.Constant(value=bool()):
                return pa.scalar(node.value)
            case ast.Constant(value=int() | float()):
                return pa.scalar(float(node.value) if isinstance(node.value, float) else node.value)
            case ast.Constant(value=str()):
                return pa.scalar(node.value)
            case ast.Name():
                return self._column(node.id, rows)
            case ast.UnaryOp(op=ast.Not()):
                return pc.invert(self._value(node.operand, rows))
            case ast.UnaryOp(op=ast.USub()):
                return pc.negate(self._value(node.operand, rows))
            case ast.BoolOp():
                join = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
                return reduce(join, [self._value(one, rows) for one in node.values])
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                left, right = (_real(self._value(one, rows)) for one in (node.left, node.right))
                return _ARITHMETIC[type(node.op)](left, right)
            case ast.Compare() if all(type(one) in _COMPARISON for one in node.ops):
                values = [self._value(one, rows) for one in (node.left, *node.comparators)]
                pairs = zip(node.ops, values, values[1:], strict=False)
                return reduce(pc.and_kleene, [_COMPARISON[type(op)](*_alike(*both)) for op, *both in pairs])
        raise self._bad(f"contains {ast.unparse(node)[:80]!r}, which is not allowed")

    def _column(self, name: str, rows: pa.Table) -> pa.ChunkedArray:
        known = self._dataset.schema.names
        if name not in known:
            raise Misconfigured("bad_filter", self._text, f"names no column: {name!r}.", choice(name, known))
        return rows[name]

    def _bad(self, problem: str) -> Misconfigured:
        return Misconfigured(
            "bad_filter", self._text, f"{problem}.",
            "write comparisons of columns and numbers with and, or, not: reliability > 0.5 and trailLength > 2.",
        )  # fmt: skip


def _real(value: Any) -> Any:
    """Return a value in double precision: integers would overflow, and lose the remainder of a division."""
    if not (pa.types.is_integer(value.type) or pa.types.is_floating(value.type)):
        raise pa.ArrowNotImplementedError(f"{value.type} is not a number")  # a cast of no rows does not raise
    return pc.cast(value, pa.float64(), safe=False)  # ids may have more digits


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Return two values to compare; an integer and a floating-point one are both in double precision."""
    whole = [pa.types.is_integer(one.type) for one in (left, right)]
    real = [pa.types.is_floating(one.type) for one in (left, right)]
    return (_real(left), _real(right)) if any(whole) and any(real) else (left, right)

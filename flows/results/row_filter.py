"""Selection of rows by a text such as ``snr > 10 and not flags.EDGE``, and the names of flags."""

import ast
import re
from collections.abc import Callable, Mapping
from enum import IntFlag
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernels.sky.positions import unit_vectors
from schemas.dia_object import DiaObjectFlag
from schemas.dia_source import DetectionFlag
from schemas.errors import Misconfigured, choice
from schemas.forced import ForcedFlag
from schemas.objects import SourceFlag

FLAGS: Mapping[str, type[IntFlag]] = MappingProxyType(
    {
        "dia_source": DetectionFlag,
        "source": SourceFlag,
        "object": SourceFlag,
        "dia_object": DiaObjectFlag,
        "forced_source": ForcedFlag,
    }
)
"""Dataset -> meaning of the bits of its column ``flags``."""

_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.In: lambda a, b: a.isin(b),
    ast.NotIn: lambda a, b: ~a.isin(b),
    ast.Is: lambda a, _: a.is_null(),
    ast.IsNot: lambda a, _: a.is_valid(),
}
_COMPUTED: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    # Of whole numbers, too, as in Python; by 0 it is infinite, or NaN, for which no comparison holds. Of texts, which
    # could be cast, there is no product.
    ast.Div: lambda a, b: pc.divide((a * 1).cast(pa.float64()), (b * 1).cast(pa.float64())),
}


def row_condition(text: str, schema: pa.Schema, flags: type[IntFlag] | None = None) -> pc.Expression:
    """Return the condition in a text with Python syntax.

    Parameters
    ----------
    text
        Columns, numbers and quoted strings, compared by ``< <= == != >= >``, ``in [...]`` and ``is None``; combined by
        ``and``, ``or``, ``not`` (or ``&``, ``|``, ``~`` with brackets); computed by ``+ - * /``. ``flags.NAME`` is
        true if that bit is set. A row is left out if a comparison involves a null; but a null is in no list, so
        ``not in`` keeps it.
    schema
        Schema with the columns.
    flags
        Meaning of the bits of ``flags``; None: there is no such column.

    Raises
    ------
    Misconfigured
        The text is not a condition (``bad_condition``), or names an unknown column or flag (``no_column``).
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _bad(text, f"cannot be read{_place(error)}") from error
    try:
        found = _Reader(text, schema, flags).condition(tree)
    except OverflowError as error:
        raise _bad(text, "a number in it is too large") from error
    except RecursionError as error:
        raise _bad(text, "its brackets are too deep") from error
    require_condition(found, schema, text)
    return found


def listed_condition(where: Any) -> pc.Expression:
    """Return the condition given as (column, sign, value), or as a list of such tuples.

    Raises
    ------
    Misconfigured
        The argument is not a condition (``bad_condition``).
    """
    import pyarrow.parquet as pq

    try:  # one of them has a text in front
        return pq.filters_to_expression(
            [where] if isinstance(where, tuple) and isinstance(where[0], str) else list(where)
        )
    except (TypeError, ValueError, IndexError, pa.ArrowException) as error:
        remedy = 'give ("snr", ">", 10), with one of < <= == != >= > in, or a list of such; or "snr > 10".'
        problem = "is not a condition, nor a list of them."
        raise Misconfigured("bad_condition", f"where: {where!r}", problem, remedy) from error


def require_condition(found: pc.Expression, schema: pa.Schema, where: object) -> None:
    """Refuse an expression that is not a condition on these columns, before any file is read.

    Parameters
    ----------
    found, schema
        Expression, and schema with the columns.
    where
        Condition as given.

    Raises
    ------
    Misconfigured
        The expression names an unknown column (``no_column``), is not boolean, or combines incompatible types
        (``bad_condition``).
    """
    nothing = pa.dataset.dataset(_nullable(schema).empty_table())
    try:
        kind = nothing.scanner(columns={"found": found}).to_table().schema.field("found").type
    except (pa.ArrowException, TypeError) as error:
        if missing := re.match(r"No match for FieldRef.Name\((.*?)\) in", str(error)):
            problem, known = f"there is no column {missing[1]!r}.", choice(missing[1], schema.names)
            raise Misconfigured("no_column", f"where: {where}", problem, known) from error
        kinds = [f"{one} holds {_holds(schema.field(one).type)}" for one in _columns(where, schema)]
        together = ", ".join(kinds) or "texts and numbers"
        raise _bad(str(where), f"compares or computes what does not go together: {together}") from error
    if not pa.types.is_boolean(kind):
        raise _bad(str(where), "is neither true nor false")


def _columns(where: object, schema: pa.Schema) -> list[str]:
    """Return the columns in a condition, each once."""
    return [one for one in dict.fromkeys(re.findall(r"\w+", str(where))) if one in schema.names]


def _holds(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "numbers"
    if pa.types.is_boolean(kind):
        return "true or false"
    return "texts" if pa.types.is_string(kind) else "lists" if pa.types.is_nested(kind) else str(kind)


def _place(error: Exception) -> str:
    """Return the position of a syntax error in a text, if Python reports one."""
    if not isinstance(error, SyntaxError) or error.offset is None:
        return ""
    rest = (error.text or "")[error.offset - 1 :].strip() if error.offset else ""
    return f" from {rest!r} on" if rest else ": it ends too early"


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])


class _Reader:
    def __init__(self, text: str, schema: pa.Schema, flags: type[IntFlag] | None) -> None:
        self._text, self._schema, self._flags = text, schema, flags

    def condition(self, node: ast.expr) -> Any:
        """Return a node as a boolean expression."""
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.condition(one) for one in values]
                whole = parts[0]
                for part in parts[1:]:
                    whole = whole & part if isinstance(op, ast.And) else whole | part
                return whole
            case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() as op, right=right):
                one, other = self.condition(left), self.condition(right)
                return one & other if isinstance(op, ast.BitAnd) else one | other
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return ~self.condition(operand)
            case ast.Compare():
                return self._comparison(node)
            case ast.Attribute(value=ast.Name(id="flags"), attr=name) if self._flags is not None:
                return pc.bit_wise_and(pc.field("flags"), pc.scalar(self._bit(name))) != 0
            case ast.Name(id=name) if name in self._schema.names and pa.types.is_boolean(self._schema.field(name).type):
                return pc.field(name)
        hint = ": write flags.NAME, or compare it" if isinstance(node, ast.BinOp) else ""
        raise _bad(self._text, f"{ast.unparse(node)!r} is neither true nor false{hint}")

    def _comparison(self, node: ast.Compare) -> Any:
        whole, left = None, node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.Is | ast.IsNot) and not (isinstance(right, ast.Constant) and right.value is None):
                raise _bad(self._text, "what follows 'is' must be None")
            if isinstance(op, ast.Eq | ast.NotEq) and isinstance(right, ast.Constant) and right.value is None:
                raise _bad(self._text, "nothing equals None: write 'is None' or 'is not None'")
            part = self._compared(left, op, right)
            whole, left = part if whole is None else whole & part, right
        return whole

    def _compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        value = self._number(left)
        if not isinstance(op, ast.In | ast.NotIn):
            return _COMPARED[type(op)](value, self._number(right))
        listed = self._values(right)
        # An empty list has no type that could be compared with texts.
        return _COMPARED[type(op)](value, listed) if len(listed) else pc.scalar(isinstance(op, ast.NotIn))

    def _number(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name):
                if name not in self._schema.names:
                    raise Misconfigured(
                        "no_column", f"where: {self._text}", f"there is no column {name!r}.",
                        choice(name, self._schema.names),
                    )  # fmt: skip
                return pc.field(name)
            case ast.Constant(value=str() | int() | float() | None as value):
                return pc.scalar(value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return pc.scalar(0) - self._number(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _COMPUTED:
                return _COMPUTED[type(op)](self._number(left), self._number(right))
            case ast.BinOp(left=ast.Name(id="flags"), op=ast.BitAnd(), right=ast.Constant(value=int() as bits)):
                return pc.bit_wise_and(pc.field("flags"), pc.scalar(bits))
        raise _bad(self._text, f"{ast.unparse(node)!r} is neither a column nor a value")

    def _values(self, node: ast.expr) -> Any:
        try:
            return pa.array(list(ast.literal_eval(node)))
        except (ValueError, TypeError, SyntaxError, pa.ArrowException) as error:
            raise _bad(self._text, f"{ast.unparse(node)!r} is not a list of values") from error

    def _bit(self, name: str) -> int:
        assert self._flags is not None
        if name not in self._flags.__members__:
            known = choice(name, self._flags.__members__)
            raise Misconfigured("no_column", f"where: {self._text}", f"there is no flag {name!r}.", known)
        return int(self._flags[name].value)


def _bad(text: str, problem: str) -> Misconfigured:
    remedy = "write it as e.g. \"snr > 10 and band == 'r' and not flags.EDGE\"."
    return Misconfigured("bad_condition", f"where: {text}", f"{problem}.", remedy)


def flag_names(value: int, flags: type[IntFlag]) -> tuple[str, ...]:
    """Return the names of the bits that are set; a bit without a name is ``bit <value>``.

    >>> flag_names(5, DetectionFlag)
    ('EDGE', 'MASKED')
    """
    known = {int(flag.value): name for name, flag in flags.__members__.items()}
    bits = [1 << place for place in range(int(value).bit_length()) if int(value) >> place & 1]
    return tuple(known.get(bit, f"bit {bit}") for bit in bits)


def cone_condition(ra: float, dec: float, radius: float) -> pc.Expression:
    """Return the condition that ``ra`` and ``dec`` lie within a circle on the sky, edge included.

    Parameters
    ----------
    ra, dec
        Centre, deg.
    radius
        Angular radius, deg, from 0 to 90.

    Raises
    ------
    Misconfigured
        There is no such circle (``bad_condition``).

    Notes
    -----
    Distances are chords between unit vectors, precise at any radius. The condition on ``dec`` skips whole files by
    their statistics.
    """
    if not (np.isfinite(ra) and abs(dec) <= 90 and 0 <= radius <= 90):
        raise Misconfigured(
            "bad_condition", f"circle of {radius} deg about ({ra}, {dec}) deg", "does not lie on the sky.",
            "give a right ascension, a declination of -90 to 90 and a radius of 0 to 90 deg.",
        )  # fmt: skip
    degree, (x, y, z) = np.pi / 180, unit_vectors(np.array([ra]), np.array([dec]))[0].tolist()
    east, north = (pc.multiply(pc.field(name), pc.scalar(degree)) for name in ("ra", "dec"))
    across = pc.cos(north)
    parts = [pc.multiply(across, pc.cos(east)) - x, pc.multiply(across, pc.sin(east)) - y, pc.sin(north) - z]
    squared = parts[0] * parts[0] + parts[1] * parts[1] + parts[2] * parts[2]
    rim = 2 * np.sin(radius * degree / 2)
    margin = 1e-9  # deg: of rounding
    band = (pc.field("dec") >= dec - radius - margin) & (pc.field("dec") <= dec + radius + margin)
    return band & (squared <= float(rim + 1e-15) ** 2)

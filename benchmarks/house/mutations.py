"""Small changes of product code, each of which a test should notice.

A change replaces one operator, comparison, boolean, sign or number. Left out is what no test can or should hold:
annotations, decorators, blocks for the type checker, texts and the arguments of errors, and ``strict`` of ``zip``.
"""

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Literal

Kind = Literal["arithmetic", "comparison", "boolean", "sign", "constant"]

ARITHMETIC = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"), ast.Pow: ("**", "*"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"), ast.BitXor: ("^", "|"),
    ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<"),
}  # fmt: skip
"""Operator -> its symbol, and the replacement."""

COMPARISON = {
    ast.Lt: ("<", ("<=", ">=")), ast.LtE: ("<=", ("<", ">")), ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")), ast.Eq: ("==", ("!=",)), ast.NotEq: ("!=", ("==",)), ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)), ast.In: ("in", ("not in",)), ast.NotIn: ("not in", ("in",)),
}  # fmt: skip
"""Comparison -> its symbol, and possible replacements: off by one, or the opposite."""

MESSAGES = frozenset({"debug", "info", "warning", "error", "exception", "tell", "echo", "print"})
"""Calls whose arguments people read."""


@dataclass(frozen=True)
class Mutation:
    """Change of a file.

    Attributes
    ----------
    kind
        Kind of what is changed.
    line
        Where it is, from 1.
    start, end
        Characters of the text that are replaced.
    old, new
        Text there, and its replacement.
    change
        The change in words: old -> new, with its number if the line holds ``old`` more than once.
    code
        The line, without its indentation.
    function
        Qualified name of the function or class around it; empty at the top of the file.
    expression
        What is changed, as `ast.unparse` writes it.
    ordinal
        Which place of its kind it is, from 0, among those of the same expression in the same function.
    """

    kind: Kind
    line: int
    start: int
    end: int
    old: str
    new: str
    change: str
    code: str
    function: str
    expression: str
    ordinal: int = 0

    def apply(self, text: str) -> str:
        """Return the changed text."""
        return text[: self.start] + self.new + text[self.end :]


def mutations(text: str) -> list[Mutation]:
    """Return all changes that there are of a file, in order; several of the same place follow each other."""
    source = _Source(text)
    found = [
        replace(one, function=function, expression=ast.unparse(node))
        for node, function in _code(ast.parse(text))
        for one in _changes(node, source)
    ]
    return _numbered(sorted(found, key=lambda one: (one.start, one.end, one.new)))


def _numbered(found: Sequence[Mutation]) -> list[Mutation]:
    """Return changes in order with their ordinals: those of one place share theirs."""
    equal: Counter[tuple[str, str, str]] = Counter()
    numbered: list[Mutation] = []
    for _, place in groupby(found, key=lambda one: (one.start, one.end)):
        changes = list(place)
        name = (changes[0].function, changes[0].kind, changes[0].expression)
        numbered += [replace(one, ordinal=equal[name]) for one in changes]
        equal[name] += 1
    return numbered


class _Source:
    """Text of a file, addressed as `ast` does: lines from 1, columns in bytes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.splitlines(keepends=True)
        self._starts = [0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line))

    def offset(self, line: int, column: int) -> int:
        """Return the character at a place of `ast`."""
        return self._starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def start(self, node: ast.AST) -> int:
        """Return the first character of a node."""
        return self.offset(node.lineno, node.col_offset)  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        """Return the character behind a node."""
        return self.offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def change(self, kind: Kind, start: int, end: int, new: str) -> Mutation:
        """Return the change of a stretch of text."""
        line = self.text.count("\n", 0, start) + 1
        first, old = self._starts[line - 1], self.text[start:end]
        nth = self.text.count(old, first, start) + 1
        change = f"{' '.join(old.split())} -> {new or 'nothing'}" + (f" ({nth})" if nth > 1 else "")
        return Mutation(kind, line, start, end, old, new, change, self.lines[line - 1].strip(), "", "")

    def between(self, left: ast.AST, right: ast.AST, written: str) -> tuple[int, int]:
        """Return where an operator lies between two operands; brackets and comments are passed over."""
        first, words = self.end(left), written.split()
        piece = self.text[first : self.start(right)]
        opened = "(" * (piece.count(")") + 1)  # an open bracket makes ends of lines mean nothing
        rows = (opened + piece).splitlines(keepends=True)
        at = [first - len(opened)]
        for row in rows:
            at.append(at[-1] + len(row))
        spans = [
            (at[token.start[0] - 1] + token.start[1], at[token.end[0] - 1] + token.end[1])
            for token in _tokens("".join(rows))
            if token.string in words
        ]
        return spans[0][0], spans[len(words) - 1][1]


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    """Yield the tokens of a piece of which a bracket stays open."""
    try:
        yield from tokenize.generate_tokens(io.StringIO(text).readline)
    except tokenize.TokenError:
        return


def _code(node: ast.AST, function: str = "") -> Iterator[tuple[ast.AST, str]]:
    """Yield the nodes that may be changed, and the qualified name of the function or class around each."""
    yield node, function
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _left_out(child):
                yield from _code(child, function)


def _left_out(node: ast.AST) -> bool:
    match node:
        case ast.JoinedStr() | ast.Raise():
            return True
        case ast.If(test=test):
            return "TYPE_CHECKING" in ast.unparse(test) or "__name__" in ast.unparse(test)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in MESSAGES or name in ("isinstance", "issubclass", "cast", "TypeVar")
        case ast.keyword(arg=name):
            return name in ("strict", "help")
        case ast.BinOp(left=left, right=right):
            return _is_text(left) or _is_text(right) or _is_type(left) or _is_type(right)
    return False


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_type(node: ast.AST) -> bool:
    """Return whether a node is an operand of a union of types."""
    if isinstance(node, ast.Constant):
        return node.value is None
    return isinstance(node, ast.Name) and node.id in ("int", "float", "str", "bytes", "bool", "Path")


def _changes(node: ast.AST, source: _Source) -> Iterator[Mutation]:
    match node:
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            written, new = ARITHMETIC[type(op)]
            yield source.change("arithmetic", *source.between(left, right, written), new)
        case ast.AugAssign(target=left, op=op, value=right) if type(op) in ARITHMETIC and not _is_text(right):
            written, new = ARITHMETIC[type(op)]
            yield source.change("arithmetic", *source.between(left, right, f"{written}="), f"{new}=")
        case ast.Compare(left=left, ops=ops, comparators=others):
            yield from _compared([left, *others], ops, source)
        case ast.BoolOp(op=op, values=values):
            old, new = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
            for one, other in pairwise(values):
                yield source.change("boolean", *source.between(one, other, old), new)
        case ast.UnaryOp(op=ast.Not() | ast.USub() as op, operand=operand):
            kind: Kind = "boolean" if isinstance(op, ast.Not) else "sign"
            start = source.start(node)
            length = 1 if kind == "sign" else len("not ")
            if source.start(operand) >= start + length:
                yield source.change(kind, start, start + length, "")
        case ast.Constant(value=bool() as value):
            yield source.change("boolean", source.start(node), source.end(node), str(not value))
        case ast.Constant(value=int() | float() as value):
            for new in _numbers(value):
                yield source.change("constant", source.start(node), source.end(node), new)


def _compared(operands: Sequence[ast.expr], ops: Sequence[ast.cmpop], source: _Source) -> Iterator[Mutation]:
    for left, op, right in zip(operands, ops, operands[1:], strict=False):
        written, others = COMPARISON[type(op)]
        for new in others:
            yield source.change("comparison", *source.between(left, right, written), new)


def _numbers(value: float) -> list[str]:
    """Return what may stand for a number: one more, one less, twice as much."""
    less = [] if value < 1 else [repr(value - 1)]  # the sign is another change
    return [repr(value + 1), *less, *([repr(value * 2)] if value not in (0, 1) else [])]

"""Page of all error codes: what is wrong and what to do, read from where the code raises them."""

import ast
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from inspect import signature
from itertools import groupby, product
from pathlib import Path

from schemas.errors import Misconfigured, missing_extra

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "kernels", "stages", "flows", "nightstride")
KINDS = {
    "NoWork": "No work",
    "BadInput": "Bad input",
    "Retryable": "Later",
    "Misconfigured": "Settings or usage",
    "Problem": "Found by `verify`",
    "Trouble": "Failed",
}
"""Classes with a code, and the name of their kind on the page."""

Names = dict[str, ast.expr]
FIELDS = ("code", "where", "problem", "remedy")
GAP = "…"
INTRODUCTION = """A message names the file or setting, what is wrong, and the remedy; its code stands in `--json`, in
JSON logs, in `OUT/quarantine` and in the ledger. `…` is what differs from case to case.

| here | kind ([failures](../operate/failures.md)) |
| --- | --- |
| No work | `NoWork`: listed as not run |
| Bad input | `BadInput`: exposure, file or alert is set aside, the rest goes on; exit code 3, or 2 of one file |
| Later | `Retryable`: tried again; at last exit code 1 |
| Settings or usage | `Misconfigured`: exit code 2 before any work; 4 for `locked` |
| Found by `verify` | [`nightstride verify`](../operate/storage.md#verify): exit code 1 |
| Failed | an exposure or a night that the next run tries again; exit code 1 |

A code with capitals, such as `KilledWorker`, is the name of an error that nobody has foreseen."""

DEEPEST = 8
"""Maximum number of steps from a name to its definition."""

MOST = 12
"""Maximum number of texts for one message: beyond it the variable parts are left out."""


@dataclass(frozen=True)
class Message:
    """Message of an error: its code and kind, what is wrong, and the remedy; ``…`` stands for what differs."""

    code: str
    kind: str
    where: str
    problem: str
    remedy: str


@dataclass
class Module:
    """Source of a module: what its names stand for, the function around each name, and the calls of each function."""

    constants: dict[str, ast.expr] = field(default_factory=dict)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)
    around: dict[tuple[int, int], ast.FunctionDef | ast.AsyncFunctionDef] = field(default_factory=dict)
    calls: dict[str, list[ast.Call]] = field(default_factory=dict)


@cache
def module(name: str) -> Module:
    """Return the source of one of our modules, by its dotted name."""
    path = ROOT / name.replace(".", "/")
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    found = Module()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.constants[node.targets[0].id] = node.value
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            found.imported |= {one.asname or one.name: (node.module, one.name) for one in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.around |= {place_of(one): node for one in ast.walk(node) if isinstance(one, ast.Name)}
        if isinstance(node, ast.Call):
            found.calls.setdefault(getattr(node.func, "id", getattr(node.func, "attr", "")), []).append(node)
    return found


def modules() -> Iterator[Module]:
    """Yield every module of the packages."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))


def texts(node: ast.expr | None, at: Module, deep: int = 0) -> list[str]:
    """Return what an expression may say; ``…`` where only a run knows, or where names go round in circles."""
    if deep > DEEPEST:
        return [GAP]
    deep += 1
    match node:
        case ast.Constant(value=str() as text):
            return [text]
        case ast.JoinedStr(values=values):
            parts = [texts(one, at, deep) for one in values]
            return ["".join(one) for one in product(*parts)]
        case ast.FormattedValue(value=ast.Constant() | ast.JoinedStr() as value):
            return texts(value, at, deep)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return [a + b for a, b in product(texts(left, at, deep), texts(right, at, deep))][:MOST]
        case ast.IfExp(body=body, orelse=other):
            return [*texts(body, at, deep), *texts(other, at, deep)]
        case ast.BoolOp(values=values):
            return [text for one in values for text in texts(one, at, deep)]
        case ast.Call(func=ast.Name(id="choice")):
            return ["choose one of those that are named."]
        case ast.Name():
            return [text for one, there in meanings(node, at) for text in texts(one, there, deep)][:MOST] or [GAP]
    return [GAP]


def meanings(name: ast.Name, at: Module) -> Iterator[tuple[ast.expr | None, Module]]:
    """Yield the expressions that a name stands for: given by callers, assigned, or that of a constant."""
    function = at.around.get(place_of(name))
    if function:
        arguments = [one.arg for one in (*function.args.args, *function.args.kwonlyargs)]
        if name.id in arguments:
            place = arguments.index(name.id) - (arguments[0] == "self")
            yield from ((given(call, place, name.id), at) for call in at.calls.get(function.name, []))
            return
        if assigned := [node for node in ast.walk(function) if gives(node, name.id)]:
            yield from ((one.value, at) for one in latest(assigned, name, function))
            return
    if name.id in at.constants:
        yield at.constants[name.id], at
    elif name.id in at.imported:
        where, original = at.imported[name.id]
        there = module(where)
        yield there.constants.get(original), there


def gives(node: ast.AST, name: str) -> bool:
    """Return whether a statement gives a value to a name."""
    return isinstance(node, ast.Assign) and any(getattr(one, "id", "") == name for one in node.targets)


def latest(assigned: list[ast.Assign], name: ast.Name, function: ast.AST) -> list[ast.Assign]:
    """Return the assignments that reach a use of a name: those since the last ``raise`` above it, else all above it."""
    raised = max(
        (one.lineno for one in ast.walk(function) if isinstance(one, ast.Raise) and one.end_lineno < name.lineno),
        default=0,
    )
    above = [one for one in assigned if one.lineno < name.lineno]
    return [one for one in above if one.lineno > raised] or above or assigned


def place_of(node: ast.expr | ast.stmt) -> tuple[int, int]:
    """Return line and column of a node: copies share them."""
    return node.lineno, node.col_offset


def given(call: ast.Call, place: int, name: str) -> ast.expr | None:
    """Return an argument of a call, by its place or its name."""
    named = next((one.value for one in call.keywords if one.arg == name), None)
    return named or (call.args[place] if place < len(call.args) else None)


@cache
def messages() -> tuple[Message, ...]:
    """Return every message that the packages can raise, by code."""
    found: dict[Message, None] = {}
    for at in modules():
        for kind in KINDS:
            for call in at.calls.get(kind, []):
                found |= dict.fromkeys(told(call, kind, at))
        found |= dict.fromkeys(of_extras(at))
    return tuple(sorted(found, key=lambda one: (one.code, one.kind, one.problem)))


def of_extras(at: Module) -> Iterator[Message]:
    """Yield the messages of the packages that a module asks for: those of `schemas.errors.missing_extra`."""
    for call in at.calls.get(missing_extra.__name__, []):
        given_ones = {name: given(call, place, name) for place, name in enumerate(signature(missing_extra).parameters)}
        error = missing_extra(**{name: texts(one, at)[0] for name, one in given_ones.items() if one})
        yield Message(error.code, Misconfigured.__name__, error.where, error.problem, error.remedy)


def told(call: ast.Call, kind: str, at: Module) -> Iterator[Message]:
    """Yield the messages of one call; those that pass on another error's have no code of their own."""
    fields = [given(call, place, name) for place, name in enumerate(FIELDS)]
    if kind == "Trouble":
        fields[1:] = None, given(call, 2, "message"), None
    for bound in bindings(call, fields[0], fields[2:], at):
        code, where, problem, remedy = (Bound(bound).visit(deepcopy(one)) if one else None for one in fields)
        for one in texts(code, at):
            if re.fullmatch(r"[a-z]\w+", one):
                remedies = " / ".join(dict.fromkeys(texts(remedy, at)))
                yield from (Message(one, kind, texts(where, at)[0], text, remedies) for text in texts(problem, at))


def bindings(call: ast.Call, code: ast.expr | None, fields: list[ast.expr | None], at: Module) -> Iterator[Names]:
    """Yield what names of a message stand for together: the arguments of each call of a helper, the rows of a loop."""
    function = at.around.get(place_of(call.func))
    if function is None:
        yield {}
        return
    used = {
        one.id for given_field in fields if given_field for one in ast.walk(given_field) if isinstance(one, ast.Name)
    }
    names = [one.arg for one in function.args.args]
    callers = at.calls.get(function.name, [])
    if callers and used & set(names):
        first = names[0] == "self"
        for caller in callers:
            values = {name: given(caller, place - first, name) for place, name in enumerate(names)}
            yield {name: value for name, value in values.items() if value}
        return
    looking = code.id if isinstance(code, ast.Name) else ""
    yield from [row for node in ast.walk(function) for row in looped(node, looking)] or [{}]


def looped(node: ast.AST, name: str) -> Iterator[Names]:
    """Yield the rows of a loop over tuples that are spelt out, if it goes through a name."""
    match node:
        case ast.For(target=ast.Tuple(elts=targets), iter=ast.Tuple(elts=values)):
            names = [getattr(one, "id", "") for one in targets]
            for value in values if name in names else ():
                row = getattr(value.value, "elt", value) if isinstance(value, ast.Starred) else value  # of a generator
                yield dict(zip(names, row.elts, strict=True))


class Bound(ast.NodeTransformer):
    """Puts what names stand for in their places."""

    def __init__(self, names: Names) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.names.get(node.id, node)


def errors_page(note: str) -> str:
    """Return the page of the codes: a heading for each, beneath it what can be wrong and what to do."""
    parts = [f"# Error codes\n\n{note} {INTRODUCTION}"]
    for code, those in groupby(messages(), key=lambda one: one.code):
        parts.append(f"## {code}\n\n" + "\n".join(dict.fromkeys(map(line, those))))
    return "\n\n".join(parts) + "\n"


def line(message: Message) -> str:
    """Return the line of a message in Markdown."""
    where = "" if message.where == GAP else f"{message.where}: "
    remedy = "" if message.remedy == GAP else f" To fix, {message.remedy}"
    return f"- *{KINDS[message.kind]}.* {escaped(' '.join(f'{where}{message.problem}{remedy}'.split()))}"


def escaped(text: str) -> str:
    """Return a text with what Markdown would take for markup escaped, but for code."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*<>\[\]|$]|(?<!\w)_|_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)

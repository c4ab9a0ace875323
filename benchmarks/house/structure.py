"""Structure of the product code, measured from its own imports: ``python -m benchmarks.house.structure``.

Prints a table; ``tests/contract/test_structure.py`` holds its limits. Imports inside functions count as much as those
at the top of a file. A file of five lines or less, such as the ``__init__`` of a room, is not a module here.
"""

import ast
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "kernels", "stages", "flows", "nightstride")
SMALL = 5


@dataclass(frozen=True)
class Structure:
    """Measures of the structure.

    Attributes
    ----------
    files, lines
        Of all packages; files of more than five lines.
    per_package
        Package -> files.
    median_lines, longest_file
        Lines per file.
    loose
        Package -> files at its root that lie in no room.
    one_importer
        Modules that a single other module imports.
    longest_chain
        Modules on the longest chain of imports, cycles taken as one.
    cycles
        Groups of modules that import each other.
    classes_twice
        Public class names that are defined in more than one module.
    functions_twice
        The same for functions, commands apart: those are named after what a user types.
    import_lines
        Share of all lines that imports take.
    """

    files: int
    lines: int
    per_package: dict[str, int]
    median_lines: float
    longest_file: int
    loose: dict[str, int]
    one_importer: int
    longest_chain: int
    cycles: list[list[str]]
    classes_twice: dict[str, list[str]]
    functions_twice: dict[str, list[str]]
    import_lines: float


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return module name -> file, of the product's packages."""
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    return {_name(path, root): path for path in paths}


class Source(NamedTuple):
    """What is measured of a file: its lines, its imports, and the public classes and functions that it defines."""

    lines: int
    imports: tuple[ast.Import | ast.ImportFrom, ...]
    classes: tuple[str, ...]
    functions: tuple[str, ...]


def source(path: Path) -> Source:
    """Read a file, once for as long as it does not change."""
    return _read(path, path.stat().st_mtime_ns)


@cache
def _read(path: Path, changed: int) -> Source:
    text = path.read_text()
    tree = ast.parse(text)
    return Source(
        len(text.splitlines()),
        tuple(node for node in _statements(tree) if isinstance(node, ast.Import | ast.ImportFrom)),
        _public(tree, ast.ClassDef),
        _public(tree, ast.FunctionDef, ast.AsyncFunctionDef),
    )


def _public(tree: ast.Module, *kinds: type[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]) -> tuple[str, ...]:
    return tuple(node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_"))


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements, however deep: no expression holds any."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for node in getattr(tree, name, ()):
            yield node
            yield from _statements(node)


def imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Return module -> modules of the product that it imports, at the top or inside a function."""
    known = modules(root)
    return {name: set(_imported(source(path), known)) - {name} for name, path in known.items()}


def measure(root: Path = ROOT) -> Structure:
    """Measure the packages of a checkout."""
    files = {name: source(path) for name, path in modules(root).items()}
    sizes = {name: one.lines for name, one in files.items()}
    real = {name for name, size in sizes.items() if size > SMALL}
    uses = imports(root)
    used_by = Counter(target for targets in uses.values() for target in targets)
    groups = components(uses)
    spent = sum((node.end_lineno or node.lineno) - node.lineno + 1 for one in files.values() for node in one.imports)
    return Structure(
        files=len(real),
        lines=sum(sizes.values()),
        per_package={package: sum(name.startswith(f"{package}.") for name in real) for package in PACKAGES},
        median_lines=median(sizes[name] for name in real),
        longest_file=max(sizes.values()),
        loose={package: sum(name.count(".") == 1 for name in real if name.startswith(package)) for package in PACKAGES},
        one_importer=sum(used_by[name] == 1 for name in real),
        longest_chain=longest_chain(uses, groups),
        cycles=[sorted(group) for group in groups if len(group) > 1],
        classes_twice=_twice({name: file.classes for name, file in files.items()}),
        functions_twice=_twice(
            {name: file.functions for name, file in files.items() if not name.startswith("flows.cli.")}
        ),
        import_lines=round(spent / sum(sizes.values()), 3),
    )


def components(uses: Mapping[str, set[str]]) -> list[set[str]]:
    """Return strongly connected components (Tarjan 1972, SIAM J. Comput. 1, 146), dependencies first."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(uses.get(name, ())):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            group = {stack.pop()}
            while name not in group:
                group.add(stack.pop())
            found.append(group)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 10 * len(uses) + 100))
    try:
        for name in sorted(uses):
            if name not in index:
                visit(name)
    finally:
        sys.setrecursionlimit(limit)
    return found


def longest_chain(uses: Mapping[str, set[str]], groups: list[set[str]]) -> int:
    """Count the modules on the longest chain of imports; a cycle counts as one."""
    return len(chain(uses, groups))


def chain(uses: Mapping[str, set[str]], groups: list[set[str]]) -> list[str]:
    """List the modules on the longest chain of imports, importers first."""
    home = {name: number for number, group in enumerate(groups) for name in group}
    below: dict[int, set[int]] = defaultdict(set)
    for name, targets in uses.items():
        below[home[name]] |= {home[target] for target in targets} - {home[name]}

    @cache
    def longest(number: int) -> tuple[int, ...]:
        rest = max((longest(other) for other in sorted(below[number])), key=len, default=())
        return (number, *rest)

    best = max((longest(number) for number in range(len(groups))), key=len, default=())
    return [min(groups[number]) for number in best]


def _imported(file: Source, known: Mapping[str, Path]) -> Iterator[str]:
    for node in file.imports:
        if isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                full = f"{node.module}.{one.name}"
                if full in known:
                    yield full
                elif node.module in known:
                    yield node.module
        else:
            yield from (one.name for one in node.names if one.name in known)


def _twice(defined: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, ones in defined.items():
        for one in ones:
            found[one].append(name)
    return {name: places for name, places in found.items() if len(places) > 1}


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    print(json.dumps(asdict(measure(root)), indent=2))
    print("longest chain:", " > ".join(chain(imports(root), components(imports(root)))))

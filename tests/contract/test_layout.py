"""The house is kept tidy."""

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("schemas", "kernels", "stages", "flows", "nightstride")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def name(path):
    return str(path.relative_to(ROOT))


def test_files_are_one_noun_long():
    lines = {name(path): len(path.read_text().splitlines()) for path in FILES}
    assert len(lines) > 400
    assert {path: count for path, count in lines.items() if count > 500} == {}


def test_functions_stay_short():
    found = {
        f"{name(path)}:{node.lineno} {node.name}": _code_lines(node)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(found) > 2000
    assert {function: count for function, count in found.items() if count > 60} == {}


def _code_lines(node):
    """Lines of a function without its docstring."""
    first = node.body[0]
    has_doc = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    doc = (first.end_lineno - first.lineno + 1) if has_doc else 0
    return node.end_lineno - node.lineno + 1 - doc


def test_benchmarks_live_in_rooms_with_a_purpose():
    files = list((ROOT / "benchmarks").rglob("*.py"))
    rooms = {path.parent for path in files if path.parent.parent == ROOT / "benchmarks"}
    assert len(rooms) > 8
    assert [name(path) for path in files if path.parent == ROOT / "benchmarks"] == []
    assert [name(room) for room in rooms if not ast.get_docstring(ast.parse((room / "__init__.py").read_text()))] == []


def test_tests_have_no_package_that_could_shadow_ours():
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_pins_cover_every_dependency():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [one for extra in project["optional-dependencies"].values() for one in extra]
    lines = (ROOT / "deploy/constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    names = {_bare(one) for one in wanted} - {"nightstride"}
    assert names <= pinned, sorted(names - pinned)


def _bare(requirement):
    for sign in "[<>=!~; ":
        requirement = requirement.split(sign)[0]
    return requirement.lower().replace("_", "-")


def test_nothing_large_is_committed():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    sizes = {path: (ROOT / path).stat().st_size for path in listed if path and (ROOT / path).is_file()}
    assert {path: size for path, size in sizes.items() if size > 5 * 2**20} == {}

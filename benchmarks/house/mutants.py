"""Share of small faults that the quick tests notice:

    python -m benchmarks.house.mutants --count 200

draws places in the product code by a seed, that of the release, changes one at a time in a copy of the tree, and runs
the quick tests of that module: its own file, then the files that import it. Where the first test that fails fails
without the change as well, it is left out and the rest are run. Prints progress, then a summary as JSON. Exit code 1:
fewer than `LEAST` of the changes are noticed, or too many are listed as equivalent.
"""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Literal

from benchmarks.house.mutations import Kind, Mutation, mutations
from benchmarks.house.structure import ROOT, imports, modules
from benchmarks.support.command_line import command_line

LEAST = {"all": 0.85, "comparison, boolean": 0.95}
"""Minimum fraction of the changes that must be noticed."""

MOST_EQUIVALENT = 0.05
"""Maximum fraction of the drawn changes that may be listed as without effect."""

EQUIVALENT = Path(__file__).with_name("mutants_equivalent.txt")
SLOW = ("slow", "services", "faults")
"""Marks of tests that are not quick."""

Verdict = Literal["killed", "survived", "timeout", "equivalent"]


@dataclass(frozen=True)
class Mutant:
    """Change and its file, relative to the tree."""

    file: str
    mutation: Mutation


@dataclass(frozen=True)
class Result:
    """Verdict on a mutant.

    Attributes
    ----------
    file, line, code, change, kind
        The mutant.
    verdict
        killed: a test failed; timeout: the tests, which end without the change, did not; survived; equivalent: listed
        as without effect, and not run.
    by
        The test that failed, or why it was not noticed.
    seconds
        Time of the tests.
    """

    file: str
    line: int
    code: str
    change: str
    kind: Kind
    verdict: Verdict
    by: str
    seconds: float

    @property
    def noticed(self) -> bool:
        """Return whether the tests noticed it."""
        return self.verdict in ("killed", "timeout")


@dataclass(frozen=True)
class Run:
    """Run of pytest: its exit code, None if it ran out of time, and the first test or file that failed."""

    code: int | None
    failed: str

    @property
    def passed(self) -> bool:
        """Return whether no test failed; no test at all is not a failure."""
        return self.code in (0, 5)


Tests = Callable[[Sequence[str], Sequence[str]], Run]
"""Runs tests, without some of them."""


def draw(count: int, seed: str, root: Path = ROOT, only: str = "") -> list[Mutant]:
    """Return mutants of the product code, the same for the same seed; fewer are the first of more.

    The places with the smallest keys are drawn. A key depends on nothing but the seed and the place itself: what is
    written elsewhere takes a place out of the draw only by having a smaller key. ``only``: how the paths of the files
    begin.
    """
    places: dict[bytes, list[Mutant]] = {}
    for path in modules(root).values():
        file = path.relative_to(root).as_posix()
        for one in mutations(path.read_text()) if file.startswith(only) else ():
            places.setdefault(key(seed, file, one), []).append(Mutant(file, one))
    return [changes[drawn[-1] % len(changes)] for drawn, changes in sorted(places.items())[:count]]


def key(seed: str, file: str, mutation: Mutation) -> bytes:
    """Return the key of a place: SHA-256 of the seed and of what the place is, whatever stands elsewhere."""
    place = (seed, file, mutation.function, mutation.kind, mutation.expression, mutation.ordinal)
    return sha256(json.dumps(place).encode()).digest()


def release(root: Path = ROOT) -> str:
    """Return the version that the tree is of."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def tests_of(file: str, root: Path) -> tuple[list[str], list[str]]:
    """Return the test file of a module, and the others that import it; the smallest first."""
    path, module = Path(file), file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    own = Path("tests") / path.parent / f"test_{path.stem}.py"
    named = [one for one in (root / "tests").rglob("test_*.py") if module in _imported(one)]
    others = sorted(named, key=lambda one: (one.stat().st_size, one))
    there = [own.as_posix()] if (root / own).exists() else []
    return there, [name for name in (one.relative_to(root).as_posix() for one in others) if name not in there]


@cache
def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@dataclass
class Overlay:
    """Copy of the tree, in which one file at a time is changed."""

    root: Path
    _importers: dict[str, set[str]] = field(init=False)

    def __post_init__(self) -> None:
        self._importers = {}
        for name, targets in imports(self.root).items():
            for target in targets:
                self._importers.setdefault(target, set()).add(name)

    @contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """Change a file for the time being.

        Compiled code of the module and of all that import it, which may have it inlined, is put aside for as long: the
        change is really compiled, and what belongs to the unchanged files need not be compiled again.
        """
        path = self.root / mutant.file
        text, times = path.read_text(), path.stat()
        aside = self.root / ".aside"
        kept = [(one, aside / one.relative_to(self.root)) for one in self._compiled(mutant.file)]
        for one, place in kept:
            place.parent.mkdir(parents=True, exist_ok=True)
            one.rename(place)
        path.write_text(mutant.mutation.apply(text))
        try:
            yield
        finally:
            path.write_text(text)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            for one in self._compiled(mutant.file):
                one.unlink()
            for one, place in kept:
                place.rename(one)

    def _compiled(self, file: str) -> list[Path]:
        files = modules(self.root)
        names = {name for name, path in files.items() if path == self.root / file}
        left = list(names)
        while left:
            new = self._importers.get(left.pop(), set()) - names
            names |= new
            left += new
        folders = ((files[name].parent / "__pycache__", files[name].stem) for name in sorted(names))
        return [one for folder, stem in folders for one in sorted(folder.glob(f"{stem}.*"))]

    def run(self, limit: float, tests: Sequence[str], without: Sequence[str]) -> Run:
        """Run quick tests of the copy until the first failure."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-m",
            quick(self.root),
            "-p",
            "no:cacheprovider",
            "--tb=no",
            "-rfE",
        ]
        command += ["--hypothesis-seed=0", *(f"--deselect={one}" for one in without), *tests]
        given = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
        settings = given | {"PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command, cwd=self.root, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            told, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return Run(None, "")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return Run(process.returncode, first_failure(told))


def quick(root: Path) -> str:
    """Return the expression of pytest's marks that chooses the quick tests: of those marks that the tree declares."""
    declared = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    names = {one.split(":")[0] for one in declared}
    return " and ".join(f"not {name}" for name in SLOW if name in names)


def first_failure(told: str) -> str:
    """Return the test or file that pytest's summary names first; empty if there is none, as after a crash."""
    found = re.search(r"^(?:FAILED|ERROR) (tests/[^\s\[]+(?:\[.*?\](?= - |$))?)", told, re.MULTILINE)
    return found[1] if found else ""


@dataclass
class Judge:
    """Judge of whether the tests notice a change.

    Parameters
    ----------
    run
        Runs tests of the tree as it is at the moment.
    """

    run: Tests
    _clean: dict[tuple[str, ...], Run] = field(default_factory=dict)

    def judge(
        self, change: Callable[[], Any], parts: Sequence[Sequence[str]], say: Callable[[str], None]
    ) -> tuple[Verdict, str]:
        """Return the verdict on a change, and what it rests on; the parts of the tests are run one after the other."""
        why = "" if any(parts) else "no test"
        for tests in (part for part in parts if part):
            without: list[str] = []
            while True:
                with change():
                    result = self.run(tests, without)
                if result.passed:
                    break
                asked = (result.failed,) if result.failed else tuple(tests)
                if self._passes(asked):
                    return ("timeout", "time limit") if result.code is None else ("killed", result.failed or "crash")
                why = "not seen to the end: the tests fail or take too long without the change as well"
                say(f"{asked[0]} fails or takes too long without the change as well")
                if not result.failed or result.failed in without:
                    break
                without.append(result.failed)
        return "survived", why

    def _passes(self, tests: tuple[str, ...]) -> bool:
        """Return whether tests pass without a change."""
        if tests not in self._clean:
            self._clean[tests] = self.run(tests, ())
            if self._clean[tests].code in (3, 4):
                raise RuntimeError(f"pytest cannot run {', '.join(tests)}")
        return self._clean[tests].passed


def equivalents(text: str) -> dict[tuple[str, str, str], str]:
    """Read the list of changes without effect: file, line of code, change and reason, with tabs between them."""
    rows = [line.split("\t") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {(file, code, change): reason for file, code, change, reason in rows}


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """Return the shares of changes that are noticed, and those that are not."""
    run = [one for one in results if one.verdict != "equivalent"]
    kinds = sorted({one.kind for one in run})
    groups: dict[str, list[Result]] = {
        "all": run,
        "comparison, boolean": [one for one in run if one.kind in ("comparison", "boolean")],
        **{kind: [one for one in run if one.kind == kind] for kind in kinds},
    }
    return {
        "mutants": len(results),
        "verdicts": {verdict: sum(one.verdict == verdict for one in results) for verdict in Verdict.__args__},  # type: ignore[attr-defined]
        "noticed": {
            name: {"of": len(group), "share": round(sum(one.noticed for one in group) / len(group), 4)}
            for name, group in groups.items()
            if group
        },
        "equivalent_share": round(1 - len(run) / len(results), 4) if results else 0.0,
        "survivors": [asdict(one) for one in run if not one.noticed],
    }


def good(figures: Mapping[str, Any]) -> bool:
    """Return whether enough is noticed, and not too much listed as equivalent."""
    enough = all(figures["noticed"].get(name, {"share": 1.0})["share"] >= least for name, least in LEAST.items())
    return enough and figures["equivalent_share"] <= MOST_EQUIVALENT


def copy_tree(to: Path) -> Path:
    """Copy what belongs to the tree: what git tracks or would not ignore."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in names:
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def _results(mutants: Sequence[Mutant], limit: float) -> Iterator[Result]:
    known = equivalents(EQUIVALENT.read_text())
    with TemporaryDirectory(prefix="mutants-") as place:
        overlay = Overlay(copy_tree(Path(place).resolve()))
        judge = Judge(lambda tests, without: overlay.run(limit, tests, without))
        for one in mutants:
            change, start = one.mutation, perf_counter()
            told = (one.file, change.line, change.code, change.change, change.kind)
            reason = known.get((one.file, change.code, change.change))
            if reason is not None:
                yield Result(*told, "equivalent", reason, 0.0)
                continue
            verdict, by = judge.judge(lambda one=one: overlay.changed(one), tests_of(one.file, overlay.root), _say)
            yield Result(*told, verdict, by, round(perf_counter() - start, 1))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run the mutants."""
    given = command_line(
        __doc__,
        count=(200, "how many changes"),
        seed=(release(), "of the draw (default: the version, so it changes with each)"),
        skip=(0, "how many of the first to leave out: to go on with a draw"),
        limit=(300.0, "time for the tests of a change, s, twice"),
        only=("", "how the paths of the changed files begin"),
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # tests under way and the copy go with it
    mutants = draw(given.count, given.seed, only=given.only)[given.skip :]
    results: list[Result] = []
    for one in _results(mutants, given.limit):
        results.append(one)
        where = f"{one.file}:{one.line} {one.change}"
        _say(f"{len(results)}/{len(mutants)} {one.verdict:10} {where}  [{one.code}]  {one.by}  {one.seconds:.0f} s")
    figures = summary(results)
    print(json.dumps(figures, indent=1))
    return 0 if good(figures) else 1


if __name__ == "__main__":
    sys.exit(main())

import ast
import json
from contextlib import contextmanager

import pytest

from benchmarks.house import mutants
from benchmarks.house.mutants import (
    EQUIVALENT,
    Judge,
    Mutant,
    Overlay,
    Result,
    Run,
    draw,
    equivalents,
    first_failure,
    good,
    quick,
    release,
    summary,
)
from benchmarks.house.mutations import mutations
from benchmarks.house.structure import ROOT

MODULE = """import numpy as np

LIMIT = 3


def within(value, least=-1):
    return least <= value < LIMIT
"""


@pytest.fixture
def tree(tmp_path):
    """A tree of one kernel, one module that imports it, and their tests."""
    files = {
        "pyproject.toml": '[tool.pytest.ini_options]\nmarkers = ["slow: minutes", "other: another"]\n',
        "kernels/__init__.py": "",
        "kernels/image/__init__.py": "",
        "kernels/image/one.py": MODULE,
        "kernels/image/two.py": "from kernels.image.one import within\n\nFOUND = [within(n) for n in range(9)]\n",
        "tests/kernels/image/test_one.py": (
            "from kernels.image.one import within\n\n\n"
            "def test_within():\n    assert [within(n) for n in (-2, -1, 2, 3)] == [False, True, True, False]\n"
        ),
        "tests/kernels/image/test_two.py": (
            "import kernels.image.two\nfrom kernels.image import one\n\n\n"
            "def test_two():\n    assert sum(kernels.image.two.FOUND) == one.LIMIT\n"
        ),
        "tests/kernels/image/test_other.py": "def test_nothing():\n    pass\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def mutant(text, change):
    return next(Mutant("kernels/image/one.py", one) for one in mutations(text) if one.change == change)


def test_a_draw_is_that_of_its_seed_and_a_longer_one_goes_on():
    first = draw(12, "4", only="kernels/sky")
    assert first == draw(12, "4", only="kernels/sky") == draw(30, "4", only="kernels/sky")[:12]
    assert first != draw(12, "5", only="kernels/sky")
    places = [(one.file, one.mutation.start, one.mutation.end) for one in first]
    assert len(set(places)) == 12
    for one in first:
        assert one.file.startswith("kernels/sky")
        ast.parse(one.mutation.apply((ROOT / one.file).read_text()))


NEW = "\n\ndef outside(value):\n    return not within(value) and value != LIMIT + 1\n"
"""Function with five places of its own."""


@pytest.mark.parametrize("seed", ["0.1.0", "0.2.0", "3"])
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("kernels/image/zero.py", "from kernels.image.one import LIMIT, within" + NEW),
        ("kernels/image/one.py", MODULE + NEW),
        ("kernels/image/one.py", MODULE.replace("\n\n\ndef", NEW + "\n\ndef")),
    ],
)
def test_what_is_added_only_takes_the_places_that_it_is_drawn_for(tree, seed, file, text):
    names = [(one.file, one.mutation.code, one.mutation.change) for one in draw(5, seed, tree)]
    every = len(draw(99, seed, tree))
    (tree / file).write_text(text)
    drawn = draw(5, seed, tree)
    kept = [(one.file, one.mutation.code, one.mutation.change) for one in drawn if one.mutation.function != "outside"]
    assert kept == names[: len(kept)]
    assert len(draw(99, seed, tree)) == every + 5
    new = {one.mutation.start for one in drawn if one.mutation.function == "outside"}
    assert len(kept) + len(new) == 5


def test_the_replacement_of_a_place_is_drawn_as_well(tree):
    drawn = {one.mutation.change for n in range(40) for one in draw(99, str(n), tree)}
    assert {"< -> <= (2)", "< -> >= (2)", "3 -> 4", "3 -> 2", "3 -> 6"} <= drawn


def test_the_seed_is_that_of_the_release(tree, monkeypatch, capsys):
    (tree / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    assert release(tree) == "1.2.3"
    asked = []
    monkeypatch.setattr("sys.argv", ["mutants", "--count", "3"])
    monkeypatch.setattr(mutants, "draw", lambda count, seed, only: asked.append((count, seed)) or [])
    monkeypatch.setattr(mutants, "_results", lambda drawn, limit: ())  # reads the whole tree first
    assert mutants.main() == 0
    assert asked == [(3, release())]
    assert release() in (ROOT / "CITATION.cff").read_text()


def test_the_modules_own_tests_come_first_then_those_that_import_it(tree):
    own, others = "tests/kernels/image/test_one.py", "tests/kernels/image/test_two.py"
    assert mutants.tests_of("kernels/image/one.py", tree) == ([own], [others])
    assert mutants.tests_of("kernels/image/two.py", tree) == ([others], [])
    (tree / own).unlink()
    assert mutants.tests_of("kernels/image/one.py", tree) == ([], [others])


def test_a_change_is_there_for_the_time_being_and_compiled_again(tree):
    overlay, path = Overlay(tree), tree / "kernels/image/one.py"
    times = path.stat().st_mtime_ns
    stale = [tree / "kernels/image/__pycache__" / name for name in ("one.within-6.py311.nbi", "two.cpython-311.pyc")]
    others = tree / "kernels/image/__pycache__/onerous.cpython-311.pyc"
    others.parent.mkdir()
    for one in (*stale, others):
        one.write_text("of the unchanged tree")
    with overlay.changed(mutant(MODULE, "< -> <= (2)")):
        assert path.read_text() == MODULE.replace("value < LIMIT", "value <= LIMIT")
        assert [one.exists() for one in (*stale, others)] == [False, False, True]
        stale[0].write_text("of the change")
    assert (path.read_text(), path.stat().st_mtime_ns) == (MODULE, times)
    assert {one.read_text() for one in stale} == {"of the unchanged tree"}


def test_tests_of_a_changed_tree_tell_it_from_the_unchanged_one(tree):
    overlay = Overlay(tree)
    own = mutants.tests_of("kernels/image/one.py", tree)[0]
    assert overlay.run(60, own, ()).passed
    with overlay.changed(mutant(MODULE, "< -> <= (2)")):
        found = overlay.run(60, own, ())
    assert found == Run(1, "tests/kernels/image/test_one.py::test_within")
    assert overlay.run(60, own, [found.failed]).passed  # nothing is left
    assert overlay.run(0.01, own, ()).code is None


UNSEEN = "not seen to the end: the tests fail or take too long without the change as well"


def judged(runs, parts=(("own",), ("others",))):
    """Judge by prepared results: (changed?, tests, without) -> exit code and failure."""
    state, told, asked = {"changed": False}, [], []

    @contextmanager
    def change():
        state["changed"] = True
        yield
        state["changed"] = False

    def run(tests, without):
        asked.append((state["changed"], tuple(tests), tuple(without)))
        return runs.get(asked[-1], Run(0, ""))

    return Judge(run).judge(change, parts, told.append), asked, told


def test_a_failure_counts_if_the_test_passes_without_the_change():
    (verdict, by), asked, _ = judged({(True, ("own",), ()): Run(1, "own::a")})
    assert (verdict, by) == ("killed", "own::a")
    assert asked == [(True, ("own",), ()), (False, ("own::a",), ())]


def test_a_test_that_fails_anyway_is_left_out():
    runs = {
        (True, ("own",), ()): Run(1, "own::a"),
        (False, ("own::a",), ()): Run(1, "own::a"),
        (True, ("own",), ("own::a",)): Run(1, "own::b"),
    }
    assert judged(runs)[0] == ("killed", "own::b")
    del runs[True, ("own",), ("own::a",)]
    (verdict, _), asked, told = judged(runs)
    assert verdict == "survived"
    assert asked[-1] == (True, ("others",), ())
    assert len(told) == 1


@pytest.mark.parametrize(
    ("changed", "clean", "verdict"),
    [
        (Run(None, ""), Run(0, ""), ("timeout", "time limit")),
        (Run(None, ""), Run(None, ""), ("survived", UNSEEN)),
        (Run(-11, ""), Run(0, ""), ("killed", "crash")),
        (Run(5, ""), Run(0, ""), ("survived", "")),
    ],
)
def test_without_an_end_or_with_a_crash(changed, clean, verdict):
    assert judged({(True, ("own",), ()): changed, (False, ("own",), ()): clean})[0] == verdict


def test_what_has_no_test_survives():
    assert judged({}, ((), ()))[0] == ("survived", "no test")


def test_tests_that_cannot_be_run_are_an_error():
    with pytest.raises(RuntimeError, match="pytest cannot run own"):
        judged({(True, ("own",), ()): Run(4, ""), (False, ("own",), ()): Run(4, "")})


def test_the_first_failure_is_read_with_its_parameters():
    told = "..F\n=== short summary ===\nFAILED tests/a/test_b.py::test_c[1 - 2 x-[y]] - assert 1 == 2\n1 failed\n"
    assert first_failure(told) == "tests/a/test_b.py::test_c[1 - 2 x-[y]]"
    assert first_failure("FAILED tests/a/test_b.py::test_c - assert [1] == [2]") == "tests/a/test_b.py::test_c"
    assert first_failure("ERROR tests/a/test_b.py\n1 error") == "tests/a/test_b.py"
    assert first_failure("Segmentation fault") == ""


def result(kind, verdict, n=0):
    return Result("kernels/a.py", n, "a < b", "< -> <=", kind, verdict, "", 1.0)


def test_shares_are_of_what_was_run():
    rows = [*[result("comparison", "killed")] * 18, result("boolean", "timeout"), result("comparison", "survived", 7)]
    rows += [*[result("constant", "killed")] * 3, result("constant", "survived"), result("sign", "equivalent")]
    figures = summary(rows)
    assert figures["noticed"]["all"] == {"of": 24, "share": round(22 / 24, 4)}
    assert figures["noticed"]["comparison, boolean"] == {"of": 20, "share": 0.95}
    assert figures["noticed"]["constant"] == {"of": 4, "share": 0.75}
    assert "sign" not in figures["noticed"]
    assert figures["verdicts"] == {"killed": 21, "survived": 2, "timeout": 1, "equivalent": 1}
    assert [one["line"] for one in figures["survivors"]] == [7, 0]
    assert good(figures)
    assert not good(summary([*rows, result("comparison", "survived")]))
    assert not good(summary([*rows, *[result("constant", "survived")] * 3]))
    assert not good(summary([*rows, result("sign", "equivalent")]))  # 2 of 25
    json.dumps(figures)


def test_quick_tests_are_those_without_the_slow_marks_that_there_are(tree):
    assert quick(tree) == "not slow"
    assert quick(ROOT).startswith("not slow and not services")


def test_the_list_of_equivalents_names_changes_that_there_are():
    known = equivalents(EQUIVALENT.read_text())
    assert equivalents("# a note\n\na.py\tx < 1\t< -> <=\tnever 1\n") == {("a.py", "x < 1", "< -> <="): "never 1"}
    there = {
        (file, one.code, one.change)
        for file in {file for file, _, _ in known}
        for one in mutations((ROOT / file).read_text())
    }
    assert sorted(known.keys() - there) == []
    assert all(reason.strip() for reason in known.values())


@pytest.mark.parametrize(("verdict", "code"), [("killed", 0), ("survived", 1)])
def test_it_ends_with_its_figures(monkeypatch, capsys, verdict, code):
    monkeypatch.setattr("sys.argv", ["mutants", "--count", "3", "--only", "kernels/sky/"])
    monkeypatch.setattr(
        mutants, "_results", lambda drawn, limit: (result("sign", verdict, n) for n, _ in enumerate(drawn))
    )
    assert mutants.main() == code
    told = capsys.readouterr()
    assert json.loads(told.out)["mutants"] == 3
    assert told.err.count(verdict) == 3

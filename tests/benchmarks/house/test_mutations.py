import ast

import pytest

from benchmarks.house.mutations import mutations


def changes(text):
    return {(one.kind, one.change): one.apply(text).strip() for one in mutations(text)}


@pytest.mark.parametrize(
    ("text", "kind", "changed"),
    [
        ("a + b", "arithmetic", {"a - b"}),
        ("(a)*(b)", "arithmetic", {"(a)/(b)"}),
        ("a // b", "arithmetic", {"a * b"}),
        ("a += b", "arithmetic", {"a -= b"}),
        ("a << b", "arithmetic", {"a >> b"}),
        ("a < b", "comparison", {"a <= b", "a >= b"}),
        ("a == b", "comparison", {"a != b"}),
        ("a is not b", "comparison", {"a is b"}),
        ("a not in b", "comparison", {"a in b"}),
        ("a < b == c", "comparison", {"a <= b == c", "a >= b == c", "a < b != c"}),
        ("a and b and c", "boolean", {"a or b and c", "a and b or c"}),
        ("not a", "boolean", {"a"}),
        ("f(True)", "boolean", {"f(False)"}),
        ("-a", "sign", {"a"}),
        ("a[0]", "constant", {"a[1]"}),
        ("a[1]", "constant", {"a[2]", "a[0]"}),
        ("a(2.5)", "constant", {"a(3.5)", "a(1.5)", "a(5.0)"}),
    ],
)
def test_what_is_changed(text, kind, changed):
    found = mutations(text)
    assert {one.kind for one in found} == {kind}
    assert {one.apply(text) for one in found} == changed


@pytest.mark.parametrize(
    "text",
    [
        '"""One + two < 3."""',
        "a: Literal[1, 2]",
        "def f(a: X[1] = b) -> Y[2]: ...",
        "if TYPE_CHECKING:\n    a = 1",
        'if __name__ == "__main__":\n    exit(1)',
        "raise Wrong(a + 1, not b)",
        "@njit(cache=True)\ndef f(): ...",
        "f'{a + 1:.2f}'",
        "'a' + b",
        "tell(a + 1)",
        "isinstance(a, B | C)",
        "zip(a, b, strict=True)",
        "a = int | None",
        "Option(help=1)",
    ],
)
def test_what_is_left_alone(text):
    assert mutations(text) == []


def test_operators_are_found_between_brackets_comments_and_lines():
    text = "x = (\n    (é)  # a + b\n    + (b)\n    < c\n) and (\n    not d\n)\n"
    found = changes(text)
    assert found["arithmetic", "+ -> -"] == text.replace("    + (b)", "    - (b)").strip()
    assert found["comparison", "< -> >="] == text.replace("<", ">=").strip()
    assert found["boolean", "and -> or"] == text.replace(") and (", ") or (").strip()
    assert found["boolean", "not -> nothing"] == text.replace("not d", "d").strip()
    assert all(ast.parse(changed) for changed in found.values())


def test_a_change_says_where_it_is():
    first, second, *_ = (one for one in mutations("\n    \nif a:\n    b = c + d + e\n") if one.kind == "arithmetic")
    assert (first.line, first.code, first.change) == (4, "b = c + d + e", "+ -> -")
    assert (second.line, second.change) == (4, "+ -> - (2)")


def test_a_place_is_named_by_what_is_around_it():
    inner = "        def g():\n            return 2 < b < c\n"
    text = f"a = 1 + 1\nclass C:\n    def f(self):\n{inner}        return 2  +  (b)\n"
    named = {(one.function, one.kind, one.expression, one.ordinal) for one in mutations(text)}
    assert named == {
        ("", "arithmetic", "1 + 1", 0),
        ("", "constant", "1", 0),
        ("", "constant", "1", 1),
        ("C.f.g", "comparison", "2 < b < c", 0),
        ("C.f.g", "comparison", "2 < b < c", 1),
        ("C.f.g", "constant", "2", 0),
        ("C.f", "arithmetic", "2 + b", 0),
        ("C.f", "constant", "2", 0),
    }
    lower = mutations("import x\n\n\ndef new():\n    return 1\n\n\n" + text)
    moved = {(one.function, one.kind, one.expression, one.ordinal) for one in lower if one.function != "new"}
    assert moved == named

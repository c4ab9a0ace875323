import io

from rich.console import Console

from flows.cli.tables import cell, show_figures, show_rows


def shown(show, *arguments):
    text = io.StringIO()
    show(Console(file=text, width=100), *arguments)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_rows_have_headings_and_numbers_stand_to_the_right():
    rows = [{"name": "a", "n_rows": 5}, {"name": "bc", "n_rows": 12345}, {"name": "[b]", "n_rows": None}]
    assert shown(show_rows, rows) == ["name  n rows", "a          5", "bc    12,345", "[b]        -"]
    assert shown(show_rows, []) == []


def test_figures_become_a_table_each():
    figures = {
        "n": 10, "accuracy": 0.98765, "interval": [0.9, 1.0], "model": None,
        "classes": {"star": {"n": 4, "right": 3}, "galaxy": {"n": 6, "right": 6}},
        "confusion": [[3, 1], [0, 6]],
        "deep": {"inner": {"far": {"x": 1.5}}},
    }  # fmt: skip
    text = "\n".join(shown(show_figures, figures))
    for line in ("accuracy  0.9877", "interval  0.9, 1", "model     -", "star    4      3", "0  3  1", "1  0  6"):
        assert line in text
    assert "deep, inner" in text
    assert "far  1.5" in text


def test_a_confusion_is_named_by_the_classes_beside_or_above_it():
    inner = {"n": 3, "confusion": [[1, 0], [0, 2]], "per_class": {"a": {"n": 1}}}
    figures = {
        "classes": ["spiral", "edge-on", "merger"],
        "confusion": [[4, 1, 0], [0, 5, 2], [0, 0, 7]],
        "rival": {**inner, "kinds": ["yes", "no"]},
        "odd": inner,
    }
    lines = shown(show_figures, figures)
    place = lines.index("confusion (rows: label, columns: verdict)")
    assert [line.split() for line in lines[place + 1 : place + 5]] == [
        ["spiral", "edge-on", "merger"], ["spiral", "4", "1", "0"],
        ["edge-on", "0", "5", "2"], ["merger", "0", "0", "7"],
    ]  # fmt: skip
    place = lines.index("rival, confusion (rows: label, columns: verdict)")
    assert [line.split() for line in lines[place + 1 : place + 3]] == [["yes", "no"], ["yes", "1", "0"]]
    place = lines.index("odd, confusion")
    assert lines[place + 1].split() == ["0", "1"], "names of three classes say nothing of two"


def test_a_confusion_is_named_by_classes_that_are_handed_on_or_stand_above():
    scores = {"one": {"n": 3, "confusion": [[1, 0], [0, 2]], "per_class": {"a": {"n": 1}}}}
    for given in (({"models": scores}, "", ["galaxy", "star"]), ({"classes": ["galaxy", "star"], "models": scores},)):
        lines = shown(show_figures, *given)
        place = lines.index("models, one, confusion (rows: label, columns: verdict)")
        assert lines[place + 1].split() == ["galaxy", "star"]
        assert lines[place + 2].split() == ["galaxy", "1", "0"]


def test_cells_are_words():
    values = (True, False, 1234567, 0.000012345, "a", {"x_y": 1}, [], None)
    assert list(map(cell, values)) == ["yes", "no", "1,234,567", "1.234e-05", "a", "x y 1", "-", "-"]

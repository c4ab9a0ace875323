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


def test_cells_are_words():
    values = (True, False, 1234567, 0.000012345, "a", {"x_y": 1}, [], None)
    assert list(map(cell, values)) == ["yes", "no", "1,234,567", "1.234e-05", "a", "x y 1", "-", "-"]

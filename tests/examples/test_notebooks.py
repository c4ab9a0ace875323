"""The notebooks of examples/, run cell by cell in this process; what a cell ends in is shown as a notebook shows it."""

import ast
import json
from pathlib import Path

import matplotlib as mpl
import pytest

pytest_plugins = ("tests.support.night_fixture", "tests.support.linked_fixture")
FOLDER = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def run(name, out, monkeypatch):
    """Return what each cell of code ends in, as text, HTML and picture."""
    monkeypatch.setenv("NIGHTSTRIDE_OUT", str(out))
    names, shown = {}, []
    with mpl.rc_context({"backend": "agg"}):
        import matplotlib.pyplot as plt

        monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
        for number, cell in enumerate(json.loads((FOLDER / name).read_text())["cells"]):
            if cell["cell_type"] != "code":
                continue
            body = ast.parse("".join(cell["source"]), f"{name}, cell {number}").body
            last = body.pop() if isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), f"{name}, cell {number}", "exec"), names)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), f"{name}, cell {number}", "eval"), names)
                looks = [getattr(value, one, None) for one in ("_repr_html_", "_repr_png_")]
                shown.append((repr(value), *(look() if look else None for look in looks)))
    return shown


def test_there_are_two():
    assert NOTEBOOKS == ["first_look.ipynb", "light_curves.ipynb"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_they_are_kept_without_output(name):
    found = json.loads((FOLDER / name).read_text())
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    code = [cell for cell in found["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in found["cells"]}) == len(found["cells"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_they_run_on_a_night(name, uninterrupted, monkeypatch):
    shown = run(name, uninterrupted[1], monkeypatch)
    assert shown[0][0].startswith("<Night of ")
    assert "<table>" in shown[0][1]
    if name == "first_look.ipynb":
        pictures = [png for _, _, png in shown if png is not None]
        assert len(pictures) == 2
        assert all(png.startswith(b"\x89PNG") for png in pictures)


def test_light_curves_of_movers_and_of_a_star(linked, monkeypatch, capsys):
    run("light_curves.ipynb", linked[0].out, monkeypatch)
    said = capsys.readouterr().out
    assert said.count("3 detections over 1.00 h") == 2
    assert "csv 2 rows" in said

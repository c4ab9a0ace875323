import json
from itertools import combinations
from pathlib import Path

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.support.exported import exported
from tests.support.promql import asked, grouped

TEXT = (Path(__file__).parents[2] / "deploy/grafana/nightstride.json").read_text()
PANELS = [panel for panel in json.loads(TEXT)["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


def lost(given, taken, where):
    """Name what has been given and is not in what was taken in; what that has by default is there besides."""
    if isinstance(given, dict) and isinstance(taken, dict):
        for key, value in given.items():
            if value is not None:
                yield from lost(value, taken.get(key), f"{where}.{key}")
    elif isinstance(given, list) and isinstance(taken, list) and len(given) == len(taken):
        for number, (one, other) in enumerate(zip(given, taken, strict=True)):
            yield from lost(one, other, f"{where}[{number}]")
    elif given != taken:
        yield f"{where}: {given} became {taken}"


def test_grafana_s_own_model_of_a_dashboard_takes_it_in_and_loses_nothing():
    taken = json.loads(json.dumps(Dashboard.from_json(json.loads(TEXT)), cls=JSONEncoder))
    assert list(lost(json.loads(TEXT), taken, "dashboard")) == []


@pytest.mark.parametrize(("title", "expression"), TARGETS)
def test_a_panel_shows_what_is_exported(title, expression):
    known = exported()
    for name, matched in asked(expression).items():
        assert name in known, f"{title}: nothing exports {name}"
        assert matched | grouped(expression) <= known[name] | {"instance", "job"}


def test_every_figure_that_matters_is_in_a_panel():
    shown = {name for _, expression in TARGETS for name in asked(expression)}
    whole = {name.removesuffix("_created") for name in exported() if not name.startswith("process_")}
    bins = {name for name in whole if name.endswith(("_count", "_sum"))}
    created = {name for name in whole if f"{name}_created" in exported()}
    assert whole - bins - created - shown == set()


def test_panels_have_a_title_and_a_description_and_do_not_overlap():
    def cells(panel):
        at = panel["gridPos"]
        return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}

    assert all(panel["title"] and panel["description"].endswith(".") for panel in PANELS)
    for one, other in combinations(json.loads(TEXT)["panels"], 2):
        assert one["id"] != other["id"]
        assert not cells(one) & cells(other), (one["title"], other["title"])
        assert max(x for x, _ in cells(one)) < 24

from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from pydantic import BaseModel

from schemas import stage as module
from schemas.dataset import ArrayOf, DatasetError, TableOf, column
from schemas.errors import Misconfigured
from schemas.stage import Context, Model, Result, Stage

PIXELS = ArrayOf("pixels", "float32", ("y", "x"), "adu")
EXTRA = ArrayOf("extra", "float32", ("y", "x"), "adu")
SUM = TableOf("sum", pa.schema([column("value", pa.float64(), "adu", "Sum.")]))


def add(inputs, context):
    total = sum(float(one.sum()) for one in inputs.values()) * context.models["factor"]()
    return pa.table({"value": [total]}, schema=SUM.schema)


def build(weights, settings):
    return lambda: 2.0


def wrong(inputs, context):
    return pa.table({"other": [1]})


STAGE = Stage(
    "add", "1", "tile", (PIXELS,), SUM, add, optional=(EXTRA,), models=(Model("factor", "some.setting", build),)
)
CONTEXT = Context(models={"factor": lambda: 2.0})
ONES = np.ones((2, 2), np.float32)


def test_runs_on_what_is_declared_and_nothing_else():
    assert STAGE({"pixels": ONES}, CONTEXT).rows["value"].to_pylist() == [8.0]
    assert STAGE({"pixels": ONES, "extra": ONES}, CONTEXT).rows["value"].to_pylist() == [16.0]
    assert STAGE({"pixels": ONES, "unrelated": "not looked at"}, CONTEXT).rows["value"].to_pylist() == [8.0]


def test_names_what_is_missing():
    with pytest.raises(DatasetError, match=r"'add' needs \['pixels'\], got \['extra'\]. To fix"):
        STAGE({"extra": ONES}, CONTEXT)
    with pytest.raises(DatasetError, match=r"'add' needs the models \['factor'\]"):
        STAGE({"pixels": ONES}, Context())


def test_checks_both_ways():
    with pytest.raises(DatasetError, match="'extra' must be float32"):
        STAGE({"pixels": ONES, "extra": ONES.astype(float)}, CONTEXT)
    with pytest.raises(DatasetError, match=r"'sum'.*missing"):
        Stage("wrong", "1", "tile", (PIXELS,), SUM, wrong)({"pixels": ONES}, CONTEXT)


WIDE = TableOf("wide", pa.schema([column(name, pa.int64(), "", name) for name in ("id", "a", "b")]), ids="id")


def names(inputs, context):
    return pa.table({"value": [float(len(inputs["wide"].schema.names))]}, schema=SUM.schema)


def test_gets_the_columns_that_it_reads_and_the_ids():
    stage = Stage("names", "1", "night", (WIDE,), SUM, names, columns={"wide": ("b",)})
    whole = pa.table({"id": [1], "a": [2], "b": [3]}, schema=WIDE.schema)
    assert stage({"wide": whole}, Context()).rows["value"].to_pylist() == [2.0]
    assert stage({"wide": whole.select(["id", "b"])}, Context()).rows["value"].to_pylist() == [2.0]
    assert stage.reads(WIDE).schema.names == ["id", "b"]
    assert stage.reads(SUM) is SUM
    with pytest.raises(DatasetError, match=r"'wide'.*missing \['b: int64'\]"):
        stage({"wide": whole.select(["id", "a"])}, Context())
    with pytest.raises(DatasetError, match=r"'wide' has no columns \['c'\]"):
        replace(stage, columns={"wide": ("c",)})({"wide": whole}, Context())


class Counts(NamedTuple):
    pixels: int


def counted(inputs, context):
    return Result(pa.table({"value": [0.0]}, schema=SUM.schema), Counts(4))


def test_numbers_are_declared_and_checked():
    stage = Stage("counted", "1", "tile", (PIXELS,), SUM, counted, numbers=Counts)
    assert stage({"pixels": ONES}, CONTEXT).numbers == Counts(4)
    with pytest.raises(DatasetError, match="stage 'counted' declares numbers none, got Counts"):
        replace(stage, numbers=None)({"pixels": ONES}, CONTEXT)
    with pytest.raises(DatasetError, match="stage 'add' declares numbers Counts, got NoneType"):
        replace(STAGE, numbers=Counts)({"pixels": ONES}, CONTEXT)


class Own(BaseModel):
    level: float = 1.0


def test_a_section_is_the_one_that_is_declared():
    stage = replace(STAGE, settings=Own)
    assert STAGE.section(SimpleNamespace()) is None
    assert stage.section(SimpleNamespace(add=Own(level=2.0))).level == 2.0
    for settings, found in ((SimpleNamespace(), "missing"), (SimpleNamespace(add=3), "int")):
        with pytest.raises(
            Misconfigured, match=rf"'add': declares settings of class Own, the section \[add\] is {found}"
        ):
            stage.section(settings)


def test_a_model_is_named_by_a_setting_or_by_the_one_it_is_left_to():
    model = Model("m", "own.model", build, otherwise="other.model")
    settings = SimpleNamespace(own=SimpleNamespace(model="auto"), other=SimpleNamespace(model="theirs"))
    assert model.named(settings) == "theirs"
    settings.own.model = "ours"
    assert model.named(settings) == "ours"
    assert model.section(settings) is settings.own


def test_what_a_package_brings_must_be_a_stage(monkeypatch):
    point = SimpleNamespace(name="mine", value="a:b", group="g", dist=None, load=lambda: "text")
    monkeypatch.setattr(module, "entry_points", lambda group: [point])
    monkeypatch.setattr(module, "place_of", lambda one: ("a:b", "correct it."))
    with pytest.raises(Misconfigured, match="is str, not a Stage") as caught:
        module.registered_stages.__wrapped__()
    assert caught.value.code == "bad_stage"

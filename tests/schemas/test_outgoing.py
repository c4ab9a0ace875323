"""Somebody tries to get synthetic streaks out of the house."""

import pyarrow as pa
import pytest

from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.injection import INJECTION, injection_ids
from schemas.outgoing import require_outgoing
from tests.stages.test_inject import source

VISIT, DETECTOR = 99429086, 59


def seen(rank, **change):
    number = (VISIT << 21) | (DETECTOR << 12) | rank
    return source(10.0 * rank, 5.0, diaSourceId=number, visit=VISIT, detector=DETECTOR) | change


def sources(*rows):
    return pa.Table.from_pylist(list(rows), schema=DIA_SOURCE.schema)


def put_in(rank):
    """A row of `injection`."""
    numbers = {field.name: 1 for field in INJECTION.schema} | {"band": "r", "recovered": True}
    own = {"injectionId": int(injection_ids(VISIT, DETECTOR, rank + 1)[rank]), "visit": VISIT, "detector": DETECTOR}
    return numbers | own | {"x": 333.0, "y": 444.0}


INJECTED = pa.Table.from_pylist([put_in(0), put_in(1)], schema=INJECTION.schema)
PUBLISHED = sources(seen(0), seen(1), seen(2))
DISGUISED = seen(1, diaSourceId=put_in(1)["injectionId"], x=333.0, y=444.0)


def test_published_rows_may_go_in_any_number_and_order():
    for rows in (PUBLISHED, PUBLISHED.take([2, 0]), PUBLISHED.slice(0, 0), pa.concat_tables([PUBLISHED])):
        assert require_outgoing(rows, PUBLISHED) is rows
    named = PUBLISHED.replace_schema_metadata({"nightstride.dataset": "dia_source"})
    assert require_outgoing(named, PUBLISHED) is named


REAL, OTHER = seen(1)["diaSourceId"], seen(7)["diaSourceId"]
RENAMED = ["diaSourceId" if name == "injectionId" else name for name in INJECTED.schema.names]
SMUGGLED = {
    "as it is": (INJECTED, "missing .*diaSourceId"),
    "with a renamed column": (INJECTED.rename_columns(RENAMED), "missing"),
    "as a list": (INJECTED.to_pylist(), "must be a pyarrow Table, got list"),
    "as a batch": (INJECTED.to_batches()[0], "must be a pyarrow Table, got RecordBatch"),
    "glued to real ones": (pa.concat_tables([PUBLISHED, INJECTED], promote_options="default"), "unexpected"),
    "in the form of dia_source": (sources(DISGUISED), "is that of a synthetic row"),
    "in that form among real ones": (pa.concat_tables([PUBLISHED, sources(DISGUISED)]), "is that of a synthetic row"),
    "its id turned round": (sources(DISGUISED | {"diaSourceId": -1 - DISGUISED["diaSourceId"]}), "just like this"),
    "its id without sign": (sources(DISGUISED | {"diaSourceId": -DISGUISED["diaSourceId"]}), "just like this"),
    "with an id that is free": (sources(DISGUISED | {"diaSourceId": OTHER}), "just like this"),
    "with the id of a real one": (sources(DISGUISED | {"diaSourceId": REAL}), "just like this"),
    "beside the real one": (sources(seen(1), DISGUISED | {"diaSourceId": REAL}), "twice"),
    "from another detector": (sources(seen(1) | {"detector": 58}), "not that of its visit and detector"),
    "from another visit": (sources(seen(1) | {"visit": 7}), "not that of its visit and detector"),
    "by its metadata": (PUBLISHED.replace_schema_metadata({"nightstride.dataset": "injection"}), "'injection'"),
}


@pytest.mark.parametrize(("rows", "says"), SMUGGLED.values(), ids=SMUGGLED)
def test_nothing_of_our_own_making_gets_out(rows, says):
    with pytest.raises(Misconfigured, match=says) as caught:
        require_outgoing(rows, PUBLISHED)
    assert caught.value.code == "not_outgoing"


@pytest.mark.parametrize(
    "published", [INJECTED, sources(DISGUISED), PUBLISHED.replace_schema_metadata({"nightstride.dataset": "injection"})]
)
def test_a_catalogue_of_synthetic_rows_vouches_for_nothing(published):
    with pytest.raises(Misconfigured):
        require_outgoing(PUBLISHED.slice(0, 0), published)


def test_a_stage_that_reads_detections_refuses_them_too():
    with pytest.raises(TypeError, match="is that of a synthetic row, not of the sky"):
        DIA_SOURCE.check(pa.concat_tables([PUBLISHED, sources(DISGUISED)]))

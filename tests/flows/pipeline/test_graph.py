import pyarrow as pa
import pytest

from flows.pipeline.graph import following, resolve
from schemas.dataset import FileOf, TableOf
from schemas.errors import Misconfigured
from schemas.pixels import DIFFERENCE, MASK, SCIENCE
from schemas.stage import Stage


def table(name, **kind):
    return TableOf(name, pa.schema([pa.field("x", pa.int32())]), **kind)


def stage(name, needs, gives, per="exposure", optional=()):
    return Stage(name, "1", per, tuple(needs), gives, lambda inputs, context: None, optional=tuple(optional))


A, B, C, D = (table(name) for name in "abcd")
FIRST = stage("first", [DIFFERENCE, MASK], A, per="tile")
SECOND = stage("second", [A, MASK], B)
THIRD = stage("third", [B], C)
PHOTOGRAPH = stage("photograph", [SCIENCE], D)
PRESENT = {"difference", "mask"}


def names(stages):
    return [one.name for one in stages]


@pytest.mark.parametrize("pipeline", [(FIRST, SECOND, THIRD), (THIRD, SECOND, FIRST), (SECOND, THIRD, FIRST)])
def test_sorts_by_needs_and_gives(pipeline):
    graph = resolve(pipeline, PRESENT)
    assert names(graph.stages) == ["first", "second", "third"]
    assert graph.not_run == {}
    assert names(graph.at("tile")) == ["first"]
    assert names(graph.at("exposure")) == ["second", "third"]


def test_keeps_the_order_of_the_pipeline_where_it_is_free():
    other = stage("other", [MASK], D)
    assert names(resolve((FIRST, other, SECOND), PRESENT).stages) == ["first", "other", "second"]
    assert names(resolve((other, FIRST, SECOND), PRESENT).stages) == ["other", "first", "second"]


@pytest.mark.parametrize("pipeline", [(FIRST, SECOND, THIRD), (THIRD, SECOND, FIRST)])
def test_knows_what_follows_from_a_dataset(pipeline):
    assert following(pipeline, "difference") == {"a", "b", "c"}
    assert following(pipeline, "a") == {"b", "c"}
    assert following((*pipeline, stage("may", [SCIENCE], D, optional=[C])), "b") == {"c", "d"}
    assert following(pipeline, "c") == set()


def test_publishes_what_its_level_does_not_consume():
    graph = resolve((FIRST, SECOND, THIRD), PRESENT)
    assert names(graph.results("exposure")) == ["third"]
    assert names(graph.results("tile")) == ["first"]


def test_publishes_a_product_even_where_it_is_consumed():
    product = table("product", product=True)
    graph = resolve((stage("make", [MASK], product), stage("use", [product], B)), PRESENT)
    assert names(graph.results("exposure")) == ["make", "use"]


def test_runs_what_is_wanted_and_no_more_than_is_missing():
    pipeline = (FIRST, SECOND, THIRD, stage("aside", [A], D))
    graph = resolve(pipeline, PRESENT)
    assert names(graph.towards({"c"})) == ["first", "second", "third"]
    assert names(graph.towards({"d", "c"})) == ["first", "second", "third", "aside"]
    assert names(graph.towards({"c"}, given={"b"})) == ["third"]
    assert names(graph.towards({"c", "d"}, given={"b"})) == ["first", "third", "aside"]
    assert names(graph.towards({"c"}, given={"c"})) == names(graph.towards(())) == []
    assert names(resolve((FIRST, stage("lax", [MASK], B, optional=[A])), PRESENT).towards({"b"})) == ["first", "lax"]


@pytest.mark.parametrize("how", ["needs", "optional"])
def test_refuses_a_stage_that_reads_synthetic_rows(how):
    ours = table("ours", synthetic=True)
    reader = stage("alert", [ours], B) if how == "needs" else stage("alert", [MASK], B, optional=[ours])
    with pytest.raises(Misconfigured, match=r"stage 'alert': reads 'ours', whose rows are synthetic"):
        resolve((stage("inject", [MASK], ours), reader), PRESENT)


def test_lists_what_has_nothing_to_work_on_and_what_follows_from_it():
    after = stage("after", [D], table("e"))
    graph = resolve((FIRST, PHOTOGRAPH, after), PRESENT)
    assert names(graph.stages) == ["first"]
    assert graph.not_run == {"photograph": "no science in the input", "after": "no d: stage photograph did not run"}
    assert names(resolve((FIRST, PHOTOGRAPH, after), PRESENT | {"science"}).stages) == ["first", "photograph", "after"]


def test_what_is_optional_delays_but_does_not_prevent():
    eager = stage("eager", [MASK], D, optional=[A])
    assert names(resolve((eager, FIRST), PRESENT).stages) == ["first", "eager"]
    assert names(resolve((eager,), PRESENT).stages) == ["eager"]


@pytest.mark.parametrize(
    ("pipeline", "says"),
    [
        ((SECOND,), "stage 'second': needs 'a', which no stage .* gives"),
        ((FIRST, stage("twin", [MASK], A)), "stage 'twin': gives 'a', as stage 'first' does"),
        ((stage("forger", [DIFFERENCE], MASK),), "stage 'forger': gives 'mask', as the input does"),
        ((stage("hen", [B], A), stage("egg", [A], B)), r"\['egg', 'hen'\] wait for each other"),
        ((SECOND, FIRST, stage("wide", [B], D, per="tile")), "stage 'wide': works per tile but needs 'b'"),
    ],
)
def test_refuses_pipelines_that_cannot_work(pipeline, says):
    with pytest.raises(Misconfigured, match=says):
        resolve(pipeline, PRESENT)


def test_what_needs_a_file_that_is_not_named_was_not_asked_for():
    orbits = FileOf("orbits", "predict_known.orbits")
    pipeline = (stage("predict", [MASK, orbits], A), stage("match", [A], B))
    graph = resolve(pipeline, PRESENT)
    assert (graph.stages, graph.not_run) == ((), {})
    assert names(resolve(pipeline, PRESENT | {"orbits"}).stages) == ["predict", "match"]
    assert "match" in resolve(pipeline, {"orbits"}).not_run, "without a mask it is said"

import asyncio
import io

import pytest
from rich.console import Console

from flows.adapters.catalog_store import read_table
from flows.adapters.ledger import Ledger
from flows.adapters.sources import list_sources
from flows.backfill import survey
from flows.books import Books
from flows.exposure_run import ExposureRun
from flows.model_use import model_uses, recorded_sources, searched_with
from flows.night_work import planner
from flows.progress import Progress
from flows.provenance import provenance_of
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.ledger import ExposureRecord, Previous
from schemas.settings import Settings
from stages import PIPELINE
from tests.flows.model_support import write_bright, write_verdict
from tests.flows.night_support import catalogues

A, B = "a" * 64, "b" * 64


@pytest.fixture
def out(tmp_path):
    """Two nights with model A, one of them with an exposure of model B that replaced one of A, and one not recorded."""
    ledger, made = Ledger(tmp_path / "out"), provenance_of(PIPELINE, Settings())
    known = {}
    for sha256, version in ((A, "1"), (B, "2")):
        card = made.models["detect"].model_copy(update={"name": "net", "version": version, "sha256": sha256})
        known[sha256] = ledger.put_provenance(made.model_copy(update={"models": {"detect": card}}))
    before = Previous(digest="d", provenance=known[A], files={}, detections=1, finished_at="now")
    for visit, night, given in (
        (1, "20260101", {"provenance": known[A]}),
        (2, "20260101", {"provenance": known[B], "previous": (before, before)}),
        (3, "20260102", {"provenance": known[A]}),
        (4, "20260102", {}),
        (5, "20260102", {"provenance": known[A], "status": "failed", "reason": "x: y"}),
    ):
        (tmp_path / f"{visit}.fits").write_bytes(b"SIMPLE  = T")
        ledger.put(
            ExposureRecord(
                night=night,
                visit=visit,
                detector=0,
                source_uri=str(tmp_path / f"{visit}.fits"),
                source_sha256="s",
                digest="d",
                detections=10 * visit,
                software="0",
                finished_at="now",
                **given,
            )
        )
    return tmp_path / "out"


def test_models_with_nights_exposures_detections_and_what_was_replaced(out):
    first, second, unknown = model_uses(out)
    assert (first.version, sorted(first.nights), first.exposures, first.detections, first.replaced) == (
        "1", ["20260101", "20260102"], 2, 40, 1,
    )  # fmt: skip
    assert (second.version, sorted(second.nights), second.exposures, second.replaced) == ("2", ["20260101"], 1, 0)
    assert (unknown.model, unknown.exposures) == ("not recorded", 1)


@pytest.mark.parametrize(("wanted", "visits"), [("net 1", [1, 3]), (A[:8], [1, 3]), (B, [2]), ("net", [1, 2, 3])])
def test_exposures_are_told_by_name_version_or_digest(out, wanted, visits):
    test = searched_with(out, wanted)
    assert [record.visit for record in Ledger(out).records() if test(record)] == visits
    found = recorded_sources(out, test, Settings())
    assert [source.uri for source in found] == [str(out.parent / f"{visit}.fits") for visit in visits]


@pytest.mark.parametrize("wanted", ["other", "aaaa", "c" * 64, "", "net 3"])
def test_a_model_that_made_nothing_is_refused_with_those_that_did(out, wanted):
    with pytest.raises(Misconfigured, match=r"net 1 \(aaaaaaaaaaaa\), net 2"):
        searched_with(out, wanted)


def test_what_is_no_output_folder_is_refused(tmp_path):
    for function in (model_uses, lambda out: searched_with(out, "net")):
        with pytest.raises(Misconfigured, match="no output folder"):
            function(tmp_path)


class Inline:
    """Stands for a Dask client: tasks run here and now."""

    def submit(self, task, *arguments, **_):
        return Done(task(*arguments))


class Done:
    def __init__(self, value):
        self._value = value

    def __await__(self):
        yield from ()
        return self._value

    def release(self):
        pass


def settings_with(folder, gain):
    """Write models that are called like the folder; give settings that use them."""
    write_bright(folder)
    write_verdict(folder, gain)
    for card in folder.glob("*.json"):
        text = card.read_text().replace('"name": "test"', f'"name": "{folder.name}"')
        card.write_text(text.replace('"version": "1"', f'"version": "{folder.name}"'))
    model = {"model": str(folder)}
    return Settings(detect=model, measure=model, tiles={"tile": 112, "chunk": 28}, inject={"share": 0})


def search(sources, out, settings):
    """Search what is outdated; give the names of the exposures."""
    books = Books(out, settings, PIPELINE)
    run = ExposureRun(Inline(), out, settings, books, Progress(Console(file=io.StringIO()), 1))
    return [asyncio.run(run(item)).item.key.name for item in planner(out, settings).plan(sources).todo]


def versions(out):
    """Models behind each row, by exposure."""
    paths = {record.name: out / record.datasets["dia_source"].path for record in Ledger(out).records()}
    tables = {name: read_table(path, DIA_SOURCE) for name, path in paths.items()}
    return {name: set(table["reliabilityVersion"].to_pylist()) for name, table in tables.items()}


def test_a_night_rolled_back_has_the_bytes_it_had_and_nothing_else_is_done(tmp_path, write_ztf, sky):
    sky[60:63, 80:83] += 300
    sky[120:123, 150:153] += 200
    for visit in (1, 2):
        folder = tmp_path / "raw" / str(visit)
        folder.mkdir(parents=True)
        write_ztf(sky, folder, EXPID=visit)
    first, second = settings_with(tmp_path / "first", 1.0), settings_with(tmp_path / "second", 2.0)
    raw, out = list_sources([str(tmp_path / "raw")], Settings()), tmp_path / "out"
    assert search(raw, out, first) == ["1-59", "2-59"]
    before, records = catalogues(out), Ledger(out).records()
    assert search(raw[:1], out, second) == ["1-59"]
    assert [use.name for use in model_uses(out) if use.model == "reliability" and use.exposures] == ["first", "second"]
    assert versions(out) == {"1-59": {"second"}, "2-59": {"first"}}

    test = searched_with(out, "second")
    chosen = recorded_sources(out, test, first)
    archive = survey(chosen, out, first, wanted=test)
    assert (list(archive.nights.values()), list(archive.open.values())) == ([(raw[0],)], [1])
    assert survey(raw, out, first, wanted=test) == archive
    assert search(chosen, out, first) == ["1-59"]

    assert catalogues(out) == before
    assert versions(out) == {"1-59": {"first"}, "2-59": {"first"}}
    rolled, other = Ledger(out).records()
    assert other == records[1]
    assert [one.digest == rolled.digest for one in rolled.previous] == [False, True]
    assert rolled.previous[1].files["dia_source"] == rolled.datasets["dia_source"].sha256
    with pytest.raises(Misconfigured, match="nothing that"):
        searched_with(out, "second")

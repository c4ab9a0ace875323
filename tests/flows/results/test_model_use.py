import asyncio
import io
from dataclasses import replace

import pytest
from rich.console import Console

from flows.inputs.source import Source
from flows.inputs.source_state import sha256_of, stat_of
from flows.inputs.sources import list_sources
from flows.nights.exposure_run import ExposureRun
from flows.nights.progress import Progress
from flows.nights.recorder import Recorder
from flows.nights.run import planner
from flows.nights.stream.backfill import Backfill, failing, survey
from flows.pipeline.lineage import Stored, memo_of, trace
from flows.pipeline.models import model_digests
from flows.pipeline.outcome import Item, Outcome
from flows.pipeline.plan import Planner
from flows.pipeline.provenance import provenance_of
from flows.results.model_use import is_read_alike, model_uses, recorded_sources, searched_with
from flows.storage.catalog_store import read_table
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.ledger import Previous
from schemas.settings import MergeSettings, Settings
from stages import PIPELINE
from tests.support.exposure import exposure_info, exposure_record
from tests.support.ledger import forget_sources
from tests.support.models import write_bright, write_reliability
from tests.support.night import catalogues

A, B = "a" * 64, "b" * 64


@pytest.fixture
def out(tmp_path):
    """Two nights with model A, one of them with an exposure of model B that replaced one of A, and one not recorded.

    Stages of another version searched them.
    """
    ledger, made = Ledger(tmp_path / "out"), provenance_of(PIPELINE, Settings())
    known = {}
    for sha256, version in ((A, "1"), (B, "2")):
        card = made.models["detect"].model_copy(update={"name": "net", "version": version, "sha256": sha256})
        known[sha256] = ledger.put_provenance(made.model_copy(update={"models": {"detect": card}, "stages": {}}))
    before = Previous(digest="d", provenance=known[A], files={}, detections=1, finished_at="now")
    for visit, night, given in (
        (1, "20260101", {"provenance": known[A]}),
        (2, "20260101", {"provenance": known[B], "previous": (before, before)}),
        (3, "20260102", {"provenance": known[A]}),
        (4, "20260102", {}),
        (5, "20260102", {"provenance": known[A], "status": "failed", "reason": "x: y"}),
        (6, "20260102", {"provenance": known[B], "status": "quarantined", "reason": "flood: y", "previous": (before,)}),
    ):
        (tmp_path / f"{visit}.fits").write_bytes(b"SIMPLE  = T")
        source, key = Source(str(tmp_path / f"{visit}.fits")), ExposureKey(night=night, visit=visit, detector=0)
        ledger.remember(memo_of(Item(source, key, stat_of(source)), "s", Settings()))
        ledger.put(
            exposure_record(
                night=night, visit=visit, source_uri=str(tmp_path / f"{visit}.fits"), detections=10 * visit, **given
            )
        )
    return tmp_path / "out"


def test_models_with_nights_exposures_detections_and_what_was_replaced(out):
    first, second, unknown = model_uses(out)
    both = ["20260101", "20260102"]
    assert (first.version, sorted(first.nights), first.exposures, first.detections, first.replaced) == (
        "1", both, 2, 40, 2,
    )  # fmt: skip
    assert (second.version, sorted(second.nights), second.exposures, second.replaced) == ("2", both, 1, 0)
    assert [(one.quarantined, one.failed) for one in (first, second, unknown)] == [(0, 1), (1, 0), (0, 0)]
    assert (unknown.model, unknown.exposures) == ("not recorded", 1)


@pytest.mark.parametrize(
    ("wanted", "visits"),
    [("net 1", [1, 3, 5]), (A[:8], [1, 3, 5]), (B, [2, 6]), ("net", [1, 2, 3, 5, 6])],
)
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
        with pytest.raises(Misconfigured, match="not an output folder"):
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
    write_reliability(folder, gain)
    for card in folder.glob("*.json"):
        text = card.read_text().replace('"name": "test"', f'"name": "{folder.name}"')
        card.write_text(text.replace('"version": "1"', f'"version": "{folder.name}"'))
    model = {"model": str(folder)}
    return Settings(detect=model, measure=model, tiles={"tile": 112, "chunk": 28}, inject={"share": 0})


def search(sources, out, settings):
    """Search what is outdated; give the names of the exposures."""
    recorder = Recorder(out, settings, PIPELINE, sha256_of)
    run = ExposureRun(Inline(), out, settings, recorder, Progress(Console(file=io.StringIO()), 1))
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
    before, records = catalogues(out), list(Ledger(out).records())
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
    with pytest.raises(Misconfigured, match="no exposure of"):
        searched_with(out, "second")


def published(tmp_path, source, settings, visit=1):
    """Publish an exposure that was read as the source says; give item, key and output folder."""
    out, key = tmp_path / "out", ExposureKey(night="20260101", visit=visit, detector=0)
    sha256 = sha256_of(source, settings)
    lineage = trace(source, sha256, PIPELINE, model_digests(PIPELINE, settings), settings)
    info = exposure_info(
        **key.model_dump(), band="g", midpoint_mjd_tai=6e4, source_uri=source.uri, source_sha256=sha256
    )
    item, recorder = Item(source, key, stat_of(source)), Recorder(out, settings, PIPELINE, sha256_of)
    stored = Stored(info, lineage, {})
    recorder.stored(item, stored)
    recorder.done(item, stored, {}, Outcome(item, "done", detections=3))
    return out, Item(source, key, item.stat, sha256, Ledger(out).get(key))


def test_what_a_flood_withdrew_is_made_again_too(tmp_path, write_ztf, sky):
    """Model B floods where A had a catalogue: to go back from B is to make that again."""
    sky[60:63, 80:83] += 300
    sky[120:123, 150:153] += 200
    write_ztf(sky, tmp_path)
    first, second = settings_with(tmp_path / "first", 1.0), settings_with(tmp_path / "second", 2.0)
    second = second.model_copy(update={"merge": MergeSettings(max_candidates=1)})
    raw, out = list_sources([str(tmp_path)], first), tmp_path / "out"
    search(raw, out, first)
    before = catalogues(out)
    search(raw, out, second)
    (record,) = Ledger(out).records()
    assert (record.status, record.reason.partition(":")[0], catalogues(out)) == ("quarantined", "flood", {})
    use = next(one for one in model_uses(out) if (one.model, one.name) == ("detect", "second"))
    assert (use.exposures, use.quarantined, use.detections, len(use.nights)) == (0, 1, 0, 1)

    test = searched_with(out, "second")
    chosen = recorded_sources(out, test, first)
    archive = survey(chosen, out, first, wanted=test)
    assert (list(archive.open.values()), archive.missing) == ([1], ())
    search(chosen, out, first)
    assert catalogues(out) == before


@pytest.mark.parametrize("more", ["mask", "band", None])
@pytest.mark.parametrize("twice", [False, True])
def test_what_was_read_with_more_than_the_file_is_refused_without_its_archive(tmp_path, more, twice):
    """A manifest gave a mask, or a band; also if the bare file was read once before."""
    (tmp_path / "1.fits").write_bytes(b"SIMPLE  = T")
    (tmp_path / "m").write_bytes(b"mask")
    settings, bare = Settings(), Source(str(tmp_path / "1.fits"))
    given = {"mask": {"siblings": (("mask", str(tmp_path / "m")),)}, "band": {"overrides": (("band", "r"),)}}
    if twice:
        published(tmp_path, bare, settings)
    out, item = published(tmp_path, Source(bare.uri, **given.get(more, {})), settings)
    test = searched_with(out, "streak_net")
    if more is None:
        assert recorded_sources(out, test, settings) == [bare]
        return
    with pytest.raises(Misconfigured, match="give ARCHIVE") as caught:
        recorded_sources(out, test, settings)
    assert (caught.value.code, caught.value.where) == ("read_otherwise", item.source.uri)


def test_of_other_stages_what_is_remembered_of_a_source_tells(out):
    ledger = Ledger(out)
    source = Source(str(out.parent / "1.fits"), overrides=(("band", "r"),))
    forget_sources(out)
    ledger.remember(memo_of(Item(source, next(ledger.records()).key, stat_of(source)), "s", Settings()))
    with pytest.raises(Misconfigured, match="3 of 3 exposures"):
        recorded_sources(out, searched_with(out, A), Settings())


def test_what_is_asked_for_and_cannot_be_read_or_found_fails(tmp_path, monkeypatch):
    """Of four exposures one cannot be reached for now, one is not an image any more, one is not given."""
    paths = {visit: tmp_path / f"{visit}.fits" for visit in (1, 2, 3, 4)}
    for visit, path in paths.items():
        path.write_bytes(b"SIMPLE  = T")
        out, _ = published(tmp_path, Source(str(path)), Settings(), visit)
    identify, slow = Planner.identify, str(paths[1])

    def shaky(self, source):
        if source.uri == slow:
            raise Retryable("unreachable", slow, "does not answer.", "try again.")
        return identify(self, source)

    monkeypatch.setattr(Planner, "identify", shaky)
    paths[2].write_text("no image any more")
    test, given = searched_with(out, "streak_net"), [Source(str(paths[visit])) for visit in (1, 2, 4)]
    found = survey(given, out, Settings(), wanted=test)
    assert [(one.uri, one.code) for one in found.missing] == [
        (slow, "unreachable"), (str(paths[2]), "not_fits"), (str(paths[3]), "no_source"),
    ]  # fmt: skip
    assert found.nights == {"20260101": (given[2],)}
    assert [one.action for one in failing(found.missing)] == ["fail"] * 3
    with pytest.raises(Misconfigured, match="no exposure of these nights"):
        survey(given, out, Settings(), first="20260102", wanted=test)
    summary = Backfill(out, Settings(), Console(file=io.StringIO()), 0.0).run(replace(found, nights={}))
    assert (summary.exit_code, summary.exposures.seen, summary.exposures.failed) == (1, 3, 3)
    assert summary.failed == found.missing


def test_how_a_record_was_read_is_not_known_without_its_provenance():
    assert not is_read_alike(Source("/a.fits"), None, None, None)

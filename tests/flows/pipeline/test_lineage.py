from hashlib import sha256
from types import SimpleNamespace

import pytest

from flows.inputs.source import Source
from flows.pipeline import lineage
from flows.pipeline.lineage import damaged, is_whole, memo_name, outdated, remaining, trace, up_to_date, verdict_digest
from flows.pipeline.models import model_digests
from flows.pipeline.outcome import NEW
from flows.storage.digest import digest, file_digest
from schemas.keyword_mapping import KeywordMapping
from schemas.ledger import DatasetRecord
from schemas.settings import (
    DetectSettings,
    ExecutionSettings,
    FindSourcesSettings,
    GatherObjectsSettings,
    InjectSettings,
    MeasureSettings,
    MergeSettings,
    NegateSettings,
    Settings,
    TileSettings,
)
from stages import PIPELINE
from tests.support.exposure import exposure_record

SETTINGS = Settings()
MODELS = model_digests(PIPELINE, SETTINGS)
SOURCE = Source("a.fits")
LINEAGE = trace(SOURCE, "bytes", PIPELINE, MODELS, SETTINGS)


def record(status="done", **changed):
    digest = LINEAGE.final if status == "done" else verdict_digest(LINEAGE.final, SETTINGS)
    x = sha256(b"x").hexdigest()
    datasets = {
        name: DatasetRecord(path=f"{name}.parquet", digest=LINEAGE.datasets[name], rows=0, sha256=x)
        for name in ("dia_source", "injection", "negative")
    }
    known = exposure_record(source_uri="a.fits", source_sha256="bytes", digest=digest, datasets=datasets, status=status)
    return known.model_copy(update=changed)


def why(known, sha="bytes", settings=SETTINGS):
    return outdated(SOURCE, sha, known, PIPELINE, MODELS, settings)


def test_what_is_not_in_the_ledger_is_new():
    assert why(None) is NEW


@pytest.mark.parametrize("status", ["done", "quarantined"])
def test_what_was_made_from_the_same_is_kept(status):
    assert why(record(status)) is None


@pytest.mark.parametrize("sha", ["other", None])
def test_other_or_unknown_bytes_are_changed_input(sha):
    assert why(record(), sha).code == "input"


def test_what_was_given_up_on_is_done_again_whatever_it_was_made_from():
    found = why(record("failed", reason="deadline: late"))
    assert (found.code, found.text) == ("failed", "given up on before: deadline: late")
    assert why(record("failed", reason="x"), "other").code == "failed"
    assert why(record("failed", reason="x"), None).code == "failed"


@pytest.mark.parametrize("status", ["done", "quarantined"])
def test_other_bytes_count_whatever_came_of_the_first(status):
    assert why(record(status), "other").code == "input"
    assert why(record(status, digest="of other stages")).code == "outdated"


def test_where_every_dataset_is_as_it_would_be_made_all_is_made_again():
    assert "all to be made again" in why(record(digest="of other stages")).text


def test_a_changed_setting_names_what_has_to_be_made_again():
    found = why(record(), settings=Settings(inject=InjectSettings(streaks=3)))
    assert found.code == "outdated"
    assert "injection" in found.text
    assert "dia_source" not in found.text


def test_a_verdict_depends_on_the_flood_guard_too():
    settings = Settings(execution=ExecutionSettings(max_detections=5))
    assert why(record("quarantined"), settings=settings).code == "outdated"
    assert why(record(), settings=settings) is None


def test_a_published_file_that_is_missing_or_changed_is_named(tmp_path):
    for name in ("dia_source", "injection", "negative"):
        (tmp_path / f"{name}.parquet").write_bytes(b"x")
    assert damaged(record(), tmp_path) is None
    (tmp_path / "injection.parquet").write_bytes(b"y")
    assert "injection.parquet" in damaged(record(), tmp_path).text
    (tmp_path / "injection.parquet").unlink()
    assert damaged(record(), tmp_path).code == "damaged"
    assert damaged(record("quarantined"), tmp_path) is None


PLANES = ("difference", "mask")
LINEAGE_UP_TO_DATE = SimpleNamespace(datasets={"dia_source": "d1", "injection": "i1"})


@pytest.fixture
def record_up_to_date(tmp_path):
    """Two published files, as the ledger has them."""
    entries = {}
    for name, made in LINEAGE_UP_TO_DATE.datasets.items():
        (tmp_path / name).write_text(name)
        entries[name] = DatasetRecord(path=name, digest=made, rows=1, sha256=file_digest(tmp_path / name))
    return SimpleNamespace(datasets=entries)


def names(graph):
    return [stage.name for stage in graph.stages]


def test_whole_is_what_has_the_bytes_that_were_published(tmp_path):
    (tmp_path / "a").write_text("a")
    assert is_whole(tmp_path / "a", file_digest(tmp_path / "a"))
    assert not is_whole(tmp_path / "a", "0" * 64)
    assert not is_whole(tmp_path / "b", file_digest(tmp_path / "a"))


def test_keeps_what_was_made_from_the_same_and_is_whole(record_up_to_date, tmp_path):
    assert up_to_date(record_up_to_date, LINEAGE_UP_TO_DATE, tmp_path) == record_up_to_date.datasets
    assert up_to_date(None, LINEAGE_UP_TO_DATE, tmp_path) == {}
    changed = SimpleNamespace(datasets={"dia_source": "d1", "injection": "i2"})
    assert up_to_date(record_up_to_date, changed, tmp_path).keys() == {"dia_source"}
    (tmp_path / "dia_source").write_text("spoilt")
    assert up_to_date(record_up_to_date, changed, tmp_path) == {}


def test_runs_what_is_left():
    assert names(remaining(PLANES, ())) == [
        "detect", "merge", "measure", "inject", "choose_injected", "negate", "count_negated",
    ]  # fmt: skip
    assert names(remaining(PLANES, {"dia_source"})) == ["inject", "choose_injected", "negate", "count_negated"]
    assert names(remaining(PLANES, {"dia_source"}, {"injected", "negated"})) == ["choose_injected", "count_negated"]
    assert names(remaining(PLANES, {"injection", "negative"})) == ["detect", "merge", "measure"]
    assert names(remaining(PLANES, {"dia_source", "injection", "negative"})) == []


def test_sources_are_made_apart_from_searches_of_copies_which_come_last():
    assert remaining(PLANES, ()).beside() == ({"injected", "negated"},)
    assert remaining({*PLANES, "science"}, ()).beside() == ({"source"}, {"injected", "negated"})
    assert remaining({*PLANES, "science"}, {"injection"}).beside() == ({"source"}, {"negated"})


SOURCE_LINEAGE = Source("/night/a.fits")
MODELS_LINEAGE = {"detect": "d0", "reliability": "r0"}
BASE = trace(SOURCE_LINEAGE, "pixels", PIPELINE, MODELS_LINEAGE, Settings())


def changed(source=SOURCE_LINEAGE, sha256="pixels", models=MODELS_LINEAGE, **settings):
    """Names of what has another digest than with the defaults."""
    other = trace(source, sha256, PIPELINE, models, Settings(**settings))
    names = {name for name in BASE.datasets if other.datasets[name] != BASE.datasets[name]}
    return names | ({"tiles"} if other.tiles != BASE.tiles else set())


def test_the_final_digest_is_over_all_that_is_published():
    assert BASE.datasets.keys() == {
        "hit", "streak", "dia_source", "injected", "injection", "source", "negated", "negative",
    }  # fmt: skip
    assert BASE.final == digest(*(BASE.datasets[name] for name in ("dia_source", "injection", "source", "negative")))


EVERYTHING = {"tiles", "hit", "streak", "dia_source", "injected", "injection", "source", "negated", "negative"}


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        ({}, set()),
        ({"execution": ExecutionSettings(workers=9, max_detections=5)}, set()),
        ({"inject": InjectSettings(share=0.5)}, {"injected", "injection"}),
        ({"inject": InjectSettings(share=0)}, {"injected", "injection"}),
        ({"negate": NegateSettings(share=1)}, {"negated", "negative"}),
        ({"measure": MeasureSettings(aperture_fwhm=3)}, {"dia_source", "injection", "negative"}),
        ({"merge": MergeSettings(min_snr=9)}, {"streak", "dia_source", "injection", "negative"}),
        ({"detect": DetectSettings(threshold=0.99)}, {"hit", "streak", "dia_source", "injection", "negative"}),
        ({"models": MODELS_LINEAGE | {"reliability": "r1"}}, {"dia_source", "injection", "negative"}),
        ({"models": MODELS_LINEAGE | {"detect": "d1"}}, {"hit", "streak", "dia_source", "injection", "negative"}),
        (
            {"tiles": TileSettings(codec="zstd")},
            EVERYTHING,
        ),
        (
            {"fits": KeywordMapping(checksum="ignore")},
            EVERYTHING,
        ),
        ({"find_sources": FindSourcesSettings(min_snr=7)}, {"source", "negative"}),
        ({"gather_objects": GatherObjectsSettings(match_fwhm=1)}, set()),
        ({"sha256": "other"}, EVERYTHING),
        ({"source": Source("/moved/b.fits")}, set()),
        (
            {"source": Source("/night/a.fits", overrides=(("visit", "7"),))},
            EVERYTHING,
        ),
        (
            {"source": Source("/night/a.fits", siblings=(("mask", "b"),))},
            EVERYTHING,
        ),
        (
            {"source": Source("/night/a.fits", index=3)},
            EVERYTHING,
        ),
    ],
)
def test_a_change_reaches_what_is_behind_it_and_nothing_else(change, redone):
    assert changed(**change) == redone


def test_a_source_read_otherwise_is_remembered_apart():
    names = {
        memo_name(SOURCE_LINEAGE, Settings()),
        memo_name(Source("/night/a.fits", index=0), Settings()),
        memo_name(Source("/night/a.fits", overrides=(("visit", "7"),)), Settings()),
        memo_name(SOURCE_LINEAGE, Settings(fits=KeywordMapping(checksum="ignore"))),
    }
    names |= {
        memo_name(Source(SOURCE_LINEAGE.uri, ((plane, uri),)), Settings()) for plane in ("mask", "psf") for uri in "bc"
    }
    assert len(names) == 8


def test_another_way_to_subtract_concerns_what_has_a_template_alone(monkeypatch):
    def tiles():
        return [
            trace(Source("a", ((plane, "b"),)), "pixels", PIPELINE, MODELS_LINEAGE, Settings()).tiles
            for plane in ("reference", "mask")
        ]

    before = tiles()
    monkeypatch.setattr(lineage, "SUBTRACTION_VERSION", "another")
    lineage._known.clear()
    after = tiles()
    assert (before[0] == after[0], before[1] == after[1]) == (False, True)


def test_planes_that_moved_are_made_from_the_same():
    base, moved, other = (
        trace(Source("a", siblings), "pixels", PIPELINE, MODELS_LINEAGE, Settings()).tiles
        for siblings in ((("mask", "b"), ("psf", "c")), (("psf", "/moved/c"), ("mask", "/moved/b")), (("mask", "b"),))
    )
    assert base == moved != other


def test_settings_behind_the_reading_do_not_change_what_is_remembered():
    assert memo_name(SOURCE_LINEAGE, Settings(merge=MergeSettings(min_snr=9))) == memo_name(SOURCE_LINEAGE, Settings())


def test_a_verdict_is_looked_at_again_where_what_it_depends_on_has_changed():
    more = Settings(execution={"worker_memory_gib": 9}), Settings(cluster={"slurm": {"memory_gib": 9}})
    for code, counts in (("flood", False), ("killed_workers", True)):
        before = verdict_digest("f", Settings(), code)
        assert [verdict_digest("f", one, code) != before for one in more] == [counts, counts]
        assert verdict_digest("f", Settings(execution={"max_detections": 9}), code) != before
        assert verdict_digest("f", Settings(execution={"workers": 9}), code) == before
        assert verdict_digest("g", Settings(), code) != before


def test_how_files_are_read_is_told_apart_however_many_ways_there_were(monkeypatch):
    """Digests of ways to read are kept; none is taken for another."""
    monkeypatch.setattr(lineage, "KNOWN", 30)
    for _ in range(2):
        names = {
            memo_name(Source("/a.npz", index=index), Settings(fits={"extension": number}))
            for index in range(20) for number in range(2)
        }  # fmt: skip
        assert len(names) == 40

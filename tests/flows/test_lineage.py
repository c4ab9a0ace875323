import pytest

from flows.adapters.sources import Source
from flows.digest import digest
from flows.lineage import memo_name, trace
from schemas.keyword_mapping import KeywordMapping
from schemas.settings import (
    DetectSettings,
    ExecutionSettings,
    FindSourcesSettings,
    GatherObjectsSettings,
    InjectSettings,
    MeasureSettings,
    MergeSettings,
    Settings,
    TileSettings,
)
from stages import PIPELINE

SOURCE = Source("/night/a.fits")
MODELS = {"detect": "d0", "reliability": "r0"}
BASE = trace(SOURCE, "pixels", PIPELINE, MODELS, Settings())


def changed(source=SOURCE, sha256="pixels", models=MODELS, **settings):
    """Names of what has another digest than with the defaults."""
    other = trace(source, sha256, PIPELINE, models, Settings(**settings))
    names = {name for name in BASE.datasets if other.datasets[name] != BASE.datasets[name]}
    return names | ({"tiles"} if other.tiles != BASE.tiles else set())


def test_the_final_digest_is_over_all_that_is_published():
    assert BASE.datasets.keys() == {"hit", "streak", "dia_source", "injection", "source"}
    assert BASE.final == digest(*(BASE.datasets[name] for name in ("dia_source", "injection", "source")))


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        ({}, set()),
        ({"execution": ExecutionSettings(workers=9, max_detections=5)}, set()),
        ({"inject": InjectSettings(share=0.5)}, {"injection"}),
        ({"inject": InjectSettings(share=0)}, {"injection"}),
        ({"measure": MeasureSettings(aperture_fwhm=3)}, {"dia_source", "injection"}),
        ({"merge": MergeSettings(min_snr=9)}, {"streak", "dia_source", "injection"}),
        ({"detect": DetectSettings(threshold=0.99)}, {"hit", "streak", "dia_source", "injection"}),
        ({"models": MODELS | {"reliability": "r1"}}, {"dia_source", "injection"}),
        ({"models": MODELS | {"detect": "d1"}}, {"hit", "streak", "dia_source", "injection"}),
        ({"tiles": TileSettings(codec="zstd")}, {"tiles", "hit", "streak", "dia_source", "injection", "source"}),
        ({"fits": KeywordMapping(checksum="ignore")}, {"tiles", "hit", "streak", "dia_source", "injection", "source"}),
        ({"find_sources": FindSourcesSettings(min_snr=7)}, {"source"}),
        ({"gather_objects": GatherObjectsSettings(match_fwhm=1)}, set()),
        ({"sha256": "other"}, {"tiles", "hit", "streak", "dia_source", "injection", "source"}),
        ({"source": Source("/moved/b.fits")}, set()),
        (
            {"source": Source("/night/a.fits", overrides=(("visit", "7"),))},
            {"tiles", "hit", "streak", "dia_source", "injection", "source"},
        ),
        (
            {"source": Source("/night/a.fits", siblings=(("mask", "b"),))},
            {"tiles", "hit", "streak", "dia_source", "injection", "source"},
        ),
        ({"source": Source("/night/a.fits", index=3)}, {"tiles", "hit", "streak", "dia_source", "injection", "source"}),
    ],
)
def test_a_change_reaches_what_is_behind_it_and_nothing_else(change, redone):
    assert changed(**change) == redone


def test_a_source_read_otherwise_is_remembered_apart():
    names = {
        memo_name(SOURCE, Settings()),
        memo_name(Source("/night/a.fits", index=0), Settings()),
        memo_name(Source("/night/a.fits", overrides=(("visit", "7"),)), Settings()),
        memo_name(SOURCE, Settings(fits=KeywordMapping(checksum="ignore"))),
    }
    names |= {memo_name(Source(SOURCE.uri, ((plane, uri),)), Settings()) for plane in ("mask", "psf") for uri in "bc"}
    assert len(names) == 8


def test_planes_that_moved_are_made_from_the_same():
    base, moved, other = (
        trace(Source("a", siblings), "pixels", PIPELINE, MODELS, Settings()).tiles
        for siblings in ((("mask", "b"), ("psf", "c")), (("psf", "/moved/c"), ("mask", "/moved/b")), (("mask", "b"),))
    )
    assert base == moved != other


def test_settings_behind_the_reading_do_not_change_what_is_remembered():
    assert memo_name(SOURCE, Settings(merge=MergeSettings(min_snr=9))) == memo_name(SOURCE, Settings())

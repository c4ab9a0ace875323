import json
import shutil

import numpy as np
import pytest
from astropy.io import fits

from flows.inputs.probe import probe
from flows.inputs.source import Source
from flows.inputs.source_state import sha256_of
from flows.nights.catalogues import former_source
from flows.nights.exposure_work import search_exposure
from flows.nights.patch_tiles import left_with, restore_tiles
from flows.nights.recorder import Recorder
from flows.pipeline.lineage import trace
from flows.pipeline.models import model_digests
from flows.pipeline.outcome import Item, Outcome
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import TileStore
from schemas.ledger import SourceFile
from schemas.patch import PatchKey
from schemas.settings import DetectSettings, InjectSettings, Settings, TileSettings
from stages import PIPELINE
from tests.support.cli import nightstride
from tests.support.night import DETECTORS, TWO_WORKERS, VISITS, catalogues, without_objects

pytest_plugins = ("tests.support.night_fixture",)

SETTINGS = Settings(
    tiles=TileSettings(tile=112, chunk=28),
    detect=DetectSettings(model="basic_cnn", threshold=0.2),
    inject=InjectSettings(share=0),
)


def held(path):
    """What tiles hold; in which order chunks come into a file depends on threads."""
    store = TileStore.open(path)
    return store.info, {name: store.read_all(name).tobytes() for name in store.planes}


@pytest.fixture
def searched(source, tmp_path):
    """A published exposure whose tiles are gone: its key, its source, the output folder, and what the tiles were."""
    given = Source(str(shutil.copy(source.uri, tmp_path / "image.fits")))
    key, out = probe(given, SETTINGS), tmp_path / "out"
    recorder = Recorder(out, SETTINGS, PIPELINE, sha256_of)
    done = search_exposure(given, key, None, None, out, SETTINGS)
    item = Item(given, key, None)
    recorder.stored(item, done.stored)
    recorder.done(item, done.stored, done.datasets, Outcome(item, "done"))
    before = held(tile_path(out, key))
    shutil.rmtree(tile_path(out, key))
    return key, given, out, before


def found(key, out, given=None):
    known = {} if given is None else {key: given}
    return former_source(known, Ledger(out), SETTINGS, Ledger(out).get(key))


def restore(key, out, given=None):
    restore_tiles(key, out, SETTINGS, found(key, out, given), Ledger(out).get(key).source_sha256)
    return tile_path(out, key)


def test_tiles_are_written_again_from_where_the_ledger_has_the_files(searched):
    key, _, out, before = searched
    assert held(restore(key, out)) == before


def test_files_that_a_manifest_named_are_found_where_the_ledger_has_them(searched):
    key, given, out, _ = searched
    beside = str(shutil.copy(given.uri, out.parent / "elsewhere.fits"))
    both = Source(given.uri, siblings=(("science", beside),))
    files = {"difference": SourceFile(uri=given.uri), "science": SourceFile(uri=beside)}
    sha256 = sha256_of(both, SETTINGS)
    final = trace(both, sha256, PIPELINE, model_digests(PIPELINE, SETTINGS), SETTINGS).final
    update = {"source_files": files, "source_sha256": sha256, "source_stat": None, "digest": final}
    Ledger(out).put(Ledger(out).get(key).model_copy(update=update))
    assert found(key, out) == both


def test_they_are_written_from_where_the_files_are_now(searched):
    key, given, out, before = searched
    moved = Source(str(shutil.move(given.uri, out.parent / "moved.fits")))
    assert found(key, out) is None
    restored = restore(key, out, moved)
    info, planes = held(restored)
    assert planes == before[1]
    assert info == before[0].model_copy(update={"source_uri": moved.uri})


def test_they_are_not_written_from_other_bytes_or_read_otherwise(searched):
    key, given, out, _ = searched
    record = Ledger(out).get(key)
    Ledger(out).put(record.model_copy(update={"digest": "of a file that a manifest has told more of"}))
    assert found(key, out, Source(given.uri, overrides=(("band", "i"),))) is None
    Ledger(out).put(record)
    assert found(key, out, given) == given
    with fits.open(given.uri, mode="update") as hdus:
        hdus[-1].header["HISTORY"] = "changed"
    assert found(key, out, given) is None


def covered(keys):
    """Pixels of order 6 that some patches cover."""
    return {(one.pixel << 2 * (6 - one.order)) + below for one in keys for below in range(4 ** (6 - one.order))}


def division(rng, order=3):
    """Patches that cover sixteen pixels of an order without overlap, some divided."""
    found = [(order, pixel) for pixel in range(16)]
    for _ in range(3):
        divided = [one for one in found if one[0] < 6 and rng.random() < 0.3]
        found = [one for one in found if one not in divided]
        found += [(depth + 1, 4 * pixel + child) for depth, pixel in divided for child in range(4)]
    return [PatchKey(night="20260101", order=depth, pixel=pixel) for depth, pixel in found]


@pytest.mark.parametrize("seed", range(8))
def test_what_stays_covers_what_is_left_out_and_nothing_else(seed):
    rng = np.random.default_rng(seed)
    patches, former = division(rng), division(rng)
    lacking = [one for one in patches if rng.random() < 0.1]
    left, stay = left_with(lacking, patches, former)
    assert set(lacking) <= left <= set(patches)
    assert covered(left) == covered(stay)
    assert left_with([], patches, former) == (set(), set())
    assert left_with(lacking, patches, []) == (set(lacking), set())


@pytest.mark.slow
def test_a_late_exposure_of_a_pruned_night_leaves_it_whole(nightstride_run, uninterrupted, raw_night, tmp_path):
    raw, late, out = shutil.copytree(raw_night, tmp_path / "raw"), tmp_path / "late", tmp_path / "out"
    late.mkdir()
    name = max(raw.glob("*scimrefdiffimg*")).name.partition("scimref")[0]
    for path in raw.glob(f"{name}*"):
        shutil.move(path, late)
    assert nightstride_run.here(raw, "--out", out, **TWO_WORKERS).code == 0
    assert nightstride("prune", out, "--older-than", "1").code == 0
    assert not list((out / "tiles").rglob("*.zarr"))
    found = nightstride_run.here(raw, late, "--out", out, **TWO_WORKERS)
    assert (found.code, found.summary["night_failed"]) == (0, [])
    assert without_objects(catalogues(out)) == without_objects(catalogues(uninterrupted[1]))
    shard = next((out / "tiles").glob("*/*.zarr/difference/c/0/0"))
    shard.write_bytes(shard.read_bytes()[:-9] + b"something")
    found = nightstride("verify", out, "--json")
    assert [one["remedy"] for one in json.loads(found.stdout)["problems"]] == ["run the exposure again with --tiles."]
    assert nightstride_run.here(raw, late, "--out", out, "--tiles", **TWO_WORKERS).code == 0
    assert nightstride("verify", out).code == 0
    assert len(list((out / "tiles").glob("*/*.zarr"))) == VISITS * DETECTORS
    assert without_objects(catalogues(out)) == without_objects(catalogues(uninterrupted[1]))

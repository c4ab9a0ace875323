import gzip
import os
import signal
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits

from benchmarks.scale.huge_image import lights, satellite, write_image, write_mask
from flows.inputs.probe import probe
from flows.inputs.source import Source
from flows.inputs.source_state import sha256_of
from flows.nights import exposure_work as exposure_tasks
from flows.nights.exposure_run import shared_out
from flows.nights.exposure_work import (
    finish_exposure,
    left_of,
    measure_exposure,
    run_beside,
    search_exposure,
    search_tiles,
    store_exposure,
    worked,
)
from flows.nights.recorder import Recorder
from flows.pipeline.outcome import Item, Outcome
from flows.pipeline.stage_run import gathered
from flows.storage.catalog_store import CatalogStore
from flows.storage.digest import file_digest
from flows.storage.fence import behind, fenced_task
from flows.storage.holder import own_fence
from flows.storage.layout import tile_path
from flows.storage.lease import lease
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import TileStore
from schemas.dataset import TableOf, column
from schemas.dia_source import DIA_SOURCE, HIT, STREAK
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.injection import INJECTION
from schemas.keyword_mapping import BandFromHeader, DurationFromHeader, KeywordMapping, TimeFromHeader
from schemas.ledger import ExposureRecord
from schemas.negative import NEGATED
from schemas.pixels import Tiling
from schemas.settings import DetectSettings, ExecutionSettings, InjectSettings, NegateSettings, Settings, TileSettings
from schemas.stage import Result, Stage
from stages import PIPELINE
from stages.detect import STAGE as DETECT

SETTINGS = Settings(tiles=TileSettings(tile=112, chunk=28), detect=DetectSettings(model="basic_cnn", threshold=0.2))


FITS = KeywordMapping(
    time=TimeFromHeader(value=60700.25, format="mjd"),
    exposure_time=DurationFromHeader(value=30.0),
    band=BandFromHeader(value="r"),
)


@pytest.fixture
def key(source):
    return probe(source, SETTINGS)


def shared(source, key, out):
    """Do the same as several tasks, for an exposure of which nothing is known."""
    stored = store_exposure(source, key, None, out, SETTINGS)
    left, path = left_of(stored, None, out, SETTINGS), tile_path(out, key)
    parts = [search_tiles(path, tiles, SETTINGS) for tiles in shared_out(left.tiles, 3)]
    assert len(parts) == 3
    return worked(stored, None, left, parts, [finish_exposure(path, parts, stored.lineage, out, SETTINGS)])


def test_one_task_publishes_the_bytes_that_several_do(source, key, tmp_path):
    alone = search_exposure(source, key, None, None, tmp_path / "a", SETTINGS)
    several = shared(source, key, tmp_path / "b")
    assert alone.datasets == several.datasets
    for record in alone.datasets.values():
        assert file_digest(tmp_path / "a" / record.path) == file_digest(tmp_path / "b" / record.path) == record.sha256
    assert alone.datasets["dia_source"].rows > 0
    same = ("windows", "unscored", "searched", "causes", "not_run")
    assert [getattr(alone, name) for name in same] == [getattr(several, name) for name in same]
    assert alone.windows > 0
    assert alone.seconds.keys() == several.seconds.keys() >= {"read", "write tiles", "detect", "measure", "publish"}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Image with stars, streaks across the rows where bands meet, and a trail from border to border."""
    folder = tmp_path_factory.mktemp("crowded")
    streaks, stars = lights(800, seed=5, pixels_each=60_000)
    write_image(folder / "image.fits", 800, [*streaks, *stars, satellite(800)])
    write_mask(folder / "mask.fits", 800)
    return folder


def of_bands(monkeypatch):
    """Make images large that are not, and bands low; a sample still holds all of such an image."""
    monkeypatch.setattr("schemas.pixels.WHOLE_PIXELS", 10_000)
    monkeypatch.setattr("flows.inputs.image_rows.BAND", 90)
    monkeypatch.setattr("flows.storage.zarr_tiles.BAND", 60)
    monkeypatch.setattr("flows.storage.zarr_tiles.WHOLE", 100)
    monkeypatch.setattr("flows.inputs.image_rows.BLOCK", 4096)


def stored_alike(folder, key):
    """Pixels in bands are those of the whole, in more files, and nothing else is left of them."""
    whole, bands = (TileStore.open(tile_path(folder / name, key)) for name in ("whole", "bands"))
    assert bands.digest == whole.digest
    assert bands.planes == whole.planes
    for plane in whole.planes:
        np.testing.assert_array_equal(bands.read_all(plane), whole.read_all(plane))
    few, many = (len(list((one.path / "difference" / "c").rglob("*"))) for one in (whole, bands))
    assert many > few
    assert list((folder / "bands").glob("staging/*")) == []


@pytest.fixture
def steady(monkeypatch):
    """A large image has one number for its noise and one PSF: so have these."""
    monkeypatch.setattr("flows.inputs.described.noise_variation", lambda *_: None)
    monkeypatch.setattr("flows.inputs.described._varying", lambda psf, *_: psf)
    copied = {"inject": InjectSettings(share=0.5), "negate": NegateSettings(share=1)}
    return SETTINGS.model_copy(update={"fits": FITS, **copied})


def test_an_image_done_in_bands_gives_the_bytes_of_one_done_whole(crowded, tmp_path, monkeypatch, steady):
    """Ids, order, all columns; whatever lies across a border is neither lost nor doubled."""
    source = Source(str(crowded / "image.fits"), (("mask", str(crowded / "mask.fits")),))
    key = probe(source, steady)
    whole = search_exposure(source, key, None, None, tmp_path / "whole", steady)
    of_bands(monkeypatch)
    bands = search_exposure(source, key, None, None, tmp_path / "bands", steady)
    assert bands.stored.info == whole.stored.info
    assert bands.datasets == whole.datasets
    for record in whole.datasets.values():
        assert record.rows > 0
        assert file_digest(tmp_path / "bands" / record.path) == record.sha256
    assert (bands.causes, bands.windows) == (whole.causes, whole.windows)
    table = CatalogStore(tmp_path / "bands").read(DIA_SOURCE, key)
    assert "satellite" in table["trailClass"].to_pylist()
    stored_alike(tmp_path, key)


@pytest.mark.parametrize("form", ["compressed", "gzip"])
def test_a_compressed_image_is_stored_in_bands_as_it_is_whole(crowded, tmp_path, monkeypatch, steady, form):
    """All that follows works on what is stored."""
    path, plain = tmp_path / "image.fits", crowded / "image.fits"
    if form == "compressed":
        with fits.open(plain) as file:
            packed = fits.CompImageHDU(file[0].data, file[0].header, quantize_level=16)
        packed.writeto(path, checksum=True)
    else:
        path = tmp_path / "image.fits.gz"
        path.write_bytes(gzip.compress(plain.read_bytes(), 1))
    source = Source(str(path), (("mask", str(crowded / "mask.fits")),))
    key = probe(source, steady)
    whole = store_exposure(source, key, None, tmp_path / "whole", steady)
    of_bands(monkeypatch)
    bands = store_exposure(source, key, None, tmp_path / "bands", steady)
    assert (bands.info, bands.sky) == (whole.info, whole.sky)
    stored_alike(tmp_path, key)


def test_more_hits_than_an_exposure_may_have_end_its_search(source, key, tmp_path, monkeypatch):
    stored = store_exposure(source, key, None, tmp_path, SETTINGS)
    count = len(hits_of([search_all(stored, key, tmp_path)]))
    assert search_all(stored, key, tmp_path).windows > 0
    monkeypatch.setattr("schemas.dia_source.MOST_HITS", count)
    search_all(stored, key, tmp_path)
    monkeypatch.setattr("schemas.dia_source.MOST_HITS", count - 1)
    with pytest.raises(BadInput, match=rf"at least {count} rows of hit, more than {count - 1}") as caught:
        search_all(stored, key, tmp_path)
    assert caught.value.code == "flood"


def test_what_is_published_stays_and_is_not_searched_again(source, key, tmp_path):
    first = search_exposure(source, key, None, None, tmp_path, SETTINGS)
    item = Item(source, key, None)
    Recorder(tmp_path, SETTINGS, PIPELINE, sha256_of).done(item, first.stored, first.datasets, Outcome(item, "done"))
    record = Ledger(tmp_path).get(key)
    (tmp_path / first.datasets["injection"].path).unlink()
    again = search_exposure(source, key, first.stored.info.source_sha256, record, tmp_path, SETTINGS)
    assert (again.searched, again.windows) == (False, 0)
    assert again.datasets == first.datasets
    assert again.causes == record.causes


def stopped_before_it_publishes(fence, source, key, out):
    """Worker that stores and searches, is stopped, and goes on."""
    with behind(fence):
        stored = store_exposure(source, key, None, out, SETTINGS)
        parts = [search_all(stored, key, out)]
    os.kill(os.getpid(), signal.SIGSTOP)
    refused = []
    for late in (
        lambda: finish_exposure(tile_path(out, key), parts, stored.lineage, out, SETTINGS),
        lambda: store_exposure(source, key, None, out, SETTINGS),
    ):
        try:
            fenced_task(fence, late)
        except Misconfigured as error:
            refused.append(error.code)
    os._exit(0 if refused == ["taken_over"] * 2 else 1)


def test_a_worker_that_is_stopped_through_a_take_over_publishes_nothing(source, key, tmp_path):
    out = tmp_path / "out"
    with lease(out, heartbeat_s=1000) as me:
        fence = own_fence(out)
        worker = get_context("spawn").Process(target=stopped_before_it_publishes, args=(fence, source, key, out))
        worker.start()
        try:
            assert os.WIFSTOPPED(os.waitpid(worker.pid, os.WUNTRACED)[1])
            other = out / "lease.new"
            other.write_text(me.model_copy(update={"host": "elsewhere"}).model_dump_json())
            other.replace(out / "lease.json")
            with pytest.raises(Misconfigured, match="another run has taken"):
                own_fence(out)
            search_exposure(source, key, None, None, out, SETTINGS)  # the successor
            published = {path: path.stat().st_ino for path in out.rglob("*") if path.is_file()}
            os.kill(worker.pid, signal.SIGCONT)
            worker.join(300)
            assert worker.exitcode == 0
        finally:
            worker.kill()  # Python waits for it before it ends
    assert {path: path.stat().st_ino for path in published} == published
    assert not list(out.glob("*/*/*/.*"))
    assert own_fence(tmp_path) is None


def searched(path, shape, each=1):
    tiles = Tiling(shape, SETTINGS.tiles.tile, 26, 7).tiles()
    return [search_tiles(path, tiles[start : start + each], SETTINGS) for start in range(0, len(tiles), each)]


def test_stores_once_and_keeps_what_is_the_same(source, key, tmp_path):
    first = store_exposure(source, key, None, tmp_path, SETTINGS)
    path = tile_path(tmp_path, key)
    opened, made = TileStore.open(path), path.stat()
    assert (opened.info, opened.digest) == (first.info, first.lineage.tiles)
    again = store_exposure(source, key, first.info.source_sha256, tmp_path, SETTINGS)
    assert (again.info, again.lineage, path.stat().st_mtime_ns) == (first.info, first.lineage, made.st_mtime_ns)
    smaller = Settings(tiles=TileSettings(tile=56, chunk=28))
    store_exposure(source, key, first.info.source_sha256, tmp_path, smaller)
    assert path.stat().st_mtime_ns != made.st_mtime_ns


def test_a_file_that_changed_its_identity_is_refused(source, key, tmp_path):
    planned = ExposureKey(night=key.night, visit=key.visit + 1, detector=key.detector)
    with pytest.raises(BadInput, match="run again when the file is no longer being written") as caught:
        store_exposure(source, planned, None, tmp_path, SETTINGS)
    assert caught.value.code == "changed_meanwhile"


def test_searches_every_window_once_and_publishes(source, key, tmp_path):
    stored = store_exposure(source, key, None, tmp_path, SETTINGS)
    path = tile_path(tmp_path, key)
    tiles = searched(path, stored.info.shape)
    rows, columns = Tiling(stored.info.shape).grid
    assert sum(tile.windows for tile in tiles) == rows * columns
    published = finish_exposure(path, tiles, stored.lineage, tmp_path, SETTINGS)
    assert published.datasets.keys() == {"dia_source", "injection", "negative"}
    assert {"spike", "cosmic_ray", "satellite"} <= published.causes.keys()
    record = published.datasets["dia_source"]
    assert record.digest == stored.lineage.datasets["dia_source"]
    assert len(CatalogStore(tmp_path).read(DIA_SOURCE, key)) == record.rows
    assert stored.seconds.keys() == {"read", "inspect", "write tiles", "other"}
    assert tiles[0].seconds.keys() == {"read tiles", "detect", "other"}
    assert published.seconds.keys() == {
        "read tiles", "merge", "measure", "inject", "choose_injected", "negate", "count_negated", "publish", "other",
    }  # fmt: skip
    backwards = finish_exposure(path, tiles[::-1], stored.lineage, tmp_path, SETTINGS)
    assert backwards.datasets == published.datasets


def test_what_is_made_beside_the_measurement_is_published_with_it_to_the_same_bytes(source, key, tmp_path):
    stored = store_exposure(source, key, None, tmp_path, SETTINGS)
    path, left = tile_path(tmp_path, key), left_of(stored, None, tmp_path, SETTINGS)
    tiles = searched(path, stored.info.shape)
    assert left.beside == ({"injected", "negated"},)
    beside = run_beside(path, SETTINGS, left.kept, tmp_path, *left.beside)
    measured = measure_exposure(path, tiles, SETTINGS, left.kept, tmp_path)
    assert beside.results.keys() == {"injected", "negated"}
    assert measured.results.keys() == {"dia_source"}
    assert not (tmp_path / "catalogs").exists()
    parts = finish_exposure(path, [measured, beside], stored.lineage, tmp_path, SETTINGS, left.kept)
    whole = finish_exposure(path, tiles, stored.lineage, tmp_path, SETTINGS)
    assert (parts.datasets, parts.causes) == (whole.datasets, whole.causes)
    assert parts.seconds.keys() == {"choose_injected", "count_negated", "publish", "other", "read tiles"}
    assert left_of(stored, record_of(key, parts), tmp_path, SETTINGS).beside == ()


def record_of(key, published):
    return ExposureRecord(
        **key.model_dump(), source_uri="a", source_sha256="b", digest="c", windows=1, windows_unscored=0,
        datasets=published.datasets, software="0", finished_at="now",
    )  # fmt: skip


def test_a_stage_may_need_what_is_made_beside_the_measurement_and_what_is_not_published(
    source, key, tmp_path, monkeypatch
):
    form = pa.schema([column("streaks", pa.int64(), "", "n"), column("hits", pa.int64(), "", "n")])

    def both(inputs, context):
        return pa.Table.from_pylist([{"streaks": len(inputs["streak"]), "hits": len(inputs["hit"])}], form)

    made = TableOf("both", form, synthetic=True)
    stage = Stage("compare", "1", "exposure", (STREAK, HIT, NEGATED), made, both)
    for module in ("flows.nights.exposure_work", "flows.pipeline.lineage", "flows.pipeline.models"):
        monkeypatch.setattr(f"{module}.PIPELINE", (*PIPELINE, stage))
    stored = store_exposure(source, key, None, tmp_path, SETTINGS)
    path, left = tile_path(tmp_path, key), left_of(stored, None, tmp_path, SETTINGS)
    tiles = searched(path, stored.info.shape)
    measured = measure_exposure(path, tiles, SETTINGS, left.kept, tmp_path)
    assert {"streak", "hit"} <= measured.results.keys()
    beside = run_beside(path, SETTINGS, left.kept, tmp_path, *left.beside)
    parts = finish_exposure(path, [measured, beside], stored.lineage, tmp_path, SETTINGS)
    (row,) = CatalogStore(tmp_path).read(made, key).to_pylist()
    assert row["hits"] == len(hits_of(tiles)) > row["streaks"] > 0
    assert parts.datasets == finish_exposure(path, tiles, stored.lineage, tmp_path, SETTINGS).datasets


def hits_of(parts):
    return gathered(DETECT, [part.results["hit"] for part in parts]).rows


def test_tiles_may_be_shared_out_among_tasks_in_any_way(source, key, tmp_path):
    stored = store_exposure(source, key, None, tmp_path, SETTINGS)
    path = tile_path(tmp_path, key)
    ones = searched(path, stored.info.shape)
    expected = hits_of(ones)
    assert len(expected)
    for each in (2, 3, len(ones)):
        parts = searched(path, stored.info.shape, each)
        assert hits_of(parts).equals(expected)
        for count in ("windows", "unscored"):
            assert sum(getattr(part, count) for part in parts) == sum(getattr(one, count) for one in ones)


def test_more_detections_than_allowed_are_a_flood_and_nothing_is_published(source, key, tmp_path, monkeypatch):
    stored = store_exposure(source, key, None, tmp_path, SETTINGS)
    row = {field.name: {pa.string(): "g"}.get(field.type, 1) for field in DIA_SOURCE.schema}
    row["trailCov"] = [0.0] * 25
    two = pa.Table.from_pylist([row, row], DIA_SOURCE.schema)
    monkeypatch.setattr(
        exposure_tasks, "run_stages", lambda stages, inputs, *rest: inputs | {"dia_source": Result(two)}
    )
    tight = Settings(execution=ExecutionSettings(max_detections=1))
    with pytest.raises(BadInput, match=r"2 rows of dia_source, more than execution.max_detections = 1") as caught:
        finish_exposure(tile_path(tmp_path, key), [], stored.lineage, tmp_path, tight)
    assert caught.value.code == "flood"
    assert not (tmp_path / "catalogs").exists()


@pytest.fixture
def empty(write_ztf):
    """Noise alone, where synthetic streaks have room."""
    return Source(write_ztf())


def test_synthetic_streaks_are_no_flood(empty, key, tmp_path):
    many = InjectSettings(share=1, streaks=64, length=(1.0, 2.0))
    settings = SETTINGS.model_copy(update={"execution": ExecutionSettings(max_detections=1), "inject": many})
    stored = store_exposure(empty, key, None, tmp_path, settings)
    published = finish_exposure(
        tile_path(tmp_path, key), [search_all(stored, key, tmp_path)], stored.lineage, tmp_path, settings
    )
    assert published.datasets["dia_source"].rows <= 1 < published.datasets["injection"].rows


def search_all(stored, key, out):
    tiles = Tiling(stored.info.shape, SETTINGS.tiles.tile, 26, 7).tiles()
    return search_tiles(tile_path(out, key), tiles, SETTINGS)


def test_what_is_up_to_date_is_kept_and_what_only_it_needs_is_not_run(empty, key, tmp_path):
    stored = store_exposure(empty, key, None, tmp_path, SETTINGS)
    path = tile_path(tmp_path, key)
    first = finish_exposure(path, [search_all(stored, key, tmp_path)], stored.lineage, tmp_path, SETTINGS)
    changed = SETTINGS.model_copy(update={"inject": InjectSettings(share=1, streaks=64)})
    again = store_exposure(empty, key, stored.info.source_sha256, tmp_path, changed)
    kept = {name: first.datasets[name] for name in ("dia_source", "negative")}
    second = finish_exposure(path, [], again.lineage, tmp_path, changed, kept)
    assert second.seconds.keys() == {"read tiles", "inject", "choose_injected", "publish", "other"}
    assert second.datasets["dia_source"] == first.datasets["dia_source"]
    assert second.datasets["injection"].digest == again.lineage.datasets["injection"]
    assert len(CatalogStore(tmp_path).read(INJECTION, key)) > 0
    whole = finish_exposure(path, [search_all(stored, key, tmp_path)], again.lineage, tmp_path, changed)
    assert whole.datasets == second.datasets

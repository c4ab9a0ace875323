"""The same of every store, on this machine and in buckets."""

import numpy as np
import pytest

from flows.pipeline.lineage import is_whole
from flows.storage.array_store import ArrayStore
from flows.storage.atomic import leftovers, new_folder, remove, sweep, write_file
from flows.storage.bucket_path import files_below
from flows.storage.catalog_store import CatalogStore
from flows.storage.lease import holder_of, lease
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine
from flows.storage.zarr_tiles import TileStore, write_exposure
from schemas.dataset import ArrayOf
from schemas.dia_source import HIT
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey, PsfModel
from schemas.ledger import ExposureRecord, SourceMemo
from schemas.settings import TileSettings
from tests.support.exposure import exposure_info

pytest_plugins = ("tests.support.s3_fixture",)
NIGHT = "20260101"
KEYS = [ExposureKey(night=NIGHT, visit=visit, detector=detector) for visit in (7, 8) for detector in (0, 3)]


def record(key, **other):
    values = {
        "source_uri": "s3://bucket/é.fits", "source_sha256": "ab" * 32, "digest": "cd" * 32, "software": "1",
        "finished_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return ExposureRecord(**key.model_dump(), **(values | other))


def hits(n):
    import pyarrow as pa

    numbers = np.arange(n, dtype=np.int32)
    return pa.table({"row": numbers, "column": numbers, "logit": numbers.astype(np.float32)}, schema=HIT.schema)


def names(out):
    return sorted(path.relative_to(out).as_posix() for path in files_below(out))


def test_a_file_is_replaced_and_removed(out):
    for content in (b"one", b"", b"another"):
        write_file(out / "a/b/file.html", content, out / "staging")
        assert (out / "a/b/file.html").read_bytes() == content
    write_file(out / "a/file.html", b"beside", out / "staging")
    assert names(out) == ["a/b/file.html", "a/file.html"]
    assert leftovers(out) == []
    sweep(out)
    for _ in range(2):
        remove(out / "a/file.html")
        assert names(out) == ["a/b/file.html"]
    for _ in range(2):
        remove(out / "a/b")
        assert names(out) == []


def test_a_group_is_replaced_whole(out):
    for content in ("one", "other"):
        with new_folder(out / "x.zarr") as folder:
            (folder / "zarr.json").write_text(content)
            (folder / content).mkdir()
            (folder / content / "0").write_text(content)
    assert names(out) == ["x.zarr/other/0", "x.zarr/zarr.json"]
    with pytest.raises(ZeroDivisionError), new_folder(out / "x.zarr") as folder:
        (folder / "zarr.json").write_text(str(1 / 0))
    assert (out / "x.zarr/zarr.json").read_bytes() == b"other"
    remove(out / "x.zarr")
    assert names(out) == []


def test_catalogues(out):
    store = CatalogStore(out)
    assert store.list(HIT) == []
    for key in KEYS:
        store.publish(HIT, key, hits(key.visit), "ab" * 32)
    assert [path.name for path in store.list(HIT, NIGHT)] == [f"{key.name}.parquet" for key in KEYS]
    assert store.list(HIT) == store.list(HIT, NIGHT)
    assert store.read(HIT, KEYS[-1]).equals(hits(8))
    described = store.record(store.path(HIT, KEYS[0]))
    assert (described.path, described.rows) == (f"catalogs/hit/night={NIGHT}/{KEYS[0].name}.parquet", 7)
    assert is_whole(out / described.path, described.sha256)
    write_file(out / described.path, (out / described.path).read_bytes()[:-7], out / "staging")
    assert not is_whole(out / described.path, described.sha256)
    with pytest.raises(BadInput, match="cannot be read as Parquet"):
        store.read(HIT, KEYS[0])
    remove(out / described.path)
    assert not is_whole(out / described.path, described.sha256)
    with pytest.raises(BadInput, match="cannot be read as Parquet"):
        store.read(HIT, KEYS[0])


def test_arrays_of_nights(out):
    store, form = ArrayStore(out), ArrayOf("stamps", "float32", ("thing", "y", "x"), "nJy")
    for rows in (300, 5):  # the second has fewer files
        values = np.random.default_rng(rows).normal(0, 1, (rows, 3, 4)).astype(np.float32)
        described = store.publish(form, NIGHT, values, "abc", {"thingId": np.arange(rows)})
        assert (described.rows, described.digest) == (rows, "abc")
        assert is_whole(out / described.path, described.sha256)
        np.testing.assert_array_equal(store.read_path(out / described.path, form), values)
    store.allocate((2**25,), "float32")[-1] = 1  # more than is kept in memory
    remove(out / described.path)
    with pytest.raises(BadInput, match="metadata cannot be read"):
        store.read_path(out / described.path, form)


def test_tiles(out):
    info = exposure_info(
        (500, 610),
        **KEYS[0].model_dump(),
        midpoint_mjd_tai=61041.25,
        psf=PsfModel(fwhm_px=2.2, beta=3.5, source="stamp"),
        noise=7.5,
        noise_correlation=((0.0, 0.2, 0.0), (0.2, 1.0, 0.2), (0.0, 0.2, 0.0)),
        source_uri="file:///é.fits",
        source_sha256="ab" * 32,
    )
    rng, path = np.random.default_rng(3), out / "tiles" / NIGHT / f"{KEYS[0].name}.zarr"
    for _ in range(2):  # the second replaces the first
        difference = rng.normal(0, 7.5, info.shape).astype(np.float32)
        mask = rng.integers(0, 4, info.shape).astype(np.uint16)
        planes = {"difference": difference, "mask": mask}
        write_exposure(path, info, planes, TileSettings(tile=112, chunk=28), "ab" * 32)
        store = TileStore.open(path)
        assert (store.info, store.digest) == (info, "ab" * 32)
        np.testing.assert_array_equal(store.read_all("difference"), difference)
        for y0 in range(0, 500, 112):
            for x0 in range(0, 610, 112):
                y1, x1 = min(y0 + 131, 500), min(x0 + 131, 610)
                np.testing.assert_array_equal(store.read("mask", y0, x0, y1, x1), mask[y0:y1, x0:x1])
    shard = path / "difference/c/0/0"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    write_file(shard, bytes(content), out / "staging")
    with pytest.raises(BadInput, match="do not match their checksum"):
        TileStore.open(path).read_all("difference")
    remove(path)
    with pytest.raises(BadInput, match="metadata cannot be read"):
        TileStore.open(path)


def test_ledger(out):
    ledger = Ledger(out)
    assert (list(ledger.records()), ledger.nights(), ledger.count()) == ([], [], 0)
    assert ledger.get(KEYS[0]) is None
    for key in KEYS:
        ledger.put(record(key))
    ledger.put(record(KEYS[1], detections=5))
    assert [one.key for one in Ledger(out).records(NIGHT)] == KEYS
    assert Ledger(out).get(KEYS[1]).detections == 5
    assert (ledger.nights(), ledger.count()) == ([NIGHT], len(KEYS))
    assert [one.key for one in ledger.from_source(record(KEYS[0]).source_uri)] == KEYS
    assert ledger.from_source("another") == []
    briefs = list(ledger.briefs(NIGHT))
    assert [(one.visit, one.detector, one.detections) for one in briefs] == [
        (one.visit, one.detector, one.detections) for one in ledger.records()
    ]
    assert list(ledger.troubled(NIGHT)) == [one for one in briefs if one.reason]
    ledger.remove(KEYS[1])
    ledger.remove(KEYS[1])
    assert [one.key for one in ledger.records()] == [KEYS[0], *KEYS[2:]]
    ledger.put(record(KEYS[1]))
    memo = SourceMemo(uri="s3://b/x y.fits", sha256="ab" * 32, key=KEYS[0], size=3, mtime_ns=4)
    assert ledger.remembered(memo.uri) is None
    ledger.remember(memo)
    assert ledger.remembered(memo.uri) == memo
    assert ledger.night(NIGHT) is None


def test_quarantine(out):
    quarantine = Quarantine(out)
    quarantine.put(BadInput("broken", "x", "is broken.", "mend it."), "s3://b/ü ö?.fits#1", KEYS[0])
    assert [one.code for one in Quarantine(out).list()] == ["broken"]
    assert quarantine.path("s3://b/ü ö?.fits#1").exists()
    assert quarantine.clear("s3://b/ü ö?.fits#1") == 1
    assert quarantine.list() == []


def test_lease(out):
    assert holder_of(out) is None
    with lease(out) as me:
        assert holder_of(out) == me
        with pytest.raises(Misconfigured) as caught, lease(out):
            pass
        assert caught.value.code == "locked"
        assert f"process {me.pid} on {me.host}, since {me.since}" in str(caught.value)
        assert holder_of(out) == me
    assert holder_of(out) is None
    with pytest.raises(ZeroDivisionError), lease(out):
        _ = 1 / 0
    assert holder_of(out) is None

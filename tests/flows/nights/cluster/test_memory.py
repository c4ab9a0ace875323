import gzip
import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import dask
import numpy as np
import pytest
import torch
from astropy.io import fits
from distributed import Client, KilledWorker, LocalCluster
from prometheus_client import CollectorRegistry

from flows.inputs.described import SourceSize, size_of
from flows.inputs.source import Source
from flows.nights import exposure_run, packet_run
from flows.nights.cluster import memory
from flows.nights.cluster.cluster import _explained
from flows.nights.cluster.local import GPU_HOST, WORKERS
from flows.nights.cluster.memory import (
    BASE,
    host_memory,
    more_memory,
    projected_bytes,
    projected_patch_bytes,
    require_fit,
    require_fit_here,
    require_patch_fit,
    tell_gpu_memory,
)
from flows.pipeline.lineage import verdict_digest
from flows.runtime.metrics import GPU, WorkerMemory, families
from schemas import pixels
from schemas import stage as stages
from schemas.cluster_settings import ClusterSettings, SlurmSettings
from schemas.errors import BadInput, Misconfigured
from schemas.settings import DetectSettings, FindSourcesSettings, InjectSettings, Settings, TileSettings
from stages import PIPELINE

KINDS = {
    "local": "give workers more memory (execution.worker_memory_gib)",
    "slurm": "give workers more memory (cluster.slurm.memory_gib)",
    "address": "start the workers of tcp://there:8786 with more memory, and name it in execution.worker_memory_gib",
}

QUADRANT = (3080, 3072)


def test_a_quadrant_and_a_rubin_detector_fit_the_default_worker():
    worker = Settings().execution.worker_memory_gib * 2**30
    for shape, siblings in ((QUADRANT, 4), ((4072, 4000), 0)):
        assert max(projected_bytes(shape, siblings, Settings()).values()) < worker


def test_grows_with_what_a_task_holds():
    base = projected_bytes(QUADRANT, 0, Settings())
    larger = projected_bytes(QUADRANT, 0, Settings(tiles=TileSettings(tile=2016)))
    batch = projected_bytes(QUADRANT, 0, Settings(detect=DetectSettings(batch=8192)))
    siblings = projected_bytes(QUADRANT, 2, Settings())
    assert larger["detect"] > base["detect"]
    assert batch["detect"] > base["detect"]
    assert siblings["ingest"] > base["ingest"]
    assert batch["inject"] > base["inject"]
    assert base.keys() - projected_bytes(QUADRANT, 0, Settings(inject=InjectSettings(share=0))).keys() == {"inject"}
    assert base["negate"] == base["inject"]
    assert projected_bytes((10, 10), 0, Settings())["detect"] >= BASE


@pytest.mark.parametrize(("kind", "remedy"), KINDS.items())
def test_more_memory_is_given_where_it_is_set_and_lifts_the_quarantine(kind, remedy):
    address = {"address": "tcp://there:8786"} if kind == "address" else {}
    settings = Settings(cluster=ClusterSettings(kind=kind, **address))
    assert more_memory(settings) == remedy
    name = re.search(r"[a-z_.]+_gib", remedy)[0]
    *sections, field = name.split(".")
    more = {field: 64.0}
    for section in reversed(sections):
        more = {section: more}
    raised = Settings.model_validate({**settings.model_dump(), **_merged(settings.model_dump(), more)})
    verdicts = {verdict_digest("made", one, "killed_workers") for one in (settings, raised)}
    assert len(verdicts) == 2
    tasks = (
        _explained(SimpleNamespace(name="patch 3"), KilledWorker("t", None, 3), settings),
        exposure_run._deadly(SimpleNamespace(source=Source("a.fits")), 8, settings),
        packet_run._deadly("a.avro", settings),
    )
    assert all(remedy in str(error) for error in tasks)


def _merged(given, more):
    return {name: _merged(given[name], value) if isinstance(value, dict) else value for name, value in more.items()} | {
        name: value for name, value in given.items() if name not in more
    }


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        (Settings(detect=DetectSettings(batch=65536)), r"or a smaller tiles.tile \(1008\) or detect.batch \(65536\)\."),
        (Settings(), r"set execution.worker_memory_gib to 0\.\d with fewer workers"),
        (
            Settings(cluster=ClusterSettings(kind="address", address="tcp://there:8786")),
            r"^tcp://there:8786: .*start the workers of tcp://there:8786 with a memory limit of 0\.\d GiB or more,",
        ),
        (
            Settings(cluster=ClusterSettings(kind="slurm", slurm=SlurmSettings(cores=4))),
            r"^cluster.slurm.memory_gib: .*set cluster.slurm.memory_gib to 4 times 0\.\d or more,",
        ),
    ],
)
def test_refuses_to_start_with_both_figures_and_the_remedy(write_ztf, settings, remedy):
    source = Source(write_ztf())
    with pytest.raises(Misconfigured, match=remedy) as caught:
        require_fit([source], settings, int(0.5 * 2**30))
    assert "a worker has 0.50 GiB" in str(caught.value)
    assert "200 x 220 px takes up to" in str(caught.value)
    require_fit([source], settings, 8 * 2**30)


def test_one_that_is_too_large_among_others_stops_no_run(write_ztf, monkeypatch):
    sizes = {"large": SourceSize((30_000, 300_000), 0), "small": SourceSize((200, 220), 0)}
    monkeypatch.setattr(memory, "size_of", lambda source: sizes[source.uri])
    large, small = Source("large"), Source("small")
    for sources in ([small], [large, small], [small, large], [large] * 40 + [small] * 3):
        require_fit(sources, Settings(), 2 * GIB)
    for sources in ([large], [large] * 40):
        with pytest.raises(Misconfigured, match="30000 x 300000 px takes up to"):
            require_fit(sources, Settings(), 2 * GIB)


def test_a_worker_reads_nothing_that_would_not_fit_it(write_ztf):
    source = Source(write_ztf())
    require_fit_here(source, Settings())  # in no worker
    needed = max(projected_bytes((200, 220), 0, Settings()).values())
    given = {"processes": False, "n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    for limit, enough in ((needed, True), (needed - 1, False)):
        # as our workers do, this one goes on however much memory its process holds, here with all tests before
        with dask.config.set(WORKERS), Client(**given, memory_limit=limit, set_as_default=False) as client:
            future = client.submit(require_fit_here, source, Settings())
            if enough:
                future.result()
                continue
            with pytest.raises(BadInput, match="a worker has") as caught:
                future.result()
            assert (caught.value.code, caught.value.where) == ("memory", source.uri)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_worker_counts_what_a_task_may_have_as_the_start_of_a_run_does(write_ztf, monkeypatch, threads):
    """Not what its other threads need, nor the libraries of a GPU, for which local workers have some more."""
    source, needed = Source(write_ztf()), max(projected_bytes((200, 220), 0, Settings()).values())
    for name, device, more in (("local", "cuda", GPU_HOST), ("local", "cpu", 0), ("address", "cuda", 0)):
        kind = {"kind": name} | ({"address": "tcp://there:8786"} if name == "address" else {})
        settings = Settings(cluster=ClusterSettings(**kind), detect=DetectSettings(device=device))
        for enough in (0, 1):
            limit = SimpleNamespace(memory_limit=threads * needed + more + enough - 1)
            worker = SimpleNamespace(memory_manager=limit, state=SimpleNamespace(nthreads=threads))
            monkeypatch.setattr(memory, "get_worker", lambda worker=worker: worker)
            with nullcontext() if enough else pytest.raises(BadInput, match="a worker has"):
                require_fit_here(source, settings)
            assert memory._memory_here() == limit.memory_limit // threads


def with_table(path, rows):
    """Append a table of ``rows`` x 1 kB of zeros to a file."""
    table = fits.BinTableHDU.from_columns([fits.Column("zeros", "1000B", array=np.zeros((rows, 1000), np.uint8))])
    with fits.open(path, mode="append") as file:
        file.append(table)
    return path


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("sibling", [False, True])
def test_what_a_file_holds_beside_its_image_counts(write_ztf, sibling, zipped):
    """A table of 120 MB beside an image of a few pixels, gzipped or not."""
    rows = 120_000
    path = write_ztf(compressed=False) if not sibling else write_ztf(np.zeros((200, 220)), product="sciimg")
    with_table(path, rows)
    if zipped:
        packed = Path(path + ".gz")
        packed.write_bytes(gzip.compress(Path(path).read_bytes(), 1))
        path = str(packed)
    source = Source(write_ztf(), (("science", path),)) if sibling else Source(path)
    shape, held = size_of(source)
    assert shape == (200, 220)
    assert held >= rows * 1000
    needed = projected_bytes(shape, len(source.siblings), Settings(), held)["ingest"]
    assert needed >= BASE + rows * 1000
    require_fit([source], Settings(), needed)
    with pytest.raises(Misconfigured, match="ingest of an image of 200 x 220 px takes up to"):
        require_fit([source], Settings(), needed - 1)


def test_files_of_the_usual_sizes_change_no_projection(write_ztf):
    noise = np.random.default_rng(3).normal(0, 7, (400, 410)).astype(np.float32)
    difference = write_ztf(noise)
    source = Source(difference, (("science", write_ztf(noise + 300, compressed=False, product="sciimg")),))
    shape, held = size_of(source)
    plain, read = (projected_bytes(shape, 1, Settings(), one)["ingest"] for one in (0, held))
    assert plain == read


def test_leaves_a_bad_file_to_the_quarantine(tmp_path):
    (tmp_path / "bad.fits").write_text("x")
    require_fit([Source(str(tmp_path / "bad.fits"))], Settings(), 1)


def test_a_patch_grows_with_its_sources_and_the_image():
    few = projected_patch_bytes(QUADRANT, 1000)
    assert few >= BASE
    assert projected_patch_bytes(QUADRANT, 2_000_000) - few > 2**30
    assert projected_patch_bytes((6000, 6000), 1000) > few
    assert projected_patch_bytes(QUADRANT, Settings().patches.sources) < 1.5 * 2**30


def test_knows_the_memory_of_this_machine():
    assert 2**28 < host_memory() < 2**45


GIB = 2**30


def samples(workers):
    return {
        (sample.name.removeprefix("nightstride_"), sample.labels.get("worker")): sample.value
        for family in families(workers)
        for sample in family.samples
    }


def worker(name, memory, limit=2 * GIB, **metrics):
    return {"name": name, "memory_limit": limit, "metrics": {"memory": memory, **metrics}}


def test_each_worker_has_its_memory_and_limit_and_gpu_memory_only_where_there_is_any():
    found = samples({"tcp://a": worker(0, 5, limit=0), "tcp://b": worker("gpu", 7, **{GPU: 3})})
    assert found == {
        ("workers", None): 2, ("worker_memory_bytes", "0"): 5, ("worker_memory_bytes", "gpu"): 7,
        ("worker_memory_limit_bytes", "gpu"): 2 * GIB, ("worker_gpu_memory_bytes", "gpu"): 3,
    }  # fmt: skip
    without = [family.name for family in families({"tcp://a": worker(0, 5)})]
    assert "nightstride_worker_gpu_memory_bytes" not in without


def test_a_worker_tells_of_its_gpu_if_it_has_one(monkeypatch):
    plain = SimpleNamespace(metrics={})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tell_gpu_memory(plain)
    assert plain.metrics == {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 5 * GIB)
    tell_gpu_memory(plain)
    assert plain.metrics[GPU](plain) == 5 * GIB


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_is_asked_and_one_that_is_gone_gives_nothing():
    registry = CollectorRegistry()
    with LocalCluster(n_workers=2, processes=False, dashboard_address=None, memory_limit=GIB) as cluster:
        client = Client(cluster.scheduler_address, set_as_default=False)
        registry.register(WorkerMemory(client))
        found = {sample.name: sample.value for family in registry.collect() for sample in family.samples}
        assert found["nightstride_workers"] == 2
        assert found["nightstride_worker_memory_bytes"] > 0
        assert found["nightstride_worker_memory_limit_bytes"] == GIB
        client.close()
    assert list(registry.collect()) == []


def test_a_task_that_takes_all_the_memory_there_is_fits_and_one_byte_more_does_not(write_ztf):
    source = Source(write_ztf())
    needed = max(projected_bytes((200, 220), 0, Settings()).values())
    require_fit([source], Settings(), needed)
    with pytest.raises(Misconfigured):
        require_fit([source], Settings(), needed - 1)


def test_a_patch_that_takes_all_the_memory_there_is_fits_and_one_byte_more_does_not(monkeypatch):
    needed = projected_patch_bytes((30, 50), 1_000_000)
    monkeypatch.setattr(memory, "host_memory", lambda: needed)
    require_patch_fit("5-1", (30, 50), 1_000_000)
    monkeypatch.setattr(memory, "host_memory", lambda: needed - 1)
    with pytest.raises(
        BadInput, match=r"patch 5-1: 1,000,000 sources take up to 2\.\d\d GiB, there are 2\.\d\d"
    ) as told:
        require_patch_fit("5-1", (30, 50), 1_000_000)
    assert f"give workers {needed / 2**30 + 0.05:.1f} GiB" in str(told.value)


def test_the_planes_of_an_image_that_is_read_add_up():
    none, one, three = (projected_bytes((200, 300), siblings, Settings())["ingest"] for siblings in (0, 1, 3))
    assert three - none == 3 * (one - none) > 0
    assert (one - none) % 60_000 == 0
    held = none - projected_bytes((0, 0), 0, Settings())["ingest"]
    assert held > one - none
    assert held % 60_000 == 0


def test_a_large_image_takes_what_its_width_asks_for():
    sides = [(2**exponent * 10_000, 30_000) for exponent in range(4)]
    low, *higher = (projected_bytes(shape, 2, Settings()) for shape in sides)
    assert all(one == pytest.approx(low, rel=0.02) for one in higher)  # tiles are not of one size to the pixel
    assert max(low.values()) < 2 * GIB < max(projected_bytes((30_000, 120_000), 2, Settings()).values())
    whole, large = ((6144, 6144 + extra) for extra in (0, 1))
    for task in ("ingest", "merge", "measure", "inject", "find_sources"):
        assert projected_bytes(large, 0, Settings())[task] < projected_bytes(whole, 0, Settings())[task]
    assert projected_patch_bytes((30_000, 30_000), 1000) < 1.5 * GIB < projected_patch_bytes(whole, 1000)


def test_the_sky_of_a_large_image_takes_what_its_squares_ask_for():
    wide, fine = (Settings(find_sources=FindSourcesSettings(mesh=mesh)) for mesh in (4096, 64))
    large = (30_000, 30_000)
    assert projected_bytes(large, 1, wide)["find_sources"] > 3 * projected_bytes(large, 1, fine)["find_sources"]


def test_a_large_file_is_not_in_memory(write_ztf, monkeypatch):
    monkeypatch.setattr(pixels, "WHOLE_PIXELS", 200 * 220 - 1)
    monkeypatch.setattr(stages, "EXPOSURE_PIXEL", 2**20)  # what takes the whole image takes 43 GiB
    path = write_ztf()
    for plane in ("science", "mask"):
        require_fit([Source(path, ((plane, path),))], Settings(), 8 * GIB)
    assert size_of(Source(path)).held == 0


MIB = 2**20


def test_figures_of_memory_are_those_that_were_measured():
    """672 MiB of libraries and 32 MiB to spare; then bytes for each pixel, plane and row."""
    ingest = {planes: projected_bytes((200, 300), planes, Settings())["ingest"] for planes in (0, 1, 3)}
    assert ingest == {planes: 704 * MIB + 60_000 * (24 + 12 * planes) for planes in (0, 1, 3)}
    assert projected_patch_bytes((30, 50), 7) == 704 * MIB + 1500 * 36 + 7 * 2100


def test_a_search_of_copies_takes_the_memory_of_a_search_too():
    found = projected_bytes((1200, 1100), 0, Settings(inject=InjectSettings(share=0.5)))
    injecting = next(stage for stage in PIPELINE if stage.name == "inject")
    own = injecting.memory((1200, 1100), injecting.section(Settings(inject=InjectSettings(share=0.5))))
    assert found["inject"] == own + found["detect"]
    assert found["detect"] > 704 * MIB


@pytest.mark.parametrize("kind", ["local", "slurm"])
def test_a_worker_is_told_how_much_would_be_enough(write_ztf, kind):
    settings = Settings(cluster=ClusterSettings(kind=kind), detect=DetectSettings(batch=1))
    projected = projected_bytes((200, 220), 0, settings)
    task = max(projected, key=projected.get)
    with pytest.raises(Misconfigured) as told:
        require_fit([Source(write_ztf())], settings, 512 * MIB)
    assert f"{task} of an image of 200 x 220 px takes up to {projected[task] / GIB:.2f} GiB" in str(told.value)
    assert "a worker has 0.50 GiB" in str(told.value)
    assert f"{projected[task] / GIB + 0.05:.1f}" in told.value.remedy

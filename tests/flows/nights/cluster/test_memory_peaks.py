"""Peaks of memory, measured in processes of their own, beside what is projected."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.nights.cluster.memory import (
    HISTORY_ROW,
    projected_bytes,
    projected_patch_bytes,
)
from schemas.settings import NegateSettings, Settings

QUADRANT, SMALL = (3080, 3072), (320, 330)

MEASURE = """
import json, sys
from pathlib import Path
from flows.inputs.probe import probe
from flows.inputs.sources import list_sources
from flows.nights.exposure_work import finish_exposure as finish, search_tiles as search, store_exposure as store
from flows.storage.layout import tile_path
from flows.pipeline.models import models_of
from schemas.settings import InjectSettings, NegateSettings, Settings
from schemas.pixels import Tiling
from stages import PIPELINE

def peak(task, *arguments):
    Path("/proc/self/clear_refs").write_text("5")
    result = task(*arguments)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return result, int(status["VmHWM"].split()[0]) * 1024

none = NegateSettings(share=0)
settings = Settings(inject=InjectSettings(share=0), negate=none)
some_tiles = Settings(inject=InjectSettings(share=0.25), negate=none)  # of the large one
for stage in PIPELINE:
    models_of(stage, settings)
for folder in map(Path, sys.argv[1:]):  # the first, small one loads and compiles; a worker's later tasks find all that
    out = folder / "out"
    source = list_sources([str(folder)], settings)[0]
    key = probe(source, settings)
    stored, ingest = peak(store, source, key, None, out, settings)
    path, tile = tile_path(out, key), Tiling(stored.info.shape).tiles()[0]
    searched, search_peak = peak(search, path, [tile], settings)
    finished, finish_peak = peak(finish, path, [searched], stored.lineage, out, settings)
    kept = {"dia_source": finished.datasets["dia_source"]}
    injected, inject_peak = peak(finish, path, [], stored.lineage, out, some_tiles, kept)
assert injected.datasets["injection"].rows
finishing = dict.fromkeys(("merge", "measure", "find_sources"), finish_peak)  # one task runs them all
peaks = {"ingest": ingest, "detect": search_peak, **finishing, "inject": inject_peak}
print(json.dumps(peaks))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are measured through Linux's /proc")
@pytest.mark.parametrize("siblings", [0, 1])
def test_projects_no_less_than_is_measured_and_not_twice_as_much(write_ztf, tmp_path, siblings):
    folders = tmp_path / "small", tmp_path / "large"
    for folder, shape in zip(folders, (SMALL, QUADRANT), strict=True):
        folder.mkdir()
        noise = np.random.default_rng(3).normal(0, 7, shape).astype(np.float32)
        write_ztf(noise, folder)
        if siblings:
            write_ztf(noise + 300, folder, compressed=False, product="sciimg")
    run = subprocess.run([sys.executable, "-c", MEASURE, *map(str, folders)], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    measured = json.loads(run.stdout)
    projected = projected_bytes(QUADRANT, siblings, Settings(negate=NegateSettings(share=0)))
    assert projected.keys() == measured.keys()
    for task, size in measured.items():
        assert size <= projected[task] <= 2 * size, f"{task}: {size / 2**20:.0f} of {projected[task] / 2**20:.0f} MiB"


NIGHT = """
import ctypes, json, sys, threading
from dataclasses import replace
from pathlib import Path
import numpy as np
import pyarrow as pa
from flows.storage.array_store import ArrayStore
from flows.pipeline.models import models_of
from kernels.objects.class_model import ClassModel
from schemas.dia_object import ASSOCIATION
from schemas.dia_source import DIA_SOURCE
from schemas.known_object import SS_SOURCE
from schemas.settings import Settings
from schemas.objects import SOURCE
from schemas.stage import Context
from schemas.static_object import STATIC_ASSOCIATION
from schemas.tracklets import NIGHT_WINDOW
from stages import PIPELINE
from tests.support.science_night import FakeNight

def anonymous():  # what is mapped from a file does not count: the system takes it back when it needs to
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

def sources(count, visits):
    sky = np.random.default_rng(1)
    ra, dec = np.tile(sky.uniform(0, 40, count), visits), np.tile(sky.uniform(-20, 20, count), visits)
    columns = {"ra": ra, "dec": dec, "visit": np.repeat(np.arange(visits), count)}
    made = []
    for field in SOURCE.schema:
        text = pa.types.is_string(field.type)
        values = columns.get(field.name, np.full(count * visits, "r" if text else 1))
        made.append(pa.array(values).cast(field.type))
    return pa.Table.from_arrays(made, schema=SOURCE.schema)

def quick(model):  # memory does not depend on how many trees there are, nor on how many training rows are compared
    if not isinstance(model, ClassModel):
        return model
    return replace(model, trees=model.trees._replace(root=model.trees.root[:2]), reference=model.reference[:50])

def night(count, visits):
    settings, night, store = Settings(), FakeNight({}, []), ArrayStore(Path(sys.argv[1]))
    empty = {one.name: one.empty() for one in (DIA_SOURCE, SS_SOURCE, ASSOCIATION, NIGHT_WINDOW)}
    inputs = {"source": sources(count, visits), **empty}
    for stage in PIPELINE:
        if stage.per in ("patch", "night") and stage.name != "gather_static_objects":
            section = getattr(settings, stage.name, None)
            models = {name: quick(model) for name, model in models_of(stage, settings).items()}
            context = Context(settings=section, models=models, pixels=night, allocate=store.allocate)
            read = {one.name: inputs[one.name] for one in (*stage.needs, *stage.optional)}
            inputs[stage.gives.name] = stage(read, context).rows
    assert len(inputs["object"]) == len(inputs["spectral_class"]) == count

def history(objects, each):  # of these detections, in parts as they are read of the store
    rng, parts = np.random.default_rng(2), [ASSOCIATION.empty()]
    for start in range(0, objects, 50):
        ids, count = np.arange(start, start + 50), 50 * each
        columns = {"diaSourceId": start * each + np.arange(count), "diaObjectId": np.repeat(ids, each)}
        columns |= {"night": np.tile([f"2026{1 + n % 12:02}{1 + n % 28:02}" for n in range(each)], 50)}
        columns |= {"x": np.cos(columns["diaObjectId"] / 1e6), "y": np.sin(columns["diaObjectId"] / 1e6)}
        columns |= {"band": np.full(count, "r"), "midpointMjdTai": rng.uniform(61000, 62000, count)}
        made = [pa.array(columns.get(one.name, np.ones(count))).cast(one.type) for one in ASSOCIATION.schema]
        parts.append(pa.Table.from_arrays(made, schema=ASSOCIATION.schema))
    inputs = {"association": pa.concat_tables(parts)}
    for stage in PIPELINE:
        if stage.name in ("gather_dia_objects", "link_dia_objects"):
            inputs[stage.gives.name] = stage(inputs, Context()).rows
    assert len(inputs["dia_object"]) == objects
    tidy(inputs, parts)

def lasting(objects, each):  # of these nights
    parts = [STATIC_ASSOCIATION.empty()]
    for start in range(0, objects, 50):
        ids, count = np.repeat(np.arange(start, start + 50), each), 50 * each
        columns = {"staticObjectId": ids, "objectId": ids, "mjd": np.tile(60000.0 + np.arange(each), 50)}
        columns |= {"night": np.tile([str(20000101 + n) for n in range(each)], 50)}
        columns |= {"x": np.cos(ids / 1e6), "y": np.sin(ids / 1e6)}
        made = [pa.array(columns.get(one.name, np.ones(count))).cast(one.type) for one in STATIC_ASSOCIATION.schema]
        parts.append(pa.Table.from_arrays(made, schema=STATIC_ASSOCIATION.schema))
    inputs = {"static_association": pa.concat_tables(parts), "object": pa.table({"objectId": np.arange(objects)})}
    (stage,) = (one for one in PIPELINE if one.name == "gather_static_objects")
    inputs["made"] = stage.run(inputs, Context())
    assert len(inputs["made"]) == objects
    tidy(inputs, parts)

def tidy(*held):
    for one in held:
        one.clear()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)

def peak(night, *arguments):
    seen, done = [anonymous()], threading.Event()
    def watch():
        while not done.wait(0.002):
            seen.append(anonymous())
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        night(*arguments)
    finally:
        done.set()
    watcher.join()
    return max(seen)

night(100, 2)  # loads and compiles
nights = [peak(night, 1000, 4), peak(night, 100_000, 1)]
history(50, 1000)
histories = [peak(history, 200, 1000), peak(history, 1000, 1000)]
lasting(50, 1000)
print(json.dumps([*nights, *histories, peak(lasting, 200, 1000), peak(lasting, 1000, 1000)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are measured through Linux's /proc")
def test_a_night_and_a_history_grow_no_more_than_is_projected(tmp_path):
    run = subprocess.run([sys.executable, "-c", NIGHT, str(tmp_path)], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    little, much, short, long, few, many = json.loads(run.stdout)
    assert many - few <= HISTORY_ROW * 800_000 <= 3 * (many - few)
    assert long - short <= HISTORY_ROW * 800_000 <= 3 * (long - short)
    small, large = projected_patch_bytes((0, 0), 4000), projected_patch_bytes((0, 0), 100_000)
    assert little <= small
    assert much <= large
    assert much - little <= large - small <= 3 * (much - little)

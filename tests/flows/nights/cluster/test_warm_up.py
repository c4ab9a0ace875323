import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from flows.nights.cluster import warm_up
from flows.nights.cluster.warm_up import SIDE, TRAILS, _exposure, _trail, warm_up_worker
from kernels.image.order_statistic import median
from schemas.pixels import MaskPlane
from schemas.settings import DetectSettings, MeasureSettings, Settings
from stages import PIPELINE, REGISTRY

LOADED = """
import json, sys
from pathlib import Path
from flows.inputs.probe import probe
from flows.inputs.sources import list_sources
from flows.nights.cluster.warm_up import warm_up_worker
from flows.nights.exposure_work import finish_exposure as finish, search_tiles as search, store_exposure as store
from flows.storage.layout import tile_path
from kernels.compiled import KERNELS
from flows.simulation.night import SimulatedNight as Night, simulate_night
from flows.simulation.presets import find_preset
from schemas.settings import Settings
from schemas.pixels import Tiling

def loaded():  # a function that was not called yet has nothing compiled
    counts = [(one.py_func, len(one.overloads) if "dispatcher" in vars(one) else 0) for one in KERNELS]
    return {f"{function.__module__}.{function.__name__}": count for function, count in counts}

settings, folder = Settings(), Path(sys.argv[1])
warm_up_worker(settings)
before = loaded()
simulate_night(Night(find_preset("ztf", 20, (700, 800)), 5, 1, 1, folder / "raw"))
source = list_sources([str(folder / "raw")], settings)[0]
key = probe(source, settings)
stored = store(source, key, None, folder / "out", settings)
path = tile_path(folder / "out", key)
finish(path, [search(path, Tiling(stored.info.shape).tiles(), settings)], stored.lineage, folder / "out", settings)
after = loaded()
print(json.dumps([sum(before.values()), {name: n for name, n in after.items() if n != before.get(name, 0)}]))
"""


@pytest.mark.parametrize("stride", [7, 9, 26])
def test_every_trail_is_measured(stride):
    chosen = Settings(measure=MeasureSettings(min_reliability=0), detect=DetectSettings(stride=stride))
    assert warm_up_worker(chosen)["dia_source"] == len(TRAILS)


@pytest.mark.slow
def test_a_real_exposure_finds_everything_compiled(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", LOADED, str(tmp_path)], capture_output=True, text=True, check=True, timeout=300
    )
    compiled, missing = json.loads(run.stdout.splitlines()[-1])
    assert compiled > 20
    assert missing == {}


def test_trails_are_ridges_of_a_pixel_as_bright_as_twenty_sigma():
    """Along half of its length on either side a trail is as bright as its middle, and beyond it falls as across."""
    for (x0, y0), length, angle in (((60.0, 80.0), 0.0, 0.0), ((150.0, 140.0), 30.0, 0.5), ((200.0, 120.0), 8.0, 2.5)):
        drawn = _trail((x0, y0), length, angle)
        y, x = np.mgrid[:SIDE, :SIDE]
        place = ((x - x0) + 1j * (y - y0)) * np.exp(-1j * angle)
        beyond = np.maximum(np.abs(place.real) - length / 2, 0)
        np.testing.assert_allclose(drawn, 20 * np.exp(-(beyond**2 + place.imag**2) / 2), atol=1e-9)


def test_the_image_is_the_same_each_time_and_one_pixel_in_a_hundred_is_bad():
    raw = _exposure()
    mask, image = raw.planes["mask"], raw.planes["difference"]
    assert image.shape == mask.shape == (SIDE, SIDE)
    assert set(np.unique(mask)) == {0, MaskPlane.BAD}
    assert 0.008 < (mask > 0).mean() < 0.012
    np.testing.assert_array_equal(image, _exposure().planes["difference"])
    noise = image - sum(_trail(*trail) for trail in TRAILS)
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(
        [image.sum(dtype=float), np.abs(noise).sum(), mask.sum()], [3463.878540, 39782.144007, 525], rtol=1e-6
    )
    assert (raw.key.name, raw.key.night, raw.band, raw.flags, raw.wcs_header) == (
        "1-0",
        "20260101",
        "r",
        ("no_wcs",),
        None,
    )
    assert (raw.midpoint_mjd_tai, raw.exposure_time_s) == (61000.0, 30.0)
    assert (raw.zero_point, raw.zero_point_err, raw.gain) == (26.0, 0.02, 6.0)
    assert raw.source_sha256 == "0" * 64


def test_trails_are_a_point_a_short_one_and_one_longer_than_a_window():
    assert TRAILS == (((60, 60), 0, 0), ((60, 200), 12, 0.5), ((200, 120), 60, 2.5))


def test_every_stage_of_an_exposure_has_its_rows():
    made = warm_up_worker(Settings())
    assert {stage.gives.name for stage in PIPELINE if stage.warm_up is not None} == set(made)
    assert made["streak"] == len(TRAILS)


def test_what_was_warmed_up_ahead_is_not_done_again(monkeypatch):
    done = []
    monkeypatch.setattr(warm_up, "warm_up_worker", lambda settings, stages=PIPELINE: done.append((settings, stages)))
    monkeypatch.setattr(warm_up, "_AHEAD", [])
    monkeypatch.setattr(warm_up, "uses_gpu", lambda settings: settings.detect.device == "cuda")
    warm_up.warm(Settings())
    warm_up.warm_up_ahead()
    assert [(settings.detect.device, len(stages)) for settings, stages in done] == [
        ("auto", len(PIPELINE)),
        ("cpu", len(REGISTRY)),
    ]
    warm_up.warm(Settings(measure=MeasureSettings(min_reliability=0)))
    assert len(done) == 2
    for other in (DetectSettings(device="cuda"), DetectSettings(stride=9)):
        warm_up.warm(Settings(detect=other))
    assert len(done) == 4


@pytest.mark.parametrize("misses", [0, 2])
def test_what_is_not_compiled_yet_is_compiled_in_a_process_of_its_own(monkeypatch, tmp_path, misses):
    told = tmp_path / "pid"
    stats = SimpleNamespace(cache_misses={(): misses})

    class Small:
        dispatcher = SimpleNamespace(stats=stats)

        def __call__(self, values):
            return 0.0

    monkeypatch.setattr(warm_up, "median", Small())
    monkeypatch.setattr(warm_up, "warm_up_ahead", lambda: told.write_text(str(os.getpid())))
    warm_up.compile_apart()
    assert told.exists() == bool(misses)
    assert not misses or int(told.read_text()) != os.getpid()


def test_a_function_that_numba_has_stored_is_no_miss():
    median(np.zeros(1))
    code = "import numpy as np; from kernels.image.order_statistic import median; median(np.zeros(1)); "
    code += "print(sum(median.dispatcher.stats.cache_misses.values()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "0"


def test_an_installation_compiles_for_the_detectors_that_are_named(monkeypatch):
    done = []
    monkeypatch.setattr(warm_up, "warm_up_worker", lambda settings: done.append(settings.detect.model))
    warm_up.main([])
    warm_up.main(["basic_cnn", "matched_filter"])
    assert done == [DetectSettings().model, "basic_cnn", "matched_filter"]

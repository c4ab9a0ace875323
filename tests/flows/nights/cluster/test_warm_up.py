import json
import subprocess
import sys

import pytest

from flows.nights.cluster.warm_up import TRAILS, warm_up_worker
from schemas.settings import DetectSettings, MeasureSettings, Settings

LOADED = """
import json, sys
from pathlib import Path
from flows.inputs.probe import probe
from flows.inputs.sources import list_sources
from flows.nights.cluster.warm_up import warm_up_worker
from flows.nights.exposure_work import finish_exposure as finish, search_tiles as search, store_exposure as store
from flows.storage.layout import tile_path
from flows.simulation.night import SimulatedNight as Night, simulate_night
from flows.simulation.presets import find_preset
from schemas.settings import Settings
from schemas.pixels import Tiling

def loaded():
    kernels = [module for name, module in sys.modules.items() if name.startswith("kernels.")]
    found = {id(one): one for module in kernels for one in vars(module).values() if hasattr(one, "overloads")}
    return {f"{one.py_func.__module__}.{one.py_func.__name__}": len(one.overloads) for one in found.values()}

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

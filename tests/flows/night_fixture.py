"""A small simulated night, models without training, and ways to run ``nightstride`` on them."""

import numpy as np
import pytest
import torch
from scipy.special import expit

from flows.adapters.sources import list_sources
from flows.adapters.weights import load_model, write_model
from flows.ingest import prepare
from flows.prefect_server import PrefectServer
from flows.simulation.night import Night, simulate_night
from flows.simulation.presets import find_preset
from kernels.nets.basic_cnn import BasicCnn
from schemas.reliability import FEATURES
from schemas.settings import Settings
from tests.flows.night_support import DETECTORS, VISITS, Command

CARD = {
    "version": "test", "classes": ("other", "asteroid"), "training": {}, "metrics": {}, "false_alarm_rate": "not set",
}  # fmt: skip


@pytest.fixture(scope="session")
def raw_night(tmp_path_factory):
    """Folder with a night of 2 visits x 2 detectors, 200 x 210 px each, in the archive's format."""
    folder = tmp_path_factory.mktemp("raw")
    night = Night(find_preset("ztf", 3, (200, 210)), 11, VISITS, DETECTORS, folder)
    simulate_night(night, 1, lambda done: None)
    (folder / "truth.parquet").rename(folder.parent / "truth.parquet")
    return folder


@pytest.fixture(scope="session")
def night_models(tmp_path_factory, raw_night):
    """Folder with an untrained network that takes a few windows in a hundred for asteroids, and a verdict of 1/2."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(4)
    arrays = {name: value.numpy() for name, value in BasicCnn(bands=1).state_dict().items()}
    card = CARD | {"stage": "detect", "name": "detect", "input": {"bands": 1}, "threshold": 0.5}
    write_model(folder, arrays, card)
    _, planes = prepare(list_sources([str(raw_night)], Settings())[0], Settings())
    windows = np.lib.stride_tricks.sliding_window_view(planes["difference"], (26, 26))[::7, ::7].reshape(-1, 1, 26, 26)
    scaled = (windows - windows.mean((2, 3), keepdims=True)) / windows.std((2, 3), keepdims=True)
    logits = load_model("detect", str(folder))(np.ascontiguousarray(scaled, np.float32))
    write_model(folder, arrays, card | {"threshold": float(expit(np.quantile(logits, 0.97)))})
    count = len(FEATURES)
    verdict = {"mean": np.zeros(count), "scale": np.ones(count), "weight0": np.zeros((count, 1)), "bias0": np.zeros(1)}
    write_model(
        folder,
        {name: value.astype(np.float32) for name, value in verdict.items()},
        CARD | {"stage": "reliability", "name": "reliability", "input": {"features": list(FEATURES)}, "threshold": 0.1},
    )
    return folder


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory):
    """Address of one Prefect server for all runs of the tests, which saves each of them seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        patch.delenv("PREFECT_API_URL", raising=False)
        server = PrefectServer()
        patch.delenv("PREFECT_API_URL", raising=False)
    server.wait()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def nightstride_run(night_models, prefect_api):
    """Run ``nightstride run ... --json`` with the models above, on the server above."""
    return Command(night_models, {"PREFECT_API_URL": prefect_api})


@pytest.fixture(scope="session")
def uninterrupted(nightstride_run, raw_night, tmp_path_factory):
    """Summary and output folder of a run of the night that nothing disturbed."""
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    return nightstride_run(raw_night, "--out", out), out

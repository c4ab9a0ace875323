from pathlib import Path

import galsim
import numpy as np
import pytest

from flows.simulation.exposure import simulate_exposure
from flows.simulation.llnl_files import write_llnl
from flows.simulation.presets import find_preset

pd = pytest.importorskip("pandas", reason="the tables of the format are pandas DataFrames")

LLNL = find_preset("llnl", shape=(200, 220))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory):
    exposures = [simulate_exposure(LLNL, 3, 0, detector) for detector in range(3)]
    folder = tmp_path_factory.mktemp("llnl")
    stream = ((exposure.difference, exposure.truth) for exposure in exposures)
    return exposures, list(write_llnl(stream, 3, folder)), folder


def test_stack_holds_the_images(written) -> None:
    exposures, results, folder = written
    with np.load(folder / "asteroid_difference_images_0.npz") as stored:
        stack = stored["data"]
    assert stack.shape == (3, 200, 220)
    for pixels, exposure in zip(stack, exposures, strict=True):
        assert np.array_equal(pixels, exposure.difference, equal_nan=True)
    assert [len(files) for files, _ in results] == [0, 0, 2]
    assert [set(truth["visit"].to_pylist()) for _, truth in results] == [{0}, {1}, {2}]


def test_odd_entries_tell_what_was_injected(written) -> None:
    exposures, _, folder = written
    with np.load(folder / "asteroid_injected_information_0.npz", allow_pickle=True) as stored:
        entries = stored["data"]
    assert len(entries) == 6
    for place, exposure in enumerate(exposures):
        table = entries[2 * place + 1]
        assert list(table.columns) == ["magnitude", "length", "angle", "box"]
        assert len(table) == 20
        assert table["magnitude"].between(15, 18.8).all()
        assert set(table["length"]) <= {1, 2, 3}
        streaks = [row for row in exposure.truth.to_pylist() if row["kind"] == "streak"]
        for (_, injected), row in zip(table.iterrows(), streaks, strict=True):
            box = injected["box"]
            assert isinstance(box, galsim.BoundsI)
            assert box.xmax - box.xmin == box.ymax - box.ymin == injected["length"] + 100
            # GalSim counts pixels from 1.
            assert (box.true_center.x - 1, box.true_center.y - 1) == pytest.approx((row["x"], row["y"]), abs=1.01)
            assert injected["angle"] % 180 == pytest.approx(row["angle_deg"])
            assert 0 <= injected["angle"] < 360


def test_a_hundred_images_to_a_file(tmp_path: Path) -> None:
    truth = simulate_exposure(LLNL, 3, 0, 0).truth
    tiny = ((np.full((4, 5), index, np.float32), truth) for index in range(101))
    results = list(write_llnl(tiny, 101, tmp_path))
    assert [index for index, (files, _) in enumerate(results) if files] == [99, 100]
    assert results[100][1]["visit"].to_pylist()[0] == 1000
    with np.load(tmp_path / "asteroid_difference_images_1.npz") as stored:
        assert stored["data"].shape == (1, 4, 5)
        assert stored["data"][0, 0, 0] == 100

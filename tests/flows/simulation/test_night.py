from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from schemas.errors import Misconfigured
from schemas.truth import TRUTH


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(("preset", "form"), [("ztf", "fits"), ("rubin", "fits"), ("llnl", "npz")])
def test_same_seed_same_bytes_whoever_does_the_work(preset: str, form, tmp_path: Path) -> None:
    small = find_preset(preset, streaks=3, shape=(128, 150))
    runs = {}
    for name, seed, workers in (("one", 5, 1), ("two", 5, 2), ("other", 6, 1)):
        night = SimulatedNight(
            small, seed, 2, 2, tmp_path / name, science=preset == "ztf", template=preset == "ztf", form=form
        )
        simulate_night(night, workers)
        runs[name] = digests(tmp_path / name)
    assert runs["one"] == runs["two"]
    assert not set(runs["one"].values()) & set(runs["other"].values())


@pytest.mark.parametrize(("science", "template"), [(True, False), (False, True), (False, False)])
def test_each_plane_is_written_when_asked_for(tmp_path: Path, science, template) -> None:
    night = SimulatedNight(
        find_preset("ztf", streaks=1, shape=(128, 150)), 1, 1, 1, tmp_path, science=science, template=template
    )
    simulate_night(night)
    for product, wanted in (("sciimg", science), ("refimg", template), ("scimrefdiffimg", True)):
        assert bool(list(tmp_path.glob(f"*_{product}.fits*"))) == wanted


def test_what_was_written_is_told(tmp_path: Path) -> None:
    seen: list[int] = []
    night = SimulatedNight(find_preset("ztf", streaks=4, shape=(128, 150)), 1, 3, 2, tmp_path)
    written = simulate_night(night, progress=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert len(written.exposures) == written.images == 6
    assert all(path.is_file() for path in (*written.files, written.truth))
    truth = pq.read_table(written.truth)
    TRUTH.check(truth)
    assert written.streaks == truth["kind"].to_pylist().count("streak") == 24
    assert len(set(truth["visit"].to_pylist())) == 3
    assert np.array_equal(np.unique(truth["detector"]), [0, 1])


@pytest.mark.parametrize(("visits", "detectors", "code"), [(0, 1, "nothing_to_simulate"), (1, 65, "no_such_detector")])
def test_a_night_that_cannot_be(visits: int, detectors: int, code: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        simulate_night(SimulatedNight(find_preset("ztf"), 1, visits, detectors, tmp_path / "out"))
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "sky").write_text("notes")
    night = SimulatedNight(find_preset("ztf", 1, (200, 200)), 1, 1, 1, tmp_path / "sky")
    with pytest.raises(Misconfigured, match=r"sky is a file. To fix, choose another --out"):
        simulate_night(night)

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from flows.runtime.parallel import map_in_processes
from flows.storage.zarr_tiles import TileStore
from flows.training import example_sets
from flows.training.example_sets import make_examples, make_sets
from flows.training.examples import Wanted, open_field
from kernels.image.variation import evened
from schemas.errors import Misconfigured, Retryable
from schemas.pixels import UNUSABLE
from tests.support.field import field_of
from tests.support.threads import compiled_threads, variable


def test_each_example_has_its_own_truth(examples):
    assert len({example.store for example in examples}) == 2
    for example in examples:
        info = TileStore.open(example.store).info
        assert info.shape == (420, 450)
        assert pc.unique(example.truth["detector"]).to_pylist() == [info.detector]
        assert sum(kind == "streak" for kind in example.truth["kind"].to_pylist()) == 12


def test_skies_are_subtracted_and_trails_as_long_as_asked_for(tmp_path):
    wanted = Wanted("ztf", 1, 6, (420, 430), subtract="zogy", lengths=(0.3, 2.0))
    (example,) = make_examples(tmp_path, wanted, 5, 1)
    assert example.sky == wanted.sky == "ztf-zogy"
    lengths = example.truth.filter(pc.equal(example.truth["kind"], "streak"))["length_px"].to_numpy()
    assert len(lengths) == 6
    assert 0.2 < lengths.min() < lengths.max() < 2.2
    (drawn,) = make_examples(tmp_path / "drawn", replace(wanted, subtract="none"), 5, 1)
    assert drawn.sky == "ztf"
    one, other = (TileStore.open(which.store).read_all("difference") for which in (example, drawn))
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.5


def test_what_is_there_is_used_again(tmp_path):
    wanted = Wanted("ztf", 1, 3, (200, 210))
    (first,) = make_examples(tmp_path, wanted, 5, 1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != "done"}
    (second,) = make_examples(tmp_path, wanted, 5, 1)
    assert second.store == first.store
    assert second.truth.equals(first.truth)
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("wanted", [Wanted("ztf", 2, 2, (150, 170)), Wanted("ztf", 1, 2, (150, 170), crowding=3)])
def test_exposures_of_another_plan_are_refused(tmp_path, wanted):
    made = Wanted("ztf", 1, 2, (150, 170))
    make_examples(tmp_path, made, 5, 1)
    for asked, seed in ((wanted, 5), (made, 6)):
        with pytest.raises(Misconfigured, match=r"holds other exposures than .* To fix, remove it, or name another"):
            make_examples(tmp_path, asked, seed, 1)
    of_before = {name: value for name, value in json.loads((tmp_path / "done").read_text()).items() if name != "ingest"}
    for left in ("", json.dumps(of_before), json.dumps(of_before | {"ingest": "3"})):  # as earlier versions left it
        (tmp_path / "done").write_text(left)
        with pytest.raises(Misconfigured, match="that an earlier version made"):
            make_examples(tmp_path, made, 5, 1)


def test_what_an_interrupted_simulation_left_is_not_taken_for_another_plan(tmp_path, monkeypatch):
    begun = Wanted("ztf", 2, 2, (150, 170))
    with monkeypatch.context() as patch:
        patch.setattr(example_sets, "as_tiles", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make_examples(tmp_path, begun, 5, 1)
    for other in (replace(begun, count=1), replace(begun, streaks=9)):  # images without truth; other images than tiles
        with pytest.raises(Misconfigured, match="holds other exposures than"):
            make_examples(tmp_path, other, 5, 1)
    assert [len(one.truth) > 0 for one in make_examples(tmp_path, begun, 5, 1)] == [True, True]


def test_processes_have_one_thread_and_keep_order(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert list(map_in_processes(compiled_threads, range(20), 2)) == [(n, "1", 1, 1) for n in range(20)]
    before = compiled_threads(0)
    assert list(map_in_processes(compiled_threads, [0, 1], 1)) == [(n, "2", 1, 1) for n in (0, 1)]
    assert compiled_threads(0) == before


def test_failure_in_a_process_comes_out():
    with pytest.raises(KeyError, match="NO_SUCH_VARIABLE"):
        list(map_in_processes(variable, ["NO_SUCH_VARIABLE"], 1))


def test_pixels_are_those_of_the_tiles_mapped(examples):
    field, store = open_field(examples[0]), TileStore.open(examples[0].store)
    assert store.info.noise_variation is not None
    searched = evened(store.read_all("difference"), store.info.background, store.info.noise_variation)
    np.testing.assert_array_equal(field.pixels, searched)
    np.testing.assert_array_equal(field.usable, (store.read_all("mask") & UNUSABLE) == 0)
    assert isinstance(field.pixels, np.memmap)
    assert field.info == store.info
    assert field.name == examples[0].store.stem
    assert len(field.targets.x) == len(field.snr) == examples[0].truth.num_rows


def test_they_are_unpacked_once(tmp_path):
    (example,) = make_examples(tmp_path, Wanted("ztf", 1, 2, (120, 130)), 5, 1)
    open_field(example)
    files = sorted(tmp_path.glob("*.npy"))
    before = [path.stat().st_mtime_ns for path in files]
    open_field(example)
    assert len(files) == 2
    assert [path.stat().st_mtime_ns for path in files] == before


def test_what_a_full_disk_has_cut_short_is_unpacked_again(tmp_path, monkeypatch):
    (example,) = make_examples(tmp_path, Wanted("ztf", 1, 2, (120, 130)), 5, 1)
    whole, calls = np.save, []

    def full(place, plane):
        whole(place, plane)
        calls.append(place)
        if len(calls) == 2:
            (place if hasattr(place, "truncate") else place.open("r+b")).truncate(200)
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(Retryable, match="No space left on device"):
            open_field(example)
    assert open_field(example).usable.shape == (120, 130)


@pytest.mark.parametrize(
    ("kind", "snr", "visible", "wanted", "dark"),
    [
        ("streak", 5.0, 1.0, True, False),
        ("streak", 4.0, 1.0, False, False),
        ("streak", 5.0, 0.4, False, False),
        ("streak", -5.0, 1.0, False, True),
        ("point", 50.0, 1.0, False, False),
        ("satellite", 50.0, 1.0, False, False),
    ],
)
def test_what_is_to_be_found(kind, snr, visible, wanted, dark):
    field = field_of(np.zeros((50, 50)), [(kind, 20.0, 20.0, 3.0, 0.0, snr, visible)])
    assert (field.wanted.tolist(), field.dark.tolist()) == ([wanted], [dark])


@pytest.mark.parametrize(
    ("snr", "visible", "wanted", "dark"),
    [
        (4.2, 0.5, True, False), (4.199, 0.5, False, False), (4.2, 0.499, False, False), (0.0, 1.0, False, False),
        (-0.001, 1.0, False, True),
    ],
)  # fmt: skip
def test_a_streak_is_to_be_found_from_snr_4_2_and_half_visible(snr, visible, wanted, dark):
    field = field_of(np.zeros((50, 50)), [("streak", 20.0, 20.0, 3.0, 0.0, snr, visible)])
    assert (field.wanted.tolist(), field.dark.tolist()) == ([wanted], [dark])


def test_each_sky_has_a_folder_and_a_seed_of_its_own(tmp_path, monkeypatch):
    asked, said = [], []
    monkeypatch.setattr(example_sets, "make_examples", lambda *given: asked.append(given) or [len(asked)])
    wanted = [Wanted("ztf", 2), Wanted("llnl", 1), Wanted("ztf", 3, crowding=3, subtract="zogy")]
    assert make_sets(tmp_path / "train", wanted, 40, 1, said.append) == [1, 2, 3]
    names = ("0-ztf", "1-llnl", "2-ztf-zogy")
    assert asked == [
        (tmp_path / "train" / name, part, 40 + n, 1) for n, (name, part) in enumerate(zip(names, wanted, strict=True))
    ]
    assert said == ["train: 2 exposures like ztf", "train: 1 exposures like llnl", "train: 3 exposures like ztf-zogy"]


def test_exposures_are_detectors_of_one_visit(examples):
    infos = [TileStore.open(example.store).info for example in examples]
    assert len({info.visit for info in infos}) == 1
    assert sorted(info.detector for info in infos) == [0, 1]
    assert Wanted("ztf", 3) == Wanted("ztf", 3, None, None, 1.0)


def test_a_full_disk_is_told_before_anything_is_simulated(tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(Retryable, match="choose another --work") as caught:
        make_examples(tmp_path / "set", Wanted("ztf", 1), 3, 1)
    assert caught.value.code == "disk_full"
    assert list((tmp_path / "set").iterdir()) == []

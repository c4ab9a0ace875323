import numpy as np
import pytest

from flows.results.evaluation.published import oracle_snrs
from flows.results.evaluation.truth_table import read_truth
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from flows.storage.zarr_tiles import TileStore
from flows.training.challenge import CHALLENGE, challenge_examples, share_challenge
from flows.training.examples import Example, Wanted
from schemas.errors import Misconfigured
from schemas.truth import TRUTH


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """Five exposures as the challenge writes them, in one stack, with the simulator's truth beside."""
    folder = tmp_path_factory.mktemp("stacks")
    preset = find_preset("llnl", streaks=6, shape=(300, 320))
    simulate_night(SimulatedNight(preset, 8, 1, 5, folder, form="npz"))
    return folder


@pytest.fixture(scope="module")
def examples(stacks, tmp_path_factory):
    return challenge_examples(stacks, tmp_path_factory.mktemp("tiles"), 1)


def test_the_pixels_tell_the_snr_that_the_files_do_not(stacks, examples):
    simulated = read_truth([stacks / "truth.parquet"])
    stores = [TileStore.open(example.store) for example in examples]
    assert [store.info.visit for store in stores] == [0, 1, 2, 3, 4]
    for example, store in zip(examples, stores, strict=True):
        TRUTH.check(example.truth)
        assert set(example.truth["kind"].to_pylist()) == {"streak"}
        known = simulated.on(store.info.visit, 0)
        known = known.take(known.kind == "streak")
        expected, found = oracle_snrs(store, known), example.truth["snr"].to_numpy()
        seen = np.isfinite(expected)
        np.testing.assert_allclose(found[seen], expected[seen], rtol=0.25, atol=1)
        np.testing.assert_array_equal(example.truth["visible"].to_numpy()[seen], 1)


def test_the_tiles_are_used_again_unless_the_files_have_changed(stacks, tmp_path):
    first = challenge_examples(stacks, tmp_path, 1)
    before = [path.stat().st_mtime_ns for path in tmp_path.rglob("zarr.json")]
    again = challenge_examples(stacks, tmp_path, 1)
    assert [one.store for one in again] == [one.store for one in first]
    assert [path.stat().st_mtime_ns for path in tmp_path.rglob("zarr.json")] == before


def test_a_folder_without_truth_is_refused(tmp_path):
    np.savez(tmp_path / "asteroid_difference_images_0.npz", data=np.zeros((1, 64, 64), np.float32))
    with pytest.raises(Misconfigured, match="holds no stack of the LLNL challenge with asteroids") as caught:
        challenge_examples(tmp_path, tmp_path / "work", 1)
    assert caught.value.code == "no_challenge"
    with pytest.raises(Misconfigured, match="does not exist"):
        challenge_examples(tmp_path / "nowhere", tmp_path / "work", 1)


def some(count):
    return [Example(n, None) for n in range(count)]


SETS = {
    "train": (Wanted("ztf", 16, 60), Wanted("llnl", 8, 60), Wanted("llnl", 12, 60, crowding=3)),
    "validation": (Wanted("ztf", 4), Wanted("llnl", 5)),
    "verdict": (Wanted("ztf", 3),),
}


def test_they_stand_in_for_those_simulated_like_them_and_no_two_sets_share_one():
    wanted, shares = share_challenge(SETS, some(52), seed=1)
    assert {name: len(own) for name, own in shares.items()} == {"train": 41, "validation": 11, "verdict": 0}
    assert wanted == {
        "train": (Wanted("ztf", 16, 60), Wanted(CHALLENGE, 41)),
        "validation": (Wanted("ztf", 4), Wanted(CHALLENGE, 11)),
        "verdict": (Wanted("ztf", 3),),
    }
    taken = [one.store for own in shares.values() for one in own]
    assert sorted(taken) == list(range(52))
    assert share_challenge(SETS, some(52), seed=1)[1] == shares
    assert share_challenge(SETS, some(52), seed=2)[1] != shares


def test_each_set_gets_at_least_one():
    _, shares = share_challenge(SETS, some(2), seed=1)
    assert [len(shares[name]) for name in ("train", "validation")] == [1, 1]
    with pytest.raises(Misconfigured, match="1 exposures cannot be shared among 2 sets") as caught:
        share_challenge(SETS, some(1), seed=1)
    assert caught.value.code == "few_exposures"

import numba
import numpy as np
import pytest
import torch

from flows.pipeline.models import load_model
from flows.training.bench import exposure as bench
from flows.training.bench.exposure import bench_exposure, catalogue_from_logits, hits_of, shipped_net, use_threads
from flows.training.bench.ways import Pixels, Timed, interleaved, plain_logits
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from tests.support.bench import small_exposure


def test_it_is_read_as_a_worker_reads_it():
    exposure = small_exposure()
    assert exposure.info.shape == exposure.difference.shape == exposure.mask.shape == (300, 330)
    assert np.isfinite(exposure.difference).all()
    assert exposure.info.noise > 0


def test_the_same_seed_gives_the_same_pixels():
    assert np.array_equal(bench_exposure((300, 330), seed=3).difference, small_exposure().difference)


def test_a_size_that_the_camera_does_not_have_is_refused():
    with pytest.raises(Misconfigured, match="--size"):
        bench_exposure((10, 9000))


def test_the_grid_is_the_floor_grid():
    assert Pixels(np.zeros((1, 3080, 3072), np.float32), np.ones((3080, 3072), bool), 0.0).grid == (437, 436)


def test_pixels_of_an_exposure():
    exposure = small_exposure()
    pixels = exposure.pixels
    assert pixels.image.shape == (1, *exposure.info.shape)
    assert pixels.usable.dtype == bool
    assert 0 < 1 - pixels.usable.mean() < 0.5
    assert pixels.background == exposure.info.background


def test_hits_reach_the_threshold():
    logits = np.array([-np.inf, 0.5, 1.0, 2.0, 0.9, 1.5], np.float32)
    hits, counts = hits_of(logits, columns=3, threshold=1.0)
    assert counts.windows == len(logits)
    assert hits.to_pydict() == {"row": [0, 1, 1], "column": [2, 0, 2], "logit": [1.0, 2.0, 1.5]}


def test_bright_streaks_end_in_the_catalogue():
    from tests.support.bench import small_exposure

    exposure, (net, card) = small_exposure(), shipped_net()
    floor = float(np.log(card.threshold / (1 - card.threshold)))
    found = catalogue_from_logits(exposure, plain_logits(exposure.pixels, net), floor)
    assert found.schema.equals(DIA_SOURCE.schema)
    assert len(found) > 3
    nothing = catalogue_from_logits(
        exposure, np.full(exposure.pixels.grid[0] * exposure.pixels.grid[1], -9, np.float32), floor
    )
    assert len(nothing) == 0


def test_it_is_what_the_search_uses():
    net, card = shipped_net()
    windows = np.random.default_rng(1).normal(size=(8, 1, 26, 26)).astype(np.float32)
    with torch.inference_mode():
        scores = net(torch.from_numpy(windows)).numpy()
    scorer = load_model("detect", "basic_cnn")
    np.testing.assert_allclose(scores[:, 1] - scores[:, 0], scorer(windows), rtol=1e-5, atol=1e-5)
    assert card == scorer.card
    assert not net.training


def test_both_libraries_get_the_same_number():
    before = torch.get_num_threads(), numba.get_num_threads()
    try:
        assert use_threads(1) == torch.get_num_threads() == numba.get_num_threads() == 1
        assert use_threads(10_000) == torch.get_num_threads() == numba.config.NUMBA_NUM_THREADS
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def test_variants_take_turns():
    calls = []
    seconds = iter([0, 4, 10, 11, 20, 22, 30, 31, 40, 46, 50, 53])
    timed = interleaved(
        {"slow": lambda: calls.append("slow"), "fast": lambda: calls.append("fast") or 7},
        3,
        clock=lambda: float(next(seconds)),
    )
    assert calls == ["slow", "fast"] * 3
    assert timed.rounds == {"slow": (4.0, 2.0, 6.0), "fast": (1.0, 1.0, 3.0)}
    assert timed.medians == {"slow": 4.0, "fast": 1.0}
    assert timed.results == {"slow": None, "fast": 7}


def test_a_ratio_is_taken_within_each_round():
    # A machine that turns half as fast in the second round.
    timed = Timed({"slow": (10.0, 20.0, 11.0), "fast": (1.0, 2.0, 1.0)}, {})
    assert timed.ratio("slow", "fast") == 10.0


def test_one_exposure_of_one_detector_is_simulated_without_its_science_image(monkeypatch):
    asked = []
    real = bench.simulate_night
    monkeypatch.setattr(bench, "simulate_night", lambda night: asked.append(night) or real(night))
    bench_exposure((150, 160))
    (night,) = asked
    assert (night.seed, night.visits, night.detectors, night.science) == (11, 1, 1, False)


def test_windows_that_are_no_hits_are_counted_as_searched():
    _, counts = hits_of(np.array([-9.0, 1.0], np.float32), 2, 1.0)
    assert (counts.windows, counts.unscored) == (2, 0)

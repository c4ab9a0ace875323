import numpy as np
import pytest

from flows.training.bench import search
from flows.training.bench.search import SearchFigures, compare_search, probability_error, same_hits
from flows.training.bench.ways import GemmRates
from tests.support.bench import small_exposure


@pytest.fixture(scope="module")
def figures():
    return compare_search(small_exposure(), repeats=1, threads=1)


def test_all_ways_find_the_same(figures):
    assert figures.max_dprob_f32 < 1e-4
    assert figures.p99_dprob_bf16 < 3e-3
    assert 0 < figures.p99_dprob_bf16 <= figures.max_dprob_bf16
    assert figures.same_detections
    assert figures.same_hits_as_plain
    assert figures.same_hits_screened
    assert figures.hits > figures.detections > 3
    assert figures.windows == 40 * 44


def test_the_json_has_all_that_was_asked_for(figures):
    names = (
        "plain_s", "unfold_s", "fused_f32_s", "fused_bf16_s", "gemm_limit_f32_s", "gemm_limit_bf16_s",
        "screened_s",
        "max_dprob_f32", "p99_dprob_bf16", "same_detections", "windows", "threads",
    )  # fmt: skip
    found = figures.as_json()
    assert set(names) <= found.keys()
    assert all(found[name] > 0 for name in names if name.endswith("_s"))


def test_differences_of_probabilities():
    a, b = np.array([0.0, -np.inf, -np.inf, 20.0]), np.array([0.0, -np.inf, 0.0, 20.0])
    np.testing.assert_allclose(probability_error(a, b), [0, 0.5, 0])


def test_hits_are_compared_bit_for_bit():
    a = np.array([0.0, 2.0, 3.0], np.float32)
    assert same_hits(a, np.array([0.5, 2.0, 3.0], np.float32), 1.0)
    assert not same_hits(a, np.array([0.5, 2.0, np.nextafter(np.float32(3), np.float32(4))]), 1.0)
    assert not same_hits(a, np.array([1.5, 2.0, 3.0], np.float32), 1.0)


def test_the_limit_is_that_of_the_better_library():
    assert search._limits(GemmRates(2e9, 4e9, 8e9), 8 * 10**9) == {
        "gemm_limit_f32_s": 2.0, "gemm_limit_bf16_s": 1.0, "gemm_default_f32_gflops": 2.0,
        "gemm_onednn_f32_gflops": 4.0, "gemm_bf16_gflops": 8.0,
    }  # fmt: skip


def test_figures_have_four_digits_and_numbers_are_whole():
    figures = SearchFigures(123456, 1, 3, *[0.0123456789] * 13, True, False, True, 123457, 12345)
    found = figures.as_json()
    assert (found["windows"], found["hits"], found["same_detections"]) == (123456, 123457, True)
    assert (found["plain_s"], found["max_dprob_bf16"]) == (0.01235, 0.01235)
    assert found["same_hits_as_plain"] is False


def test_a_window_at_the_threshold_is_a_hit():
    a, b = np.array([0.0, 1.0], np.float32), np.array([0.0, np.nextafter(np.float32(1), np.float32(0))])
    assert same_hits(a, a.copy(), 1.0)
    assert not same_hits(a, b, 1.0)
    assert not same_hits(a, np.array([0.0, 2.0], np.float32), 1.0)


def test_a_window_that_one_way_alone_scores_counts():
    a, b = np.array([-np.inf, 0.0, -np.inf]), np.array([0.0, -np.inf, -np.inf])
    np.testing.assert_allclose(probability_error(a, b), [0.5, 0.5])

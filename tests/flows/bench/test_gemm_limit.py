import pytest

from flows.bench.gemm_limit import GemmRates, chain_flops, gemm_rates
from kernels.nets.basic_cnn import BasicCnn


def test_operations_of_the_fully_connected_chain():
    assert chain_flops(BasicCnn()) == 2 * 563_440


def test_the_better_library_sets_the_limit():
    assert GemmRates(2.0, 3.0, 9.0).f32 == 3.0
    assert GemmRates(2.0, 0.0, 9.0).f32 == 2.0


def test_rates_of_this_machine():
    rates = gemm_rates(BasicCnn(), repeats=1)
    assert rates.default_f32 > 0
    assert rates.bf16 > 0
    assert rates.f32 == pytest.approx(max(rates.default_f32, rates.onednn_f32))

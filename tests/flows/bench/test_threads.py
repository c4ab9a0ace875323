import numba
import torch

from flows.bench.threads import use_threads


def test_both_libraries_get_the_same_number():
    before = torch.get_num_threads(), numba.get_num_threads()
    try:
        assert use_threads(1) == torch.get_num_threads() == numba.get_num_threads() == 1
        assert use_threads(10_000) == torch.get_num_threads() == numba.config.NUMBA_NUM_THREADS
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])

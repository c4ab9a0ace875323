"""How many threads this process computes with."""

import numba
import torch


def use_threads(wanted: int) -> int:
    """Let torch and numba use ``wanted`` threads, as far as numba was started with so many; give the number used."""
    used = min(wanted, int(numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(used)
    numba.set_num_threads(used)
    return used

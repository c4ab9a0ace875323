"""Threads of a process, asked for in one that has loaded nothing else."""

import os


def variable(name):
    return os.environ[name]


def compiled_threads(number):
    """The number, and threads of OpenMP, numba and torch."""
    import numba
    import torch

    return number, variable("OMP_NUM_THREADS"), numba.get_num_threads(), torch.get_num_threads()

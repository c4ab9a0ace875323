import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher

from kernels.compiled import KERNELS, njit, prange


@njit()
def square(value):
    """Return a square."""
    return value * value


@njit(nogil=True)
def sum_of_squares(values):
    total = 0.0
    for one in values:
        total += square(one)
    return total


@njit(parallel=True)
def doubled(values, out):
    for n in prange(len(values)):
        out[n] = 2 * values[n]


def test_a_function_is_compiled_at_its_first_call_and_for_each_kind_of_arguments():
    assert "dispatcher" not in vars(square)
    assert square(3) == 9
    assert square(1.5) == 2.25
    assert [str(kinds[0]) for kinds in square.overloads] == ["int64", "float64"]
    assert isinstance(square.dispatcher, Dispatcher)
    assert (square.__name__, square.__doc__, square.py_func(4)) == ("square", "Return a square.", 16)
    assert square in KERNELS


def test_compiled_functions_call_each_other():
    assert sum_of_squares(np.arange(4.0)) == 14.0
    assert sum_of_squares.dispatcher.nopython_signatures


def test_loops_are_parallel_when_compiled_and_plain_before():
    assert list(prange(3)) == [0, 1, 2]
    out = np.zeros(5)
    doubled(np.arange(5.0), out)
    np.testing.assert_array_equal(out, [0, 2, 4, 6, 8])
    assert globals()["prange"] is numba.prange
    ((_, overload),) = doubled.overloads.items()
    assert overload.metadata["parfor_diagnostics"].count_parfors() == 1


def test_threads_that_call_a_function_first_get_the_same():
    @njit()
    def cube(value):
        return value**3

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(cube, range(8))) == [n**3 for n in range(8)]


def test_stages_are_imported_without_numba():
    code = (
        "import sys, stages; print({'numba', 'torch', 'scipy'} & set(sys.modules), 'kernels.compiled' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set() True\n"

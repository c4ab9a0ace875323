import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from kernels.statistics.agreement import cohen_kappa


def test_a_published_table():
    """Fleiss, Levin & Paik 2003, Statistical Methods for Rates and Proportions, table 18.1: 0.68, error 0.087."""
    kappa, error = cohen_kappa(np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]]))
    assert kappa == pytest.approx(0.68, abs=0.005)
    assert error == pytest.approx(0.087, abs=0.001)


@pytest.mark.parametrize("seed", range(4))
def test_as_scikit_learn_has_it(seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 5, 80)
    second = np.where(rng.random(80) < 0.6, first, rng.integers(0, 5, 80))
    table = np.zeros((5, 5), int)
    np.add.at(table, (first, second), 1)
    assert cohen_kappa(table)[0] == pytest.approx(cohen_kappa_score(first, second))
    assert cohen_kappa(table.T) == pytest.approx(cohen_kappa(table))


def test_the_error_is_the_scatter_of_samples():
    share = np.array([[0.4, 0.1, 0.0], [0.05, 0.2, 0.05], [0.02, 0.03, 0.15]])
    rng = np.random.default_rng(5)
    found = [cohen_kappa(rng.multinomial(400, share.ravel()).reshape(3, 3)) for _ in range(400)]
    kappas, errors = np.array(found).T
    assert errors.mean() == pytest.approx(kappas.std(), rel=0.12)


def test_where_nothing_can_be_said():
    for table in (np.zeros((3, 3), int), np.diag([7, 0, 0])):
        assert all(math.isnan(value) for value in cohen_kappa(table))
    assert cohen_kappa(np.diag([4, 4]))[0] == 1
    assert cohen_kappa(np.array([[0, 4], [4, 0]]))[0] == -1

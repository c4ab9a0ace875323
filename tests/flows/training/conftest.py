import pytest

from flows.training.example_sets import make_examples
from flows.training.examples import Wanted


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """Two small simulated exposures, tiled, with their truth."""
    return make_examples(tmp_path_factory.mktemp("examples"), Wanted("ztf", 2, 12, (420, 450)), seed=3, workers=1)

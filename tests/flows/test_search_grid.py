import pytest

from flows.search_grid import search_grid
from kernels.dense_search import dense_grid
from schemas.errors import Misconfigured
from schemas.search_grid import SearchGrid
from schemas.settings import DetectSettings
from tests.flows.model_support import write_cells, write_windows


def test_cells_lie_where_the_card_says(tmp_path):
    write_cells(tmp_path, dilations=(1, 3))
    assert search_grid(DetectSettings(model=str(tmp_path), stride=9)) == dense_grid(5)


def test_windows_lie_where_the_settings_say(tmp_path):
    write_windows(tmp_path)
    assert search_grid(DetectSettings(model=str(tmp_path), stride=9)) == SearchGrid(26, 9, 0, 26)


def test_a_detector_that_is_not_there_is_named():
    with pytest.raises(Misconfigured, match="no_such"):
        search_grid(DetectSettings(model="no_such"))

import numpy as np
import pytest

from kernels.candidate_judges import TreeJudge
from kernels.candidate_search import CANDIDATE_GRID, CELL, CandidateSearch
from kernels.line_score import line_score
from kernels.plane import Places, Plane
from kernels.psf import moffat_mixture
from kernels.trail_model import trail_image
from kernels.tree_ensemble import TreeEnsemble
from schemas.model_card import ModelCard

CARD = ModelCard(
    stage="detect", name="test", version="1", sha256="", input={}, classes=("nothing", "streak"), training={},
    metrics={}, threshold=0.5, false_alarm_rate="none",
)  # fmt: skip
SHAPE = (400, 424)
TREES = TreeEnsemble(
    np.array([0], np.int32),
    np.array([2, -1, -1], np.int16),
    np.array([6.0, 0, 0]),
    np.array([1, 0, 0], np.int32),
    np.array([2, 0, 0], np.int32),
    np.array([0, -1.0, 3.0]),
    np.zeros(1),
)


def plane(box=np.s_[:, :]):
    image = np.random.default_rng(1).normal(size=SHAPE)
    image += 100 * trail_image(SHAPE, 201.0, 190.0, 25.0, 40.0, moffat_mixture(2.3, 3.0))
    usable = np.ones(SHAPE, bool)
    usable[:8, :12] = False
    return Plane(image.astype(np.float32)[box], usable[box], 0.0, 1.0, np.array([[1.0]]), 2.3)


@pytest.mark.parametrize("judge", [line_score, TreeJudge(TREES)])
def test_the_cell_of_a_trail_has_the_highest_score(judge):
    search = CandidateSearch(judge, 4.5, CARD)
    logits, unscored = search.search(plane(), Places(0, 0, SHAPE[0] // CELL, SHAPE[1] // CELL, CELL))
    assert logits.dtype == np.float32
    assert unscored == 6
    cells = logits.reshape(SHAPE[0] // CELL, -1)
    row, column = np.unravel_index(cells.argmax(), cells.shape)
    assert abs(row * CELL + 1.5 - 190) <= CANDIDATE_GRID.claim / 2
    assert abs(column * CELL + 1.5 - 201) <= CANDIDATE_GRID.claim / 2
    assert np.isneginf(cells).mean() > 0.99


@pytest.mark.parametrize("judge", [line_score, TreeJudge(TREES)])
def test_same_bits_however_the_image_is_cut(judge):
    search, reach = CandidateSearch(judge, 3.8, CARD), CANDIDATE_GRID.reach
    whole = search.search(plane(), Places(0, 0, 100, 106, CELL))[0].reshape(100, 106)
    y0, x0, rows, columns = 160, 140, 20, 25
    top, left = y0 - reach, x0 - reach
    cut = plane(np.s_[top : y0 + rows * CELL + reach, left : x0 + columns * CELL + reach])
    part = search.search(cut, Places(reach, reach, rows, columns, CELL))[0].reshape(rows, columns)
    np.testing.assert_array_equal(part, whole[y0 // CELL :, x0 // CELL :][:rows, :columns])
    assert np.isfinite(part).sum() >= 2


def test_cells_off_the_plane_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        CandidateSearch(line_score, 4.5, CARD).search(plane(), Places(0, 0, 101, 106, CELL))

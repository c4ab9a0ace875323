import numpy as np
import pytest

from flows.adapters.weights import load_model, read_card
from flows.training.cell_fit import CellFit
from flows.training.cells import CellPlan, train_cells
from kernels.dense_search import dense_grid

PLAN = CellPlan(channels=8, dilations=(1, 2), first=CellFit(4), later=CellFit(3), rounds=1, threshold=0.4)


@pytest.mark.slow
def test_mines_its_own_false_alarms_and_writes_what_loads(examples, tmp_path):
    lines = []
    about = {"data": "a test"}
    figures = train_cells(tmp_path, examples[:1], examples[1:], PLAN, about, 1, 1, lines.append)
    card = read_card("detect", str(tmp_path))
    assert (card.threshold, card.training) == (0.4, about)
    assert card.metrics == {"validation": figures}
    assert figures.keys() == {"round 0", "round 1"}
    for part in figures.values():
        assert np.isfinite(part["loss"]).all()
        found, present = part["at 1 false"]["c7"]
        assert 0 <= found <= present
    detector = load_model("detect", str(tmp_path))
    assert detector.grid == dense_grid(4)
    assert (detector.net.channels, detector.net.dilations) == (8, (1, 2))
    rounds = [line for line in lines if "hard places" in line]
    assert len(rounds) == 2
    assert int(rounds[0].split(", ")[1].split()[0]) > 0

import pytest

from flows.adapters.weights import load_model, read_card
from flows.training.window_fit import FitPlan
from flows.training.windows import WindowPlan, train_windows
from schemas.search_grid import SearchGrid

FIT = FitPlan(epochs=1, device="cpu")


@pytest.mark.slow
def test_mines_its_own_false_alarms_and_writes_what_loads(examples, tmp_path):
    lines = []
    plan = WindowPlan(rounds=1, most=200, first=FIT, later=FIT, floor=0.3)
    train, check, about = examples[:1], examples[1:], {"data": "a test"}
    figures = train_windows(tmp_path, train, check, check, plan, about, 1, 1, lines.append)
    card = read_card("detect", str(tmp_path))
    assert (card.name, card.threshold, card.metrics) == ("basic_cnn", 0.3, figures)
    assert figures["windows"] > 100
    assert load_model("detect", str(tmp_path)).grid == SearchGrid(26, 7, 0, 26)
    assert (tmp_path / "training_windows.png").read_bytes()[:4] == b"\x89PNG"
    first, second = (int(line.split(" fit on ")[1].split()[0]) for line in lines if " fit on " in line)
    new = int(next(line for line in lines if "new false windows" in line).split(": ")[1].split()[0])
    assert second == first + new

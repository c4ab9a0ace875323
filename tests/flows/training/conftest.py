import pytest
import torch
from matplotlib.figure import Figure

from flows.training.example_sets import make_examples
from flows.training.examples import Wanted


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """Two small simulated exposures, tiled, with their truth."""
    return make_examples(tmp_path_factory.mktemp("examples"), Wanted("ztf", 2, 12, (420, 450)), seed=3, workers=1)


@pytest.fixture
def fit_settings(monkeypatch):
    """What fits are made with: learning rate and weight decay of AdamW; peak rate, steps and rise of the schedule."""
    given = []

    class AdamW(torch.optim.AdamW):
        def __init__(self, parameters, lr, weight_decay):
            given.append((lr, weight_decay))
            super().__init__(parameters, lr=lr, weight_decay=weight_decay)

    class OneCycle(torch.optim.lr_scheduler.OneCycleLR):
        def __init__(self, optimiser, max_lr, total_steps, pct_start=0.3):
            given.append((max_lr, total_steps, pct_start))
            super().__init__(optimiser, max_lr, total_steps=total_steps, pct_start=pct_start)

    monkeypatch.setattr(torch.optim, "AdamW", AdamW)
    monkeypatch.setattr(torch.optim.lr_scheduler, "OneCycleLR", OneCycle)
    return given


@pytest.fixture
def on_the_processor(monkeypatch):
    """Fits are on the processor: on a GPU sums are in another order each time, and the last digits differ."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def one_thread():
    """Torch with one thread, for as long as the test runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def saved(monkeypatch):
    """Figures, and the resolution asked for, instead of files."""
    seen = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: seen.append((figure, dpi)))
    return seen

import numpy as np
from PIL import Image

from flows.training.cutout_fit import Epoch
from flows.training.star_galaxy_pictures import draw_confusion, draw_curves, draw_mistakes, draw_scores
from flows.training.star_galaxy_report import figures_of
from tests.flows.training.star_galaxy_support import cutouts


def ink(path):
    return np.asarray(Image.open(path).convert("L")).std()


def test_draws_what_it_is_told(tmp_path):
    data = cutouts(2)
    rng = np.random.default_rng(1)
    said = {name: np.clip(0.7 * data.label + rng.uniform(0, 0.4, len(data)), 0, 1) for name in ("ours", "other")}
    figures = {
        name: some["all"] for name, some in figures_of({name: {"all": p} for name, p in said.items()}, data).items()
    }
    history = tuple(Epoch(1 / n, 1 - 0.1 / n, 1.1 / n, 1 - 0.12 / n) for n in range(1, 6))
    paths = [
        draw_curves(tmp_path / "curves.png", {"ours": history, "other": history[:3]}),
        draw_confusion(tmp_path / "confusion.png", figures, ("galaxy", "star")),
        draw_scores(tmp_path / "scores.png", said, figures, data.label),
        draw_mistakes(tmp_path / "mistakes.png", data.cutouts, data.label, rng.normal(size=len(data))),
    ]
    assert all(ink(path) > 5 for path in paths)


def test_no_mistakes_are_drawn_too(tmp_path):
    data = cutouts(1)
    assert draw_mistakes(tmp_path / "none.png", data.cutouts, data.label, np.where(data.label, 2.0, -2.0)).exists()

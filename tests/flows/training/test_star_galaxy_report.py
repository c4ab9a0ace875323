import numpy as np
import pytest
from PIL import Image

from flows.training.cutout_fit import CutoutEpoch
from flows.training.star_galaxy_report import (
    by_magnitude,
    comparison_table,
    difference,
    draw_confusion,
    draw_curves,
    draw_mistakes,
    draw_scores,
    figures_of,
    require_planes,
)
from schemas.errors import Misconfigured
from tests.support.star_galaxy import cutouts


def test_scores_every_way_and_writes_the_table():
    data = cutouts(2)
    right = data.label.astype(float)
    figures = figures_of({"ours": {"all": right, "0-3": 1 - right}, "cut": {"all": right}}, data)
    assert figures["ours"]["all"]["accuracy"] == 1
    assert figures["ours"]["0-3"]["accuracy"] == 0
    assert figures["cut"]["all"]["report"]["macro"]["f1"] == 1
    lines = comparison_table(figures).splitlines()
    assert lines[0] == "| | all | 0-3 |"
    assert lines[2].startswith("| ours | 100.00 (")
    assert lines[3].endswith("|  |")


def test_bins_hold_every_cutout_of_their_magnitudes():
    data = cutouts(2)
    rows = by_magnitude(data.label.astype(float), data)
    assert sum(row["n"] for row in rows) == len(data)
    assert all(row["accuracy"] == row["precision"] == row["recall"] == 1 for row in rows if row["n"] > 15)


def test_difference_counts_where_they_differ():
    label = np.array([1] * 50 + [0] * 50)
    one, other = np.where(label, 0.9, 0.1), np.where(label, 0.9, 0.1)
    other[:10] = 0.1
    one[60] = 0.9
    found = difference(one, other, label)
    assert (found["only_first_right"], found["only_second_right"], found["difference"]) == (10, 1, 0.09)
    assert found["interval"][0] < 0.09 < found["interval"][1]
    same = difference(one, one, label)
    assert same["difference"] == 0
    assert same["interval"][0] < 0 < same["interval"][1]


def test_refuses_another_number_of_planes():
    with pytest.raises(Misconfigured, match=r"are \(2, 4, 26, 26\), but the networks take \(n, 8"):
        require_planes(np.zeros((2, 4, 26, 26)), 8)


def ink(path):
    return np.asarray(Image.open(path).convert("L")).std()


def test_draws_what_it_is_told(tmp_path):
    data = cutouts(2)
    rng = np.random.default_rng(1)
    said = {name: np.clip(0.7 * data.label + rng.uniform(0, 0.4, len(data)), 0, 1) for name in ("ours", "other")}
    figures = {
        name: some["all"] for name, some in figures_of({name: {"all": p} for name, p in said.items()}, data).items()
    }
    history = tuple(CutoutEpoch(1 / n, 1 - 0.1 / n, 1.1 / n, 1 - 0.12 / n) for n in range(1, 6))
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

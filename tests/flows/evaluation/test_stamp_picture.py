import numpy as np
from PIL import Image

from flows.evaluation.stamp_picture import draw_stamps


def row(threshold, known, low):
    def share(value, n):
        return {"n": n, "found": 0, "completeness": value, "interval": [max(value - 0.1, 0), min(value + 0.1, 1)]}

    return {"min_reliability": threshold, "groups": {"known_asteroids": share(known, 90), "low_rb": share(low, 40)}}


def test_draws(tmp_path):
    thresholds = [row(0.0, 0.9, 0.7), row(0.5, 0.8, 0.3), row(0.9, 0.5, 0.0)]
    figures = {"at_default": row(0.6, 0.75, 0.2), "thresholds": thresholds, "low_rb": 0.5}
    path = draw_stamps(figures, tmp_path / "new")
    with Image.open(path) as picture:
        shades = np.unique(np.asarray(picture.convert("L")))
    assert path.name == "stamps.png"
    assert len(shades) > 10


def test_draws_a_sample_without_low_rb(tmp_path):
    empty = {"n": 0, "found": 0, "completeness": None, "interval": [0, 1]}
    one = row(0.5, 0.8, 0.3)
    one["groups"]["low_rb"] = empty
    assert draw_stamps({"at_default": one, "thresholds": [one], "low_rb": 0.5}, tmp_path).exists()

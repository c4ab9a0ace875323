import numpy as np
import pytest
from PIL import Image

from flows.results.evaluation.evaluate import Evaluation
from flows.results.evaluation.pictures import draw, draw_stamps, new_figure, plain_ticks
from flows.results.evaluation.summary import summarise


def evaluation(n, oracle):
    rng = np.random.default_rng(1)
    snr = rng.uniform(3, 50, n)
    errors = {name: rng.normal(0, 1, n) for name in ("dx", "dy", "length_error", "angle_error")}
    return Evaluation(
        images=4,
        snr=snr,
        length=rng.uniform(0, 60, n),
        score=np.where(snr > 10, rng.uniform(0.2, 1, n), -np.inf),
        oracle_snr=snr if oracle else np.full(n, np.nan),
        oracle_area_px=9e6,
        false_score=rng.uniform(0, 0.5, 6),
        false_snr=np.full(6, 7.0),
        uncounted=0,
        **errors,
    )


@pytest.mark.parametrize(("n", "oracle"), [(300, True), (300, False), (0, False)])
def test_draws_four_pictures(tmp_path, n, oracle):
    found = evaluation(n, oracle)
    written = draw(found, summarise(found), tmp_path / "new")
    names = ["completeness_by_snr.png", "completeness_by_length.png", "false_per_image.png", "residuals.png"]
    assert [path.name for path in written] == names
    for path in written:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 400
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_same_evaluation_gives_the_same_bytes(tmp_path):
    found = evaluation(100, True)
    first, second = (draw(found, summarise(found), tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_oracle_is_drawn(tmp_path):
    pictures = [
        draw(found, summarise(found), tmp_path / str(oracle))[0].read_bytes()
        for oracle in (True, False)
        for found in [evaluation(300, oracle)]
    ]
    assert pictures[0] != pictures[1]


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


def test_a_logarithmic_axis_has_1_2_and_5_of_each_decade_in_full():
    figure, (panel,) = new_figure()
    panel.set_xscale("log")
    panel.set_xlim(0.08, 600)
    plain_ticks(panel)
    figure.draw_without_rendering()
    seen = [label.get_text() for label in panel.get_xticklabels() if 0.08 <= label.get_position()[0] <= 600]
    assert seen == ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50", "100", "200", "500"]
    assert not any(label.get_text() for label in panel.get_xticklabels(minor=True))

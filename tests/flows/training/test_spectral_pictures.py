import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba
from matplotlib.image import imread
from scipy.stats import rankdata

from flows.simulation.star_colours import star_table
from flows.training import spectral_pictures
from flows.training.spectral_compare import Compared, compare
from flows.training.spectral_pictures import draw_comparison, draw_regression, importances, principal_components
from flows.training.spectral_sample import Sample
from kernels.statistics.class_scores import class_scores
from schemas.archive_columns import FEATURE_SETS

CLASSES = ("A", "G", "M")
FEATURES = FEATURE_SETS["n5"]


def stars(count=300):
    columns, code = star_table(count, 1, CLASSES, faint=17.0)
    return Sample(columns, code, CLASSES, np.arange(count))


def test_components_hold_all_variance_in_falling_order():
    places, shares, rows = principal_components(stars().matrix(FEATURES), 1)
    assert places.shape == (300, 2)
    assert len(rows) == 300
    assert shares.sum() == np.float64(1) or abs(shares.sum() - 1) < 1e-6
    assert (np.diff(shares) <= 0).all()


def test_what_decides_is_important_and_noise_is_not():
    rows = stars()
    columns = dict(rows.columns) | {"noise": np.random.default_rng(1).normal(0, 1, 300).astype(np.float32)}
    mean, _ = importances(Sample(columns, rows.code, CLASSES, rows.group), ("g-r", "noise"), "none", 1)
    assert mean[0] > 0.4
    assert abs(mean[1]) < 0.05


def test_pictures_show_something(tmp_path):
    rows = stars()
    found = compare(rows, FEATURES, "none", 1, lambda _: None, ("majority", "tree"))
    shares = draw_comparison(rows, FEATURES, found, (np.arange(5.0), np.ones(5)), tmp_path / "a.png", 1)
    assert len(shares) == 5
    kelvin = np.linspace(3000, 30000, 50)
    draw_regression(kelvin, 5040 / kelvin, np.array([1.0, 0.0]), ("B-V", "R"), tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert imread(tmp_path / name)[..., :3].std() > 0.02


def test_the_regression_is_drawn_with_its_line(saved, tmp_path):
    kelvin = np.linspace(3000, 20000, 4100)
    draw_regression(kelvin, 5040 / kelvin, np.array([2.0, -0.25]), ("B-V", "R"), tmp_path / "b.png")
    ((figure, dpi),) = saved
    assert (dpi, tuple(figure.get_size_inches())) == (90, (6, 4))
    (axis,) = figure.axes
    dots, line = axis.lines
    assert len(set(dots.get_xdata().tolist()) & set(kelvin.tolist())) == 4000
    np.testing.assert_array_equal(dots.get_ydata(), 5040 / dots.get_xdata())
    assert (dots.get_markersize(), dots.get_alpha(), dots.get_marker()) == (3, 0.4, ".")
    warm = 3000 * (20000 / 3000) ** (np.arange(200) / 199)
    np.testing.assert_allclose(line.get_xdata(), warm)
    np.testing.assert_allclose(line.get_ydata(), 2 * 5040 / warm - 0.25)
    assert (axis.get_xscale(), axis.get_ylabel(), axis.get_title()) == ("log", "B-V", "R")
    assert axis.get_xticks().tolist() == [3000, 5000, 10000, 20000]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["3000", "5000", "10000", "20000"]
    assert len(axis.get_xticks(minor=True)) == 0
    draw_regression(np.array([2000.0, 40000.0]), np.zeros(2), np.ones(2), ("", ""), tmp_path / "c.png")
    assert saved[1][0].axes[0].get_xticks().tolist() == [2000, 3000, 5000, 10000, 20000, 40000]


def compared(name, known, given, classes):
    scores = class_scores(np.array(known), np.array(given), classes)
    return Compared(name, scores, scores, 1.0)


def test_the_comparison_shows_the_best_and_all_scores_in_order(saved, tmp_path):
    rows = stars(60)
    known = [0] * 10 + [1] * 10 + [2] * 10
    good = compared("good", known, [0] * 10 + [1] * 6 + [2] * 4 + [2] * 7 + [0] * 3, 3)
    bad = compared("bad", known, [0] * 30, 3)
    mean, spread = np.array([0.3, 0.1, 0.5, 0.2, 0.4]), np.array([0.01, 0.02, 0.03, 0.04, 0.05])
    draw_comparison(rows, FEATURES, [good, bad], (mean, spread), tmp_path / "a.png", 1)
    ((figure, dpi),) = saved
    assert (dpi, tuple(figure.get_size_inches())) == (90, (11, 9))
    _, importance, scores, confusion = figure.axes
    order = [1, 3, 0, 4, 2]
    assert [text.get_text() for text in importance.get_yticklabels()] == [FEATURES[k] for k in order]
    np.testing.assert_allclose([bar.get_width() for bar in importance.patches], mean[order])
    (errors,) = importance.containers[0].lines[2]
    np.testing.assert_allclose([np.ptp(part[:, 0]) / 2 for part in errors.get_segments()], spread[order])
    assert {bar.get_facecolor() for bar in importance.patches} == {to_rgba("0.6")}
    assert [text.get_text() for text in scores.get_yticklabels()] == ["bad", "good"]
    for bars, name, shift in zip(scores.containers, ("accuracy", "macro_f1"), (-0.15, 0.15), strict=True):
        values = np.array([getattr(one.validation, name) for one in (bad, good)])
        np.testing.assert_allclose(bars.lines[0].get_xdata(), values)
        np.testing.assert_allclose(bars.lines[0].get_ydata(), [shift, 1 + shift])
        assert bars.lines[0].get_markersize() == 4
        for part, value, one in zip(bars.lines[2][0].get_segments(), values, (bad, good), strict=True):
            low, high = getattr(one.validation, f"{name}_interval")
            np.testing.assert_allclose(part[:, 0], [min(low, value), max(high, value)])
    legend = scores.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["accuracy", "macro F1"]
    assert (legend.get_frame_on(), legend.get_texts()[0].get_fontsize()) == (False, 8)
    np.testing.assert_allclose(confusion.images[0].get_array(), [[1, 0, 0], [0, 0.6, 0.4], [0.3, 0, 0.7]])
    assert confusion.images[0].get_clim() == (0, 1)
    written = {
        text.get_position(): (text.get_text(), text.get_color(), text.get_fontsize()) for text in confusion.texts
    }
    assert written == {
        (0, 0): ("10", "white", 9), (1, 1): ("6", "black", 9), (2, 1): ("4", "black", 9), (0, 2): ("3", "black", 9),
        (2, 2): ("7", "white", 9),
    }  # fmt: skip
    assert confusion.get_title().startswith("good: ")
    assert confusion.get_xticks().tolist() == confusion.get_yticks().tolist() == [0, 1, 2]
    assert [text.get_text() for text in confusion.get_xticklabels()] == list(CLASSES)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("count", "palette", "columns", "size"),
    [(5, "tab10", 1, 9), (6, "tab10", 2, 6), (10, "tab10", 2, 6), (11, "tab20", 2, 6)],
)
def test_many_classes_have_more_colours_and_smaller_words(count, palette, columns, size):
    classes = tuple(f"class {k}" for k in range(count))
    rng = np.random.default_rng(2)
    places, code = rng.normal(size=(4200, 2)) * [2, 5], rng.integers(0, count, 4200)
    figure, (axis, other) = plt.subplots(1, 2)
    spectral_pictures._components(axis, places, np.array([0.625, 0.25, 0.125]), code, classes)
    assert sum(len(line.get_xdata()) for line in axis.lines) == 4000
    for k, line in enumerate(axis.lines):
        assert to_rgba(line.get_color()) == to_rgba(plt.get_cmap(palette)(k))
        assert (line.get_markersize(), line.get_alpha(), line.get_label()) == (3, 0.5, classes[k])
        mine = set(map(tuple, places[code == k].tolist()))
        assert set(zip(line.get_xdata().tolist(), line.get_ydata().tolist(), strict=True)) <= mine
    for found, values in ((axis.get_xlim(), places[:, 0]), (axis.get_ylim(), places[:, 1])):
        low, high = np.quantile(values, 0.002), np.quantile(values, 0.998)
        np.testing.assert_allclose(found, (low - 0.1 * (high - low), high + 0.1 * (high - low)), rtol=1e-5)
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("component 1 (62%)", "component 2 (25%)")
    legend = axis.get_legend()
    assert (legend._ncols, legend.get_frame_on(), legend.markerscale) == (columns, False, 3)
    assert legend.get_texts()[0].get_fontsize() == 8
    scores = class_scores(np.arange(count), np.arange(count), count)
    spectral_pictures._confusion(other, scores, classes, "x")
    assert {text.get_fontsize() for text in other.texts} == {size}
    plt.close(figure)


def test_one_component_and_one_place_can_be_drawn():
    figure, axis = plt.subplots()
    spectral_pictures._components(axis, np.full((3, 2), 4.0), np.ones(1), np.zeros(3, int), ("a",))
    assert axis.get_ylabel() == "component 2 (0%)"
    np.testing.assert_allclose(axis.get_xlim(), (4 - 1e-6, 4 + 1e-6), rtol=0, atol=1e-9)
    np.testing.assert_allclose(axis.get_ylim(), (4 - 1e-6, 4 + 1e-6), rtol=0, atol=1e-9)
    plt.close(figure)


def test_components_are_those_of_standardised_features():
    matrix = np.random.default_rng(1).normal(size=(50, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 9]])
    places, shares, rows = principal_components(matrix.astype(np.float32), 1)
    values = np.sort(np.linalg.eigvalsh(np.corrcoef(matrix.T)))[::-1]
    np.testing.assert_allclose(shares, values / 3, rtol=1e-4)
    np.testing.assert_allclose(places.var(0), values[:2], rtol=1e-4)
    assert rows.tolist() == list(range(50))


def test_of_many_rows_two_hundred_thousand_are_looked_at(monkeypatch):
    count = 200_003
    places, _, rows = principal_components(np.arange(2 * count, dtype=np.float32).reshape(count, 2), 1)
    assert len(places) == len(rows) == 200_000
    assert (np.diff(rows) > 0).all()
    seen = []

    class Spy:
        def fit(self, matrix, code):
            seen.extend([len(matrix), len(code)])

    def importance(model, matrix, code, n_repeats, random_state):
        seen.extend([len(matrix), len(code), n_repeats, random_state])
        return type("Found", (), {"importances_mean": 1, "importances_std": 2})

    every = np.arange(count)
    rank = rankdata(every).astype(np.float32)
    many = Sample({"g": rank, "r": rank}, np.zeros(count, np.int16), CLASSES, every)
    monkeypatch.setattr(spectral_pictures, "split", lambda sample, seed: iter([(every, every)]))
    monkeypatch.setattr(
        spectral_pictures, "pipeline", lambda name, code, rebalance, seed: seen.append(len(code)) or Spy()
    )
    monkeypatch.setattr(spectral_pictures, "permutation_importance", importance)
    assert importances(many, ("g-r",), "none", 7) == (1, 2)
    assert seen == [200_000] * 3 + [4000, 4000, 5, 7]

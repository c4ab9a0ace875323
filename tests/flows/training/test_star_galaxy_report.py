import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_curve

from flows.inputs.cutout_files import LabelledCutouts
from flows.training import star_galaxy_report
from flows.training.cutout_fit import CutoutEpoch
from flows.training.star_galaxy_report import (
    COLOURS,
    MAGNITUDES,
    OF_NIGHTS,
    by_magnitude,
    comparison_table,
    difference,
    draw_confusion,
    draw_histories,
    draw_mistakes,
    draw_performance,
    figures_of,
    require_planes,
)
from kernels.statistics.class_scores import reliability_diagram
from kernels.statistics.completeness import binomial_interval
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
        draw_histories(tmp_path / "curves.png", {"ours": history, "other": history[:3]}),
        draw_confusion(tmp_path / "confusion.png", figures),
        draw_performance(tmp_path / "scores.png", said, figures, data.label),
        draw_mistakes(tmp_path / "mistakes.png", data.cutouts, data.label, rng.normal(size=len(data))),
    ]
    assert all(ink(path) > 5 for path in paths)


def test_no_mistakes_are_drawn_too(tmp_path):
    data = cutouts(1)
    assert draw_mistakes(tmp_path / "none.png", data.cutouts, data.label, np.where(data.label, 2.0, -2.0)).exists()


def rows_of(label, magnitude):
    count = len(label)
    return LabelledCutouts(np.zeros((count, 8, 26, 26)), np.array(label), np.arange(count), np.array(magnitude))


def test_a_bin_holds_its_lower_bound_and_a_probability_of_one_half_says_star():
    label, magnitude = [1, 1, 0, 0, 1, 0], [18.0, 18.4, 18.5, 18.999, 19.0, 20.0]
    probability = np.array([0.5, 0.4999, 0.5, 0.9, 0.5, 0.9])
    first, second, empty, _ = by_magnitude(probability, rows_of(label, magnitude), (18.0, 19.0, 19.5, 20.0, 21.0))
    assert (first["lo"], first["hi"], first["n"]) == (18.0, 19.0, 4)
    assert (first["accuracy"], first["precision"], first["recall"]) == (0.25, 0.3333, 0.5)
    assert first["interval"] == [round(edge, 4) for edge in binomial_interval(1, 4)]
    assert (second["n"], second["accuracy"], second["precision"], second["recall"]) == (1, 1.0, 1.0, 1.0)
    assert (empty["n"], empty["accuracy"], empty["precision"], empty["recall"]) == (0, None, None, None)
    thirds = by_magnitude(np.array([0.9, 0.9, 0.1]), rows_of([1, 0, 0], [18.1] * 3), (18.0, 19.0))[0]
    assert (thirds["accuracy"], thirds["precision"]) == (0.6667, 0.5)
    missed = by_magnitude(np.full(3, 0.9), rows_of([1, 1, 0], [18.1] * 3), (18.0, 19.0))[0]
    assert (missed["precision"], missed["recall"]) == (0.6667, 1.0)
    found = by_magnitude(np.array([0.9, 0.1, 0.1]), rows_of([1, 1, 1], [18.1] * 3), (18.0, 19.0))[0]
    assert (found["precision"], found["recall"]) == (1.0, 0.3333)


def test_bins_are_a_magnitude_wide_and_half_of_one_where_most_cutouts_are():
    assert MAGNITUDES == (18.0, 19.0, 20.0, 21.0, 22.0, 22.5, 23.0, 23.5, 24.0, 24.5)
    assert OF_NIGHTS == (13.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0, 20.5)


def test_the_interval_of_a_difference_is_that_of_paired_proportions():
    label = np.array([1] * 50 + [0] * 50)
    one, other = np.where(label, 0.5, 0.4999), np.where(label, 0.5, 0.4999)
    other[:10] = 0.1
    one[60] = 0.5
    found = difference(one, other, label)
    error = np.sqrt(11 / 100 - 0.09**2) / 10
    assert found["interval"] == [round(0.09 - 1.96 * error, 5), round(0.09 + 1.96 * error, 5)]
    assert difference(one, one, label)["interval"] == [-0.0196, 0.0196]
    third = difference(np.array([0.9, 0.9, 0.1]), np.array([0.1, 0.9, 0.1]), np.array([1, 1, 0]))
    assert (third["only_first_right"], third["only_second_right"], third["difference"]) == (1, 0, 0.33333)
    assert third["interval"] == [round(1 / 3 - 1.96 / 3, 5), round(1 / 3 + 1.96 / 3, 5)]


def test_the_table_gives_per_cent_with_two_digits():
    scores = {"accuracy": 0.98765, "accuracy_interval": [0.9712, 0.9956]}
    assert comparison_table({"ours": {"all": scores, "0-3": scores}, "cut": {"all": scores}}) == (
        "| | all | 0-3 |\n|---|---|---|\n"
        "| ours | 98.77 (97.12-99.56) | 98.77 (97.12-99.56) |\n| cut | 98.77 (97.12-99.56) |  |\n"
    )


def test_four_axes_with_the_wanted_planes_are_taken_and_three_are_not():
    require_planes(np.zeros((2, 8, 26, 26)), 8)
    with pytest.raises(Misconfigured):
        require_planes(np.zeros((2, 8, 26)), 8)


@pytest.fixture
def figures_back(monkeypatch):
    """Figures come back instead of being written."""
    monkeypatch.setattr(star_galaxy_report, "save", lambda figure, path: figure)


def lines_of(panel):
    return [
        (line.get_xdata().tolist(), list(line.get_ydata()), line.get_linestyle(), line.get_color())
        for line in panel.lines
    ]


@pytest.mark.usefixtures("figures_back")
def test_curves_are_drawn_over_the_passes_dotted_where_learnt_from():
    histories = {
        name: [CutoutEpoch(k / n, 1 - k / n / 9, k * 1.1 / n, 1 - k / n / 8) for n in range(1, count + 1)]
        for name, count, k in (("ours", 4, 1.0), ("other", 2, 0.5))
    }
    loss, accuracy = draw_histories("", histories).axes
    for panel, name in ((loss, "loss"), (accuracy, "accuracy")):
        expected = []
        for colour, history in zip(COLOURS, histories.values(), strict=False):
            passes = list(range(1, len(history) + 1))
            expected.append((passes, [getattr(one, name) for one in history], ":", colour))
            expected.append((passes, [getattr(one, f"validation_{name}") for one in history], "-", colour))
        assert lines_of(panel) == expected
        assert (panel.get_xlabel(), panel.get_ylabel()) == ("pass", name)
    assert loss.get_yscale() == "log"
    assert accuracy.get_ylim() == (0.9, 1.0)
    legend = accuracy.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["ours", "other"]
    assert (legend.get_frame_on(), legend.get_texts()[0].get_fontsize()) == (False, 8)


@pytest.mark.usefixtures("figures_back")
def test_the_confusion_shows_counts_and_shares_of_the_rows():
    figures = {"one": {"confusion": [[30, 10], [5, 5]]}, "other": {"confusion": [[0, 0], [1, 2]]}}
    figure = draw_confusion("", figures)
    assert (tuple(figure.get_size_inches()), figure.dpi) == ((5.0, 2.6), 130)
    first, second = figure.axes
    assert [panel.get_subplotspec().get_geometry()[:3] for panel in figure.axes] == [(1, 2, 0), (1, 2, 1)]
    np.testing.assert_allclose(first.images[0].get_array(), [[0.75, 0.25], [0.5, 0.5]])
    np.testing.assert_allclose(second.images[0].get_array(), [[0, 0], [1 / 3, 2 / 3]])
    assert first.images[0].get_clim() == (0, 1)
    written = {text.get_position(): (text.get_text(), text.get_color()) for text in first.texts}
    assert written == {
        (0, 0): ("30\n75.00%", "w"), (1, 0): ("10\n25.00%", "k"),
        (0, 1): ("5\n50.00%", "k"), (1, 1): ("5\n50.00%", "k"),
    }  # fmt: skip
    for panel, name in ((first, "one"), (second, "other")):
        assert (panel.get_title(), panel.title.get_fontsize(), panel.get_xlabel()) == (name, 9, "said")
        assert (panel.get_xticks().tolist(), panel.get_yticks().tolist()) == ([0, 1], [0, 1])
        assert [text.get_text() for text in panel.get_yticklabels()] == ["galaxy", "star"]
    assert (first.get_ylabel(), second.get_ylabel()) == ("true", "")


@pytest.mark.usefixtures("figures_back")
def test_scores_are_drawn_over_what_they_depend_on():
    rng = np.random.default_rng(3)
    label = rng.integers(0, 2, 60)
    said = {"ours": np.clip(0.4 * label + rng.uniform(0, 0.6, 60), 0, 1), "other": rng.uniform(0, 1, 60)}
    bins = [
        {"lo": 18.0, "hi": 19.0, "n": 9, "accuracy": 0.9, "precision": 0.8, "recall": 0.85},
        {"lo": 19.0, "hi": 19.5, "n": 0, "accuracy": None, "precision": None, "recall": None},
        {"lo": 19.5, "hi": 20.0, "n": 1, "accuracy": 0.95, "precision": 0.81, "recall": 0.86},
    ]
    figures = {name: {"by_magnitude": bins, "ece": 0.01234} for name in said}
    roc, accuracy, stars, calibration = draw_performance("", said, figures, label).axes
    middle = [18.5, 19.75]
    for n, probability in enumerate(said.values()):
        false, hit, _ = roc_curve(label, probability, drop_intermediate=False)
        x, y, _, colour = lines_of(roc)[n]
        np.testing.assert_allclose(x, np.maximum(false[1:], 1e-4))
        np.testing.assert_allclose(y, hit[1:])
        assert colour == COLOURS[n]
        assert lines_of(accuracy)[n] == (middle, [0.9, 0.95], "-", COLOURS[n])
        assert lines_of(stars)[2 * n : 2 * n + 2] == [
            (middle, [0.8, 0.81], "-", COLOURS[n]), (middle, [0.85, 0.86], "--", COLOURS[n]),
        ]  # fmt: skip
        stated, seen, _ = reliability_diagram(probability, label)
        assert lines_of(calibration)[n] == (stated.tolist(), seen.tolist(), "-", COLOURS[n])
        assert {line.get_markersize() for line in (accuracy.lines[n], calibration.lines[n])} == {3}
    assert lines_of(calibration)[2] == ([0, 1], [0, 1], "-", "0.7")
    assert calibration.lines[2].get_linewidth() == 1
    assert (roc.get_xscale(), roc.get_xlim(), roc.get_ylim()) == ("log", (1e-4, 1), (0.8, 1.005))
    assert accuracy.get_ylim() == stars.get_ylim() == (0.75, 1.005)
    names = {roc: ["ours", "other"], calibration: ["ours: 0.0123", "other: 0.0123"]}
    for panel, words in names.items():
        legend = panel.get_legend()
        assert [text.get_text() for text in legend.get_texts()] == words
        assert (legend.get_frame_on(), legend.get_texts()[0].get_fontsize()) == (False, 7)
    assert calibration.get_legend().get_title().get_fontsize() == 7


@pytest.mark.usefixtures("figures_back")
def test_the_24_worst_mistakes_are_drawn_worst_first_in_rows_of_eight():
    rng = np.random.default_rng(4)
    cutouts = rng.normal(100, 3, (40, 2, 9, 9)).astype(np.float32)
    label = np.arange(40) % 2
    odds = np.where(label == 1, -1, 1) * np.linspace(0.1, 4, 40)
    odds[:13] *= -1  # right
    odds[39], odds[38] = 0.0, 0.0  # says galaxy: wrong, right
    figure = draw_mistakes("", cutouts, label, odds)
    drawn = list(range(37, 13, -1))
    assert len(figure.axes) == 24
    np.testing.assert_allclose(figure.get_size_inches(), (8 * 1.35, 3 * 1.55))
    assert figure.dpi == 110
    for place, (n, panel) in enumerate(zip(drawn, figure.axes, strict=True)):
        assert panel.get_subplotspec().get_geometry()[:3] == (3, 8, place)
        picture = cutouts[n, 0]
        edge = np.concatenate([picture[0], picture[1], picture[-2], picture[-1]])
        expected = np.arcsinh((picture - np.median(edge)) / edge.std())
        np.testing.assert_allclose(panel.images[0].get_array(), expected, rtol=1e-4, atol=1e-4)
        assert panel.images[0].origin == "lower"
        assert panel.get_title() == f"{['galaxy', 'star'][n % 2]}, p {1 / (1 + np.exp(-odds[n])):.2f}"
        assert panel.title.get_fontsize() == 7
        assert not panel.axison


@pytest.mark.usefixtures("figures_back")
@pytest.mark.parametrize(("count", "rows", "drawn"), [(0, 1, 0), (1, 1, 1), (8, 1, 8), (9, 2, 9), (30, 3, 24)])
def test_there_are_as_many_rows_of_mistakes_as_needed(count, rows, drawn):
    cutouts = np.full((30, 1, 6, 6), 5.0, np.float32)
    cutouts[:, 0, 3, 3] = 5.0 + 2e-6 * 2**20
    wrong = np.arange(30) < count
    figure = draw_mistakes("", cutouts, np.ones(30, int), np.where(wrong, 0.0, 1.0))
    assert len(figure.axes) == drawn
    assert figure.get_size_inches()[1] == pytest.approx(1.55 * rows)
    for panel in figure.axes:  # around a source without noise: in units of a millionth
        assert panel.images[0].get_array()[3, 3] == pytest.approx(np.arcsinh((cutouts[0, 0, 3, 3] - 5.0) / 1e-6))

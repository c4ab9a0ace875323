import numpy as np
import pytest
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from PIL import Image
from sklearn.metrics import auc, roc_auc_score

from flows.results.evaluation import picture_pages
from flows.results.evaluation.picture_pages import (
    WORST,
    draw_attribution,
    draw_curves,
    draw_fit,
    draw_tiles,
    draw_verdicts,
    worst_mistakes,
)
from flows.training.picture_fit import PictureEpoch

RNG = np.random.default_rng(6)
PICTURES = RNG.integers(0, 256, (8, 6, 9, 3)).astype(np.uint8)
FIGURES = {"classes": ["round", "long", "none"], "confusion": [[6, 2, 0], [5, 4, 1], [0, 0, 0]]}


@pytest.fixture
def drawn(monkeypatch):
    """Figures by the name of their file, which is not written."""
    found = {}
    monkeypatch.setattr(picture_pages, "save", lambda figure, path: found.update({path.name: figure}) or path)
    return found


def shown(panel):
    """Pixels of the images of a panel."""
    return [np.asarray(one.get_array()) for one in panel.get_children() if isinstance(one, AxesImage)]


def curves(panel):
    return [line.get_xydata() for line in panel.lines]


def test_the_worst_mistakes_are_those_of_the_least_probability_below_a_half():
    assert worst_mistakes([(0.4, ""), (0.5, ""), (0.1, ""), (0.499, ""), (0.9, "")]) == [2, 0, 3]
    assert worst_mistakes([(n / 100, "") for n in range(60)]) == list(range(WORST))
    assert WORST == 24
    assert worst_mistakes([]) == []


def test_verdicts_are_two_pictures(tmp_path):
    said = [(0.1 * n, f"no {n}") for n in range(8)]
    written = draw_verdicts(tmp_path / "new" / "folder", FIGURES, PICTURES, said)
    assert [path.name for path in written] == ["confusion.png", "mistakes.png"]
    for path in written:
        with Image.open(path) as picture:
            assert picture.format == "PNG"


def test_confusion_is_drawn_as_shares_of_the_labels_with_their_counts(drawn, tmp_path):
    draw_verdicts(tmp_path, FIGURES, PICTURES, [(0.9, "")] * 8)
    (panel,) = drawn["confusion.png"].axes
    (image,) = shown(panel)
    np.testing.assert_allclose(image, [[0.75, 0.25, 0], [0.5, 0.4, 0.1], [0, 0, 0]])
    assert panel.images[0].get_clim() == (0, 1)
    words = {one.get_position(): (one.get_text(), one.get_color()) for one in panel.texts}
    assert words == {
        (column, row): (str(count), "white" if (column, row) == (0, 0) else "black")  # the one cell above a half
        for row, counts in enumerate(FIGURES["confusion"])
        for column, count in enumerate(counts)
    }
    for axis, name in ((panel.xaxis, "verdict"), (panel.yaxis, "label")):
        assert axis.get_ticklocs().tolist() == [0, 1, 2]
        assert [one.get_text() for one in axis.get_ticklabels()] == FIGURES["classes"]
        assert axis.get_label_text() == name
        assert not any(line.get_visible() for line in axis.get_gridlines())
    assert {one.get_rotation() for one in panel.get_xticklabels()} == {20}


def test_mistakes_are_in_rows_of_six_the_worst_first(drawn, tmp_path):
    draw_verdicts(tmp_path, FIGURES, PICTURES, [(0.4 - 0.05 * n, f"no {n}") for n in range(8)])
    figure = drawn["mistakes.png"]
    panels = figure.axes
    assert len(panels) == 12
    assert [one.get_title() for one in panels] == [f"no {7 - n}" for n in range(8)] + [""] * 4
    for n, panel in enumerate(panels):
        places = panel.get_subplotspec()
        assert (places.get_gridspec().get_geometry(), places.num1) == ((2, 6), n)
        assert not panel.axison
        assert len(shown(panel)) == (n < 8)
    np.testing.assert_array_equal(shown(panels[0])[0], PICTURES[7])
    assert figure.get_size_inches() == pytest.approx((9.6, 3.7))
    assert (figure.dpi, panels[0].title.get_fontsize()) == (110, 6)


@pytest.mark.parametrize(("count", "rows"), [(0, 1), (6, 1), (7, 2)])
def test_there_is_a_row_at_least(drawn, tmp_path, count, rows):
    draw_verdicts(tmp_path, FIGURES, PICTURES, [(0.1, "")] * count)
    assert len(drawn["mistakes.png"].axes) == 6 * rows


def test_curves_of_each_class(drawn, tmp_path):
    probability = np.round(RNG.uniform(size=(60, 3)), 2)
    truth = RNG.uniform(size=60) < probability[:, 0]
    right = [frozenset(["round"]) if one else frozenset(["long"]) for one in truth]
    right[0], right[1] = frozenset(["round", "long"]), frozenset(["long", "none"])
    draw_curves(tmp_path, probability, right, FIGURES["classes"])
    roc, precision, calibration = drawn["roc.png"].axes
    known = np.arange(60) != 0  # open between round and long; not long or none, which is not round in any case
    truth[1] = False
    round_curve, long_curve, middle = curves(roc)
    assert auc(*round_curve.T) == pytest.approx(roc_auc_score(truth[known], probability[known, 0]))
    of_long = np.arange(60) > 1
    assert auc(*long_curve.T) == pytest.approx(roc_auc_score(~truth[of_long], probability[of_long, 1]))
    assert middle.tolist() == [[0, 0], [1, 1]]
    labels = [f"round ({truth[known].sum()})", f"long ({(~truth)[of_long].sum()})"]  # of none there is none
    assert [one.get_text() for one in roc.get_legend().get_texts()] == labels
    complete, pure = curves(precision)[0].T
    for threshold in (0.2, 0.5, 0.8):
        said = known & (probability[:, 0] >= threshold)
        place = np.array([truth[said].sum() / truth[known].sum(), truth[said].mean()])
        assert np.abs(np.stack([complete, pure], 1) - place).sum(1).min() == pytest.approx(0, abs=1e-9)
    for panel, names in (
        (roc, ("false positive rate", "completeness")), (precision, ("completeness", "purity")),
        (calibration, ("probability", "share that is so")),
    ):  # fmt: skip
        assert (panel.get_xlabel(), panel.get_ylabel()) == names
    assert {line.get_linestyle() for panel in (roc, calibration) for line in panel.lines[-1:]} == {":"}


def test_calibration_has_the_tenths_with_five_pictures_or_more(drawn, tmp_path):
    given = np.repeat([0.0, 0.05, 0.42, 0.55, 0.99, 1.0], [2, 3, 4, 5, 3, 3])
    so = np.zeros(20, bool)
    so[[0, 10, 11, 12, 17, 18]] = True
    right = [frozenset(["a"] if one else ["b"]) for one in so]
    draw_curves(tmp_path, given[:, None], right, ["a"])
    found, middle = curves(drawn["roc.png"].axes[2])
    np.testing.assert_allclose(found, [[0.03, 0.2], [0.55, 0.6], [0.995, 1 / 3]], atol=1e-12)
    assert middle.tolist() == [[0, 0], [1, 1]]


def test_without_any_class_there_is_no_legend(drawn, tmp_path):
    draw_curves(tmp_path, np.ones((3, 1)), [frozenset(["a"])] * 3, ["a"])
    assert drawn["roc.png"].axes[0].get_legend() is None


def test_what_speaks_for_a_verdict_is_red(drawn, tmp_path):
    picture, lost = np.full((2, 2, 3), 100, np.uint8), np.array([[0.2, 0.1], [0.0, -0.3]], np.float32)
    draw_attribution(tmp_path, [(picture, lost, "round"), (picture, np.zeros((2, 2), np.float32), "long")])
    panels = drawn["attribution.png"].axes[:4]
    assert [one.get_title() for one in panels] == ["round", "what spoke for it", "long", "what spoke for it"]
    plain, red, _, nothing = (shown(one)[0] for one in panels)
    np.testing.assert_array_equal(plain, picture)
    np.testing.assert_array_equal(red[[0, 0, 1, 1], [0, 1, 0, 1]], [[255, 40, 40], [178, 70, 70], *[[100] * 3] * 2])
    np.testing.assert_array_equal(nothing, picture)


def test_tiles_are_coloured_by_their_verdict_and_end_with_the_picture(drawn, tmp_path):
    picture = np.zeros((30, 50, 3), np.uint8)
    corners, verdicts = [(0, 0), (0, 32), (24, 0)], ["round", "long", "round"]
    path = draw_tiles(tmp_path / "new", tmp_path / "sky.png", picture, corners, verdicts, 32)
    figure = drawn[path.name]
    (panel,) = figure.axes
    tiles = [one for one in panel.patches if isinstance(one, Rectangle)]
    assert [(*one.get_xy(), one.get_width(), one.get_height()) for one in tiles] == [
        (0, 0, 32, 30), (32, 0, 18, 30), (0, 24, 32, 6),
    ]  # fmt: skip
    faces = [one.get_facecolor() for one in tiles]
    assert faces[0] == faces[2] != faces[1]
    assert {face[3] for face in faces} == {0.3}
    (legend,) = figure.legends
    assert [one.get_text() for one in legend.get_texts()] == ["long", "round"]
    marks = [one.get_facecolor() for one in legend.get_patches()]
    assert [one[:3] for one in marks] == [faces[1][:3], faces[0][:3]]
    assert {one[3] for one in marks} == {0.6}
    assert not panel.axison
    np.testing.assert_array_equal(shown(panel)[0], picture)
    assert path.name.startswith("sky_")
    assert path != draw_tiles(tmp_path / "new", tmp_path / "other" / "sky.png", picture, corners, verdicts, 32)


def test_a_fit_is_drawn_pass_by_pass(drawn, tmp_path):
    draw_fit(tmp_path, [PictureEpoch(0.9, 0.8, 0.5), PictureEpoch(0.6, 0.7, 0.75)])
    left, right = drawn["curves.png"].axes
    assert [one.tolist() for one in curves(left)] == [[[1, 0.9], [2, 0.6]], [[1, 0.8], [2, 0.7]]]
    assert [one.get_text() for one in left.get_legend().get_texts()] == ["training", "validation"]
    assert [one.tolist() for one in curves(right)] == [[[1, 0.5], [2, 0.75]]]
    assert right.get_ylim() == (0, 1)
    assert [one.get_xlabel() for one in (left, right)] == ["pass", "pass"]

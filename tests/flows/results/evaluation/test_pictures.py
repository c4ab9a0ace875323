import numpy as np
import pytest
from PIL import Image

from flows.results.evaluation import pictures
from flows.results.evaluation.pictures import FALSE, FOUND, ORACLE, draw, draw_stamps, new_figure, plain_ticks
from flows.results.evaluation.summary import summarise
from tests.support.evaluation import evaluation_of


def evaluation(n, oracle):
    rng = np.random.default_rng(1)
    snr = rng.uniform(3, 50, n)
    errors = {name: rng.normal(0, 1, n) for name in ("dx", "dy", "length_error", "angle_error")}
    known = {"length": rng.uniform(0, 60, n), "oracle_snr": snr if oracle else np.full(n, np.nan), **errors}
    score, false = np.where(snr > 10, rng.uniform(0.2, 1, n), -np.inf), rng.uniform(0, 0.5, 6)
    return evaluation_of(snr, score, false, 4, oracle_area_px=9e6, false_snr=np.full(6, 7.0), **known)


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


@pytest.fixture
def figure_of(tmp_path, monkeypatch):
    """Draw, and return the figures by the name of their file."""
    drawn = {}
    monkeypatch.setattr(pictures, "save", lambda figure, path: drawn.update({path.stem: figure}) or path)

    def made(draw, *given):
        draw(*given, tmp_path)
        return drawn

    return made


def share_of(lo, hi, n, value, low, high):
    return {"lo": lo, "hi": hi, "n": n, "completeness": value, "interval": (low, high)}


def figures_of(**change):
    by_snr = [share_of(3, 5, 4, 0.25, 0.1, 0.5), share_of(5, 7, 0, None, 0, 1), share_of(7, 10, 2, 1.0, 0.3, 1.0)]
    by_length = [share_of(0, 4, 4, 0.25, 0.1, 0.5), share_of(4, 20, 2, 0.5, 0.25, 0.875)]
    bins = {"completeness_by_snr": by_snr, "completeness_by_length": by_length}
    curve = [
        {"false_per_image": 4.0, "c7": 0.75, "c10": 1.0},
        {"false_per_image": 0.0, "c7": 0.5, "c10": None},
        {"false_per_image": 0.0, "c7": None, "c10": None},
    ]
    known = {"images": 2, "n_streaks": 6, "false_per_image": 0.125, "s50": 6.25, "curve": curve}
    oracle = {"threshold": 4.75, "false_per_image": 0.35, "c7": 0.625, "c10": 0.9375, **bins}
    return known | bins | {"oracle": oracle} | change


def bars(panel):
    """Place, share and ends of each point with its interval."""
    found = []
    for container in panel.containers:
        point, _, (bar,) = container.lines
        found.append((*point.get_xydata()[0], *bar.get_segments()[0][:, 1]))
    return found


def series(panel):
    """Data of the lines that have any."""
    return [line.get_xydata().tolist() for line in panel.lines if len(line.get_xydata())]


def sizes(panel):
    """Widths of lines, sizes of marks and of words, as far as they are set."""
    texts = [text.get_fontsize() for text in (*panel.texts, panel.title)]
    lines = {
        (line.get_linestyle(), line.get_marker(), line.get_linewidth(), line.get_markersize()) for line in panel.lines
    }
    return lines, texts


def test_completeness_is_drawn_bin_by_bin_with_its_interval(figure_of):
    (panel,) = figure_of(draw, evaluation(9, True), figures_of())["completeness_by_snr"].axes
    assert (panel.get_xscale(), panel.get_xlim(), panel.get_ylim()) == ("log", (3, 10), (-0.1, 1.1))
    assert panel.get_xticks().tolist() == [3, 5, 7, 10]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["3", "5", "7", "10"]
    assert panel.get_xticks(minor=True).tolist() == []
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("signal to noise", "completeness")
    expected = [
        (3 * (5 / 3) ** offset, 0.25, 0.1, 0.5) if first else (7 * (10 / 7) ** offset, 1.0, 0.3, 1.0)
        for offset in (0.55, 0.45)
        for first in (True, False)
    ]
    assert np.array(bars(panel)) == pytest.approx(np.array(expected))
    steps = [one for one in series(panel) if len(one) == 2]
    assert steps == [[[3, 0.25], [5, 0.25]], [[7, 1], [10, 1]]] * 2 + [[[6.25, 0], [6.25, 1]]]
    assert [line.get_color() for line in panel.lines if len(line.get_xydata()) == 2] == [ORACLE] * 2 + [FOUND] * 3
    texts = [(text.get_text(), *text.get_position()) for text in panel.texts]
    assert texts[0] == (" 50 % at 6.2", 6.25, 1.04)
    assert [text for text, *_ in texts[1:]] == ["n 4", "n 0", "n 2"]
    assert [x for _, x, _ in texts[1:]] == pytest.approx([15**0.5, 35**0.5, 70**0.5])
    assert {y for *_, y in texts[1:]} == {-0.055}
    assert panel.get_title() == "6 streaks on 2 images; bars: 95 %"


def test_completeness_by_length_is_linear(figure_of):
    drawn = figure_of(draw, evaluation(9, True), figures_of())["completeness_by_length"]
    (panel,) = drawn.axes
    assert (panel.get_xscale(), panel.get_xlim()) == ("linear", (0, 20))
    expected = [(2.2, 0.25, 0.1, 0.5), (12.8, 0.5, 0.25, 0.875), (1.8, 0.25, 0.1, 0.5), (11.2, 0.5, 0.25, 0.875)]
    assert np.array(bars(panel)) == pytest.approx(np.array(expected))
    assert [(text.get_text(), *text.get_position()) for text in panel.texts] == [
        ("n 4", 2, -0.055),
        ("n 2", 12, -0.055),
    ]
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "matched filter that knows the truth, > 4.8 sigma",
        "found, 0.12 false per image",
    ]


def test_what_is_not_known_is_not_drawn(figure_of):
    drawn = figure_of(draw, evaluation(9, False), figures_of(oracle=None, s50=None))
    (panel,) = drawn["completeness_by_snr"].axes
    assert len(bars(panel)) == 2
    assert [text.get_text() for text in panel.texts] == ["n 4", "n 0", "n 2"]
    assert len(drawn["false_per_image"].axes[0].lines) == 3


def test_the_curve_has_its_floor_and_the_filter_that_knows_the_truth(figure_of):
    drawn = figure_of(draw, evaluation(9, True), figures_of())["false_per_image"]
    (panel,) = drawn.axes
    c10, oracle10, c7, oracle7, one = panel.lines
    np.testing.assert_array_equal(c10.get_xydata(), [[4, 1], [0.25, np.nan]])
    np.testing.assert_array_equal(c7.get_xydata(), [[4, 0.75], [0.25, 0.5]])
    assert (c10.get_linestyle(), c7.get_linestyle()) == ("-", "--")
    assert (oracle10.get_xydata().tolist(), oracle7.get_xydata().tolist()) == ([[0.35, 0.9375]], [[0.35, 0.625]])
    assert (oracle10.get_fillstyle(), oracle7.get_fillstyle()) == ("full", "none")
    assert [line.get_color() for line in panel.lines] == [FOUND, ORACLE, FOUND, ORACLE, FALSE]
    assert one.get_xdata() == [1.0, 1.0]
    assert (panel.get_xscale(), panel.get_ylim()) == ("log", (0, 1.03))
    assert panel.get_title() == "raising the least reliability; left edge: none (0.25 drawn)"
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "S/N ≥ 10", "matched filter that knows the truth, S/N ≥ 10",
        "S/N ≥ 7", "matched filter that knows the truth, S/N ≥ 7",
    ]  # fmt: skip


def test_the_filter_is_drawn_only_where_it_has_a_share_and_no_image_counts_as_one(figure_of):
    figures = figures_of(images=0)
    figures["oracle"] |= {"c10": None}
    (panel,) = figure_of(draw, evaluation(9, True), figures)["false_per_image"].axes
    assert [line.get_label() for line in panel.lines[:3]] == [
        "S/N ≥ 10", "S/N ≥ 7", "matched filter that knows the truth, S/N ≥ 7",
    ]  # fmt: skip
    assert panel.lines[0].get_xdata().tolist() == [4.0, 0.5]


def test_residuals_of_the_bright_and_long_stand_out(figure_of):
    """Found: bright and long at the limits; too faint; too short; without length. Missed: one."""
    given = evaluation_of(
        [10.0, 9.99, 10.0, 20.0, 50.0], [1.0, 1.0, 1.0, 1.0, -np.inf], images=1,
        length=np.array([8.0, 8.0, 7.99, 0.0, 30.0]), dx=np.arange(5.0), dy=np.arange(5.0) + 10,
        length_error=np.arange(5.0) + 20, angle_error=np.arange(5.0) + 30,
    )  # fmt: skip
    position, length, angle = figure_of(draw, given, figures_of())["residuals"].axes
    assert series(position)[:2] == [[[1, 11], [2, 12], [3, 13]], [[0, 10]]]
    assert series(length)[:2] == [[[9.99, 21], [10, 22], [20, 23]], [[10, 20]]]
    assert series(angle)[:2] == [[[8, 31], [7.99, 32]], [[8, 30]]]
    assert [line.get_label() for line in position.lines[:2]] == ["others", "S/N ≥ 10, length ≥ 8 px"]
    assert series(position)[2:] == [[[0, 0], [1, 0]], [[0, 0], [0, 1]]]
    assert series(length)[2:] == series(angle)[2:] == [[[0, 0], [1, 0]]]
    assert (length.get_xscale(), angle.get_ylim()) == ("log", (-92, 92))
    assert angle.get_yticks().tolist() == [-90, -60, -30, 0, 30, 60, 90]
    assert position.get_aspect() == 1.0


def test_stamps_are_drawn_with_their_intervals(figure_of):
    thresholds = [row(0.0, 0.9, 0.7), row(0.5, 0.8, 0.3)]
    figures = {"at_default": row(0.6, 0.75, 0.25), "thresholds": thresholds, "low_rb": 0.5}
    (panel,) = figure_of(draw_stamps, figures)["stamps"].axes
    assert (panel.get_xlim(), panel.get_ylim()) == ((-0.02, 1.02), (-0.02, 1.02))
    assert series(panel)[0] == [[0.7, 0.9], [0.3, 0.8]]
    (_, _, (across, upward)), (point, _, _) = (one.lines for one in panel.containers)
    assert np.array(across.get_segments()) == pytest.approx(
        np.array([[[0.6, 0.9], [0.8, 0.9]], [[0.2, 0.8], [0.4, 0.8]]])
    )
    assert np.array(upward.get_segments()) == pytest.approx(
        np.array([[[0.7, 0.8], [0.7, 1.0]], [[0.3, 0.7], [0.3, 0.9]]])
    )
    assert point.get_xydata().tolist() == [[0.25, 0.75]]
    assert panel.get_xlabel() == "share of the 40 stamps with rb < 0.5 that pass"
    assert panel.get_ylabel() == "share of the 90 known asteroids that pass"
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["default, reliability ≥ 0.6"]


def test_pictures_keep_their_size_and_strokes(figure_of):
    """What papers and slides that hold these pictures were laid out for."""
    drawn = figure_of(draw, evaluation(40, True), figures_of())
    sizes_of = {name: (*figure.get_size_inches(), figure.dpi) for name, figure in drawn.items()}
    single = (6.4, 4.4, 130)
    assert sizes_of == {
        "completeness_by_snr": single, "completeness_by_length": single, "false_per_image": single,
        "residuals": (pytest.approx(12.6), 4.4, 130),
    }  # fmt: skip
    lines, texts = sizes(drawn["completeness_by_snr"].axes[0])
    assert lines == {("-", "None", 2, 6), ("-", "o", 1.2, 4), ("-", "o", 1.5, 4), (":", "None", 0.8, 6)}
    assert texts == [8, 7, 7, 7, 9]
    lines, texts = sizes(drawn["false_per_image"].axes[0])
    assert lines == {("-", "None", 1.5, 6), ("--", "None", 1.5, 6), ("None", "o", 1.5, 6), (":", "None", 0.8, 6)}
    assert texts == [9]
    for panel in drawn["residuals"].axes:
        assert sizes(panel)[0] == {("None", ".", 1.5, 4), ("-", "None", 0.6, 6)}
    for name in ("completeness_by_snr", "false_per_image"):
        (legend,) = drawn[name].legends
        assert (legend.get_texts()[0].get_fontsize(), legend._ncols) == (8, 2)
        assert not legend.get_frame_on()
    legend = drawn["residuals"].axes[0].get_legend()
    assert (legend.get_texts()[0].get_fontsize(), legend.get_frame_on()) == (8, False)
    panel = drawn["residuals"].axes[1]
    assert {line.get_linewidth() for line in panel.get_xgridlines()} == {0.6}
    assert panel.get_axisbelow()
    assert [panel.spines[side].get_visible() for side in ("top", "right", "left", "bottom")] == [
        False,
        False,
        True,
        True,
    ]
    assert [axes.get_subplotspec().get_geometry()[1:] for axes in drawn["residuals"].axes] == [
        (3, 0, 0),
        (3, 1, 1),
        (3, 2, 2),
    ]
    figures = {"at_default": row(0.6, 0.75, 0.25), "thresholds": [row(0.5, 0.8, 0.3)] * 2, "low_rb": 0.5}
    stamps = figure_of(draw_stamps, figures)["stamps"].axes[0]
    assert sizes(stamps) == ({("-", "None", 1, 6), ("None", "o", 0.6, 3), ("None", "s", 1.5, 6)}, [9])
    assert stamps.containers[0].lines[0].get_alpha() == 0.6
    assert (stamps.get_legend().get_texts()[0].get_fontsize(), stamps.get_legend().get_frame_on()) == (8, False)

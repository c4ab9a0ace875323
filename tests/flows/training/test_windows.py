import numpy as np
import pytest

from flows.pipeline.models import load_model
from flows.pipeline.weights import read_card
from flows.storage.zarr_tiles import TileStore
from flows.training import windows as training
from flows.training.candidates import search_example
from flows.training.examples import pixels
from flows.training.window_fit import Epoch, FitPlan
from flows.training.windows import (
    SIDE,
    WindowPlan,
    away,
    cut_windows,
    empty_corners,
    hard_negatives,
    streak_corners,
    train_windows,
)
from kernels.image.variation import evened
from schemas.pixels import UNUSABLE, SearchGrid
from tests.support.models import write_windows
from tests.support.truth import truth_table

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


SHAPE = (400, 500)


STREAKS = truth_table(
    [
        ("streak", 100.0, 100.0, 3.0, 20.0, 10.0, 1.0),
        ("streak", 300.0, 200.0, 60.0, 120.0, 20.0, 1.0),
        ("streak", 400.0, 300.0, 5.0, 0.0, 3.0, 1.0),
        ("streak", 450.0, 350.0, 5.0, 0.0, 30.0, 0.2),
        ("point", 50.0, 300.0, 0.0, 0.0, 30.0, 1.0),
    ]
)


def test_windows_at_streaks_hold_a_part_of_them():
    corners = streak_corners(STREAKS, SHAPE, 200, 1)
    centre = corners[:, ::-1] + (SIDE - 1) / 2
    near_first = np.hypot(*(centre - [100, 100]).T) < 15
    along = (centre - [300, 200]) @ [np.cos(np.radians(120)), np.sin(np.radians(120))]
    across = (centre - [300, 200]) @ [-np.sin(np.radians(120)), np.cos(np.radians(120))]
    near_second = (np.abs(along) < 24 + 12) & (np.abs(across) < 12)
    assert (near_first | near_second).all()
    assert near_first.sum() == near_second.sum() == 200
    assert np.ptp(along[near_second]) > 50


def test_faint_and_hidden_streaks_and_points_teach_nothing():
    corners = streak_corners(STREAKS, SHAPE, 50, 1)
    assert len(corners) == 100


def test_windows_stay_inside_the_image():
    corners = streak_corners(truth_table([("streak", 12.0, 388.0, 3.0, 0.0, 10.0, 1.0)]), SHAPE, 500, 2)
    assert len(corners)
    assert (corners >= 0).all()
    assert (corners[:, 0] <= SHAPE[0] - SIDE).all()


def test_empty_windows_are_clear_of_everything_real():
    corners = empty_corners(STREAKS, SHAPE, 3000, 3)
    assert 2000 < len(corners) < 3000
    centre = corners + (SIDE - 1) / 2
    for x, y in ((100, 100), (400, 300), (450, 350), (50, 300), (300 + 20 * np.cos(2.094), 200 + 20 * np.sin(2.094))):
        assert np.hypot(centre[:, 1] - x, centre[:, 0] - y).min() > 23.9


def test_without_sources_everything_is_clear():
    assert away(truth_table([]), np.zeros((4, 2), np.int64)).all()


def test_seed_decides():
    assert (streak_corners(STREAKS, SHAPE, 9, 4) == streak_corners(STREAKS, SHAPE, 9, 4)).all()
    assert (streak_corners(STREAKS, SHAPE, 9, 4) != streak_corners(STREAKS, SHAPE, 9, 5)).any()


def test_cut_windows_are_z_scored_and_masked_ones_left_out():
    image = np.random.default_rng(0).normal(50, 3, SHAPE).astype(np.float32)
    usable = np.ones(SHAPE, bool)
    usable[:100] = False
    windows = cut_windows(image, usable, 50.0, np.array([[0, 0], [150, 20], [374, 474]]))
    assert windows.shape == (2, 1, SIDE, SIDE)
    box = image[150:176, 20:46].astype(float)
    np.testing.assert_allclose(windows[0, 0], (box - box.mean()) / box.std(), atol=1e-5)
    assert windows[1].mean() == pytest.approx(0, abs=1e-5)


def test_hard_negatives_are_the_worst_and_hold_nothing_real(examples, tmp_path):
    write_windows(tmp_path, threshold=1e-6)
    windows, corners = hard_negatives(examples[1], tmp_path, 50)
    assert windows.shape == (50, 1, 26, 26)
    np.testing.assert_array_equal(windows, cut_windows(*pixels(examples[1]), corners))
    assert away(examples[1].truth, corners).all()
    store = TileStore.open(examples[1].store)
    planes = {name: store.read_all(name) for name in ("difference", "mask")}
    hits = search_example(planes, store.info, str(tmp_path)).rows
    every = 7 * np.stack([hits["row"].to_numpy(), hits["column"].to_numpy()], 1).astype(np.int64)
    clear = np.sort(hits["logit"].to_numpy()[away(examples[1].truth, every)])[::-1]
    by_place = dict(zip(map(tuple, every.tolist()), hits["logit"].to_pylist(), strict=True))
    np.testing.assert_allclose([by_place[tuple(corner)] for corner in corners.tolist()], clear[:50])


def test_pixels_are_those_of_the_tiles(examples):
    store = TileStore.open(examples[0].store)
    image, usable, background = pixels(examples[0])
    np.testing.assert_array_equal(image, evened(store.read_all("difference"), background, store.info.noise_variation))
    np.testing.assert_array_equal(usable, (store.read_all("mask") & UNUSABLE) == 0)
    assert background == store.info.background


@pytest.mark.parametrize(
    ("kind", "snr", "visible", "count"),
    [
        ("streak", 4.0, 0.5, 9), ("streak", 3.999, 0.5, 0), ("streak", 4.0, 0.499, 0), ("streak", 3.0, 1.0, 0),
        ("streak", 50.0, 0.1, 0), ("point", 50.0, 1.0, 0),
    ],
)  # fmt: skip
def test_streaks_at_the_least_snr_and_half_visible_teach_and_those_just_below_do_not(kind, snr, visible, count):
    truth = truth_table([(kind, 250.0, 200.0, 3.0, 0.0, snr, visible)])
    assert len(streak_corners(truth, SHAPE, 9, 1)) == count


def test_windows_begin_anywhere_from_the_first_pixel_to_the_last_that_leaves_room():
    small = (33, 40)
    last = np.subtract(small, SIDE)
    centres = truth_table([("streak", x, 16.0, 0.0, 0.0, 9.0, 1.0) for x in (12.5, 20.0, 27.0)])
    for corners in (streak_corners(centres, small, 400, 1), empty_corners(truth_table([]), small, 2000, 1)):
        assert (corners.min(axis=0) == 0).all()
        assert (corners.max(axis=0) == last).all()


@pytest.mark.parametrize(("apart", "clear"), [(23.9, False), (24.0, False), (24.1, True)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sign", [-1, 1])
def test_an_empty_window_is_more_than_24_px_from_a_source_along_either_axis(apart, clear, axis, sign):
    middle = [212.5, 112.5]
    middle[axis] += sign * apart
    truth = truth_table([("point", *middle, 0.0, 0.0, 30.0, 1.0)])
    assert away(truth, np.array([[100, 200]])).tolist() == [clear]


def test_windows_lie_where_the_seed_says():
    found = [streak_corners(STREAKS, SHAPE, 40, 6), empty_corners(STREAKS, SHAPE, 200, 6)]
    assert [len(one) for one in found] == GOLDEN_COUNTS
    summary = [
        [one[:, 0].sum(), one[:, 1].sum(), one.prod(1).sum(), (one.T @ np.arange(len(one))).sum()] for one in found
    ]
    np.testing.assert_allclose(summary, GOLDEN_CORNERS, rtol=1e-6)


GOLDEN_COUNTS = [80, 190]
GOLDEN_CORNERS = [[11071, 15003, 2477223, 1268483], [36156, 44154, 8374166, 7431792]]


@pytest.mark.parametrize(("length", "reach"), [(60.0, 24.0), (12.0, 0.0), (14.0, 1.0)])
def test_windows_are_centred_up_to_6_px_from_the_ends_of_a_trail_and_8_px_beside_it(length, reach):
    truth = truth_table([("streak", 250.0, 200.0, length, 90.0, 20.0, 1.0)])
    corners = streak_corners(truth, SHAPE, 3000, 1)
    y, x = (corners + (SIDE - 1) / 2).T
    assert (x.min(), x.max()) == pytest.approx((242, 258), abs=0.6)
    assert (y.min(), y.max()) == pytest.approx((200 - reach - 8, 200 + reach + 8), abs=1.5)


def test_a_window_around_a_trail_without_end_is_centred_on_it():
    truth = truth_table([("streak", 250.0, 200.0, 112.0, 0.0, 20.0, 1.0)])
    y, x = (streak_corners(truth, SHAPE, 2000, 1) + (SIDE - 1) / 2).T
    assert (y.mean(), x.mean()) == pytest.approx((200, 250), abs=2)
    assert x.std() == pytest.approx(np.sqrt(100**2 / 12 + 16**2 / 12), rel=0.05)


PLAN = WindowPlan(per_streak=2, rounds=2, most=5, first=FitPlan(epochs=3), later=FitPlan(epochs=4), floor=0.3)


def test_a_sample_has_as_many_empty_windows_as_windows_at_streaks(examples):
    one = training._sample(examples[:1], PLAN, 1, 3)
    count = int(one.labels.sum())
    assert 0 < count <= 2 * 12
    assert one.labels.tolist() == [1] * count + [0] * count
    found = [one.windows[:count, 0, 5:20, 5:20], one.windows[count:, 0, 5:20, 5:20]]
    np.testing.assert_allclose([(part**3).sum(dtype=np.float64) for part in found], GOLDEN_SAMPLE, rtol=1e-4)


GOLDEN_SAMPLE = [10328.722462495381, -571.372655153539]


def test_each_round_but_the_last_adds_the_false_alarms_that_are_new(monkeypatch, tmp_path):
    fits, written, samples, lines = [], [], [], []

    def sample(examples, plan, seed, part):
        samples.append((examples, seed, part))
        return training.TrainingWindows(np.full((4, 1, 2, 2), part, np.float32), np.array([1, 1, 0, 0]))

    def fit(net, windows, labels, check, plan):
        assert not fits or net is fits[0][0]
        fits.append((net, windows[:, 0, 0, 0].tolist(), labels.tolist(), check[0][0, 0, 0, 0], plan))
        return (Epoch(1, 0.5, 1, 0.25), Epoch(1, 0.5, 1, 0.75))

    def mine(example, weights, most):
        assert (weights, most) == (tmp_path, 5)
        corners = np.array([[0, 7], [7, 0], [7 * len(fits), 14]])
        return np.arange(3, dtype=np.float32)[:, None, None, None] + 10 * example + 100 * len(fits) + np.zeros(
            (3, 1, 2, 2), np.float32
        ), corners

    monkeypatch.setattr(training, "_sample", sample)
    monkeypatch.setattr(training, "fit_windows", fit)
    monkeypatch.setattr(training, "hard_negatives", mine)
    monkeypatch.setattr(training, "write_model", lambda out, arrays, card: written.append(card))
    monkeypatch.setattr(training, "window_metrics", lambda net, windows, labels: {"windows": windows[0, 0, 0, 0]})
    monkeypatch.setattr(training, "draw_history", lambda path, history, metrics: lines.append((path, len(history))))
    figures = train_windows(tmp_path, [1, 2], [3], [4], PLAN, {"data": "x"}, 9, 1, lines.append)
    assert samples == [([1, 2], 9, 3), ([3], 9, 5), ([4], 9, 7)]
    first = [3.0] * 4
    second = [*first, 110, 111, 112, 120, 121, 122]
    assert [one[1] for one in fits] == [first, second, [*second, 212, 222]]
    assert fits[2][2] == [1, 1, 0, 0] + [0] * 8
    assert [one[3] for one in fits] == [5.0] * 3
    assert [one[4] for one in fits] == [PLAN.first, PLAN.later, PLAN.later]
    assert figures == {"windows": 7.0}
    assert [card["metrics"] for card in written] == [{}, {}, {}, figures]
    assert lines[-1] == (tmp_path / "training_windows.png", 3)
    assert [line for line in lines[:-1] if "fit on" in line] == [
        "round 0: fit on 4 windows, 2 of them streaks",
        "round 1: fit on 10 windows, 2 of them streaks",
        "round 2: fit on 12 windows, 2 of them streaks",
    ]
    assert "round 0: validation accuracy 0.7500" in lines
    assert "round 1: 2 new false windows in 2 exposures" in lines
    card = written[-1]
    assert (card["input"]["bands"], card["input"]["side"], card["threshold"]) == (1, 26, 0.3)
    assert card["training"] == {"data": "x"}

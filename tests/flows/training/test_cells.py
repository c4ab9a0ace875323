from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.special import expit

from flows.pipeline.models import load_model
from flows.pipeline.weights import read_card
from flows.training import cells as training
from flows.training.cell_fit import CellFit
from flows.training.cells import (
    CellPlan,
    RecoveryCurve,
    bright_places,
    hard_places,
    level_at,
    recovery,
    share_found,
    spots,
    spots_on,
    train_cells,
)
from flows.training.examples import open_field, truth_targets
from kernels.image.search_image import Places, SearchImage
from kernels.nets.streak_net import CELL, PLANES
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.search.dense_search import DenseSearch, dense_grid
from kernels.statistics.completeness import Share
from kernels.trails.trail_model import trail_image
from tests.support.field import field_of
from tests.support.models import bright_net
from tests.support.truth import truth_table

PLAN = CellPlan(channels=8, dilations=(1, 2), first=CellFit(4), later=CellFit(3), rounds=1, threshold=0.4)


@pytest.mark.slow
def test_mines_its_own_false_alarms_and_writes_what_loads(examples, tmp_path):
    lines = []
    about = {"data": "a test"}
    figures = train_cells(tmp_path, examples[:1], examples[1:], PLAN, about, 1, 1, lines.append)
    card = read_card("detect", str(tmp_path))
    assert (card.threshold, card.training) == (0.4, about)
    assert card.metrics == {"validation": figures}
    assert figures.keys() == {"round 0", "round 1"}
    for part in figures.values():
        assert np.isfinite(part["loss"]).all()
        found, present = part["at 1 false"]["c7"]
        assert 0 <= found <= present
    detector = load_model("detect", str(tmp_path))
    assert detector.grid == dense_grid(4)
    assert (detector.net.channels, detector.net.dilations) == (8, (1, 2))
    rounds = [line for line in lines if "hard places" in line]
    assert len(rounds) == 2
    assert int(rounds[0].split(", ")[1].split()[0]) > 0


PSF = moffat_mixture(2.2, 3.0)


@pytest.fixture(scope="module")
def search():
    return DenseSearch(bright_net(), torch.device("cpu"), None)


def test_cells_that_touch_are_one_spot_centred_on_the_brightest():
    logits = np.full((30, 40), -5.0, np.float32)
    logits[4, 6], logits[5, 7] = 2.0, 2.0
    logits[20, 10:15] = [-1.5, 3.0, 9.0, 3.0, -1.5]
    logits[0, 39] = -1.9
    found = spots(logits, -2.0)
    order = np.argsort(found.y)
    np.testing.assert_allclose(found.y[order], [1.5, 4.5 * 4 + 1.5, 20 * 4 + 1.5])
    np.testing.assert_allclose(found.x[order], [39 * 4 + 1.5, 6.5 * 4 + 1.5, 12 * 4 + 1.5])
    np.testing.assert_allclose(found.peak[order], [-1.9, 2.0, 9.0])


def test_nothing_above_the_floor():
    found = spots(np.full((5, 6), -9.0, np.float32), -2.0)
    assert len(found.x) == len(found.y) == len(found.peak) == 0


def test_spots_of_a_search_lie_on_what_shines(search):
    places = [(40.0, 52.0), (150.3, 90.8), (30.0, 120.0)]
    pixels = sum(80 * trail_image((140, 200), x, y, 0.0, 0.0, PSF) for x, y in places)
    found = spots_on(search, field_of(pixels), 0.0)
    assert len(found.x) == 3
    for x, y in places:
        assert np.hypot(found.x - x, found.y - y).min() < 4
    field = field_of(pixels)
    plane = SearchImage(field.pixels, field.usable, 0.0, 1.0, np.array(field.info.noise_correlation), 2.2)
    logits, _ = search.search(plane, Places(0, 0, 35, 50, 4))
    assert found.peak.max() == pytest.approx(logits.max())


def test_hard_places_hold_nothing_real_and_all_else(search):
    places = [(40.0, 52.0), (150.3, 90.8), (30.0, 120.0), (90.0, 30.0)]
    pixels = sum(80 * trail_image((140, 200), x, y, 0.0, 0.0, PSF) for x, y in places)
    rows = [
        ("streak", 150.0, 91.0, 0.0, 0.0, 20.0, 1.0),  # found
        ("point", 31.0, 119.0, 0.0, 0.0, 20.0, 1.0),  # real, if not asked for
        ("streak", 91.0, 31.0, 0.0, 0.0, -20.0, 1.0),  # a hole: what shines there is false
    ]
    found = hard_places(search, field_of(pixels, rows), 0.0)
    assert found.shape == (2, 3)
    order = np.argsort(found[:, 0])
    np.testing.assert_allclose(found[order, :2], [[40, 52], [90, 30]], atol=3)
    assert ((found[:, 2] > 0) & (found[:, 2] < 1.1)).all()


def test_hard_places_of_an_exposure_are_clear_of_its_sources(search, examples):
    field = open_field(examples[0])
    found = hard_places(search, field, -2.0)
    assert len(found) > 5
    for n in np.flatnonzero(~field.dark):
        along = np.linspace(-0.5, 0.5, 401) * field.targets.length[n]
        theta = np.radians(field.targets.angle[n])
        xs, ys = field.targets.x[n] + along * np.cos(theta), field.targets.y[n] + along * np.sin(theta)
        assert np.hypot(found[:, :1] - xs, found[:, 1:2] - ys).min() > 9.99


def test_bright_places_are_the_peaks_of_the_smoothed_image():
    places = np.array([(40, 52), (150, 90), (30, 120), (100, 20)])
    pixels = np.random.default_rng(0).normal(0, 1, (140, 200))
    pixels += sum(60 * trail_image((140, 200), x, y, 0.0, 0.0, PSF) for x, y in places)
    usable = np.ones(pixels.shape, bool)
    usable[10:30, 90:110] = False
    found = bright_places(field_of(pixels, usable=usable), 4.5)
    assert len(found) <= 5
    for x, y in places[:3]:
        assert np.abs(found[:, :2] - [x, y]).max(1).min() <= 1
    assert np.hypot(*(found[:, :2] - places[3]).T).min() > 8
    assert (found[:, 2] == 1).all()


def one(found=(), false=(), snr=None):
    score = np.array(found, float)
    snr = np.full(len(score), 20.0) if snr is None else np.array(snr, float)
    return RecoveryCurve(snr, score, np.array(false, float))


def test_streaks_get_the_score_of_what_found_them():
    truth = truth_table(
        [
            ("streak", 100.0, 100.0, 3.0, 20.0, 10.0, 1.0),
            ("streak", 300.0, 200.0, 60.0, 120.0, 5.0, 1.0),
            ("streak", 10.0, 10.0, 3.0, 0.0, 20.0, 0.1),
            ("point", 50.0, 300.0, 0.0, 0.0, 30.0, 1.0),
        ]
    )
    x, y, score = np.array([(101.0, 100.0, 2.0), (99.0, 99.0, 5.0), (50.0, 301.0, 9.0), (200.0, 10.0, 1.0)]).T
    found = RecoveryCurve.of(x, y, score, truth_targets(truth), truth["snr"].to_numpy())
    np.testing.assert_array_equal(found.score, [5.0, -np.inf])
    np.testing.assert_array_equal(found.snr, [10.0, 5.0])
    assert sorted(found.false) == [1.0, 2.0]


@given(
    st.lists(st.lists(st.integers(-5, 5), max_size=8), min_size=1, max_size=5),
    st.floats(0, 6),
)
def test_the_level_is_the_least_that_leaves_so_few(false, rate):
    found = [one(false=part) for part in false]
    level = level_at(found, rate)
    every = np.concatenate([np.array(part, float) for part in false])
    assert (every >= level).sum() <= rate * len(found)
    if np.isfinite(level):
        lower = np.nextafter(level, -np.inf)
        assert (every >= lower).sum() > rate * len(found) - 1e-9


def test_share_by_brute_force():
    rng = np.random.default_rng(0)
    found = [one(rng.normal(size=9), snr=rng.uniform(3, 15, 9)) for _ in range(4)]
    for level, least, below in ((0.0, 7.0, np.inf), (0.5, 4.0, 9.0), (-np.inf, 0.0, 5.0)):
        asked = [(s, v) for part in found for s, v in zip(part.snr, part.score, strict=True) if least <= s < below]
        share = share_found(found, level, least, below)
        assert (share.found, share.n) == (sum(v >= level for _, v in asked), len(asked))


def test_what_nothing_found_is_not_found_at_any_level():
    assert share_found([one([1.0, -np.inf])], -np.inf, 0.0) == Share(1, 2)


def test_figures_at_equal_numbers_of_false():
    found = [one([3.0, 1.0, -np.inf], [2.0, 0.0], [8.0, 12.0, 9.0]), one([0.5], [], [6.0])]
    figures = recovery(found, (0.5, 1.0))
    assert figures == {
        "at 0.5 false": {"c7": [2, 3], "c10": [1, 1]},
        "at 1 false": {"c7": [2, 3], "c10": [1, 1]},
    }
    assert recovery(found, (0.0,))["at 0 false"]["c7"] == [1, 3]


def test_without_false_ones_every_level_will_do():
    assert level_at([one([1.0])], 0.5) == -np.inf


def test_the_bounds_of_a_share_hold_their_lower_end_and_the_level_itself():
    curve = RecoveryCurve(np.array([3.9, 4.0, 5.0, 7.9, 8.0]), np.array([9.0, 1.0, 0.9, 2.0, 9.0]), np.empty(0))
    assert share_found([curve], 1.0, 4.0, 8.0) == Share(2, 3)
    assert share_found([curve], 1.0, 4.0) == Share(3, 4)
    unfound = RecoveryCurve(np.array([5.0]), np.array([-np.inf]), np.empty(0))
    assert share_found([unfound, curve], -np.inf, 4.0, 8.0) == Share(3, 4)


def test_a_spot_lies_where_its_brightest_cells_weigh():
    logits = np.full((9, 12), -9.0, np.float32)
    logits[3, 4:8] = [9.0, 5.5, 5.0, -2.0]  # 5.0 is 4 below the peak, -2.0 no more than the floor
    found = spots(logits, -2.0)
    weight = expit([9.0, 5.5])
    np.testing.assert_allclose(found.x, [(weight @ [4, 5]) / weight.sum() * 4 + 1.5], rtol=1e-12)
    np.testing.assert_allclose(found.y, [13.5])
    lower = np.full((9, 12), -9.0, np.float32)
    lower[3, 4:6] = [0.5, -1.5]
    weight = expit([0.5, -1.5])
    np.testing.assert_allclose(spots(lower, -2.0).x, [(weight @ [4, 5]) / weight.sum() * 4 + 1.5], rtol=1e-12)
    lower[3, 7] = -2.0
    assert len(spots(lower, -2.0).x) == 1


def test_hard_places_are_shown_as_often_as_the_network_is_sure_and_10_px_from_sources(search):
    pixels = 80 * trail_image((140, 200), 60.0, 52.0, 0.0, 0.0, PSF) + 25 * trail_image(
        (140, 200), 150.0, 90.0, 0.0, 0.0, PSF
    )
    found = spots_on(search, field_of(pixels), -4.0)
    places = hard_places(search, field_of(pixels), -4.0)
    np.testing.assert_allclose(places[:, 2], expit(found.peak - 1) + 0.03, rtol=1e-12)
    np.testing.assert_array_equal(places[:, :2], np.stack([found.x, found.y], 1))
    (x, y) = places[0, :2]
    for apart, count in ((9.99, 1), (10.01, 2)):
        row = ("point", x + apart, y, 0.0, 0.0, 20.0, 1.0)
        assert len(hard_places(search, field_of(pixels, [row]), -4.0)) == count


def test_bright_places_are_the_highest_of_five_by_five_pixels_in_units_of_the_noise():
    pixels = np.random.default_rng(5).normal(3, 2, (60, 70))
    usable = np.ones(pixels.shape, bool)
    usable[20:25, 30:40] = False
    field = field_of(pixels, usable=usable, noise=2.0)
    field = replace(field, info=field.info.model_copy(update={"background": 3.0}))
    values = np.where(usable, (pixels.astype(np.float32) - 3) / 2, 0)
    smooth = ndimage.gaussian_filter(values.astype(np.float32), 2.2 / 2.355)
    noise = 1.4826 * np.sort(np.abs(smooth).ravel())[(smooth.size - 1) // 2]
    highest = ndimage.maximum_filter(smooth, 5, mode="constant", cval=-np.inf) == smooth
    for snr in (1.0, 2.0):
        y, x = np.nonzero(highest & (smooth > snr * noise))
        found = bright_places(field, snr)
        np.testing.assert_array_equal(found, np.stack([x, y, np.ones(len(x))], 1))
    assert len(x) > 5


def test_completeness_is_given_at_half_one_and_ten_false_positions():
    assert list(recovery([one([3.0], [2.0])])) == ["at 0.5 false", "at 1 false", "at 10 false"]
    found = [one([3.0, 3.0, 3.0, 3.0], snr=[6.99, 7.0, 9.99, 10.0])]
    assert recovery(found, (1.0,)) == {"at 1 false": {"c7": [3, 3], "c10": [1, 1]}}


def test_each_round_but_the_last_looks_for_false_alarms_that_the_next_is_shown(examples, tmp_path, monkeypatch):
    fits, lines = [], []

    def fit_cells(net, train, crops, fit, device, say):
        if not fits:
            assert (net.last.bias == -4.0).all()
            with torch.no_grad():  # as `bright_net`: it finds what is bright
                for name, value in net.state_dict().items():
                    value.copy_(bright_net().state_dict()[name])
        fits.append((crops, fit))
        return (0.1234567,)

    monkeypatch.setattr(training, "fit_cells", fit_cells)
    before = torch.get_num_threads()
    plan = CellPlan(2, (1, 1), CellFit(4), CellFit(3), 2, 0.4)
    try:
        figures = train_cells(tmp_path, examples[:1], examples[:1], plan, {"data": "a test"}, 5, 1, lines.append)
    finally:
        torch.set_num_threads(before)
    assert [fit for _, fit in fits] == [plan.first, plan.later, plan.later]
    assert [crops.seed for crops, _ in fits] == [5, 6, 7]
    field = open_field(examples[0])
    shining = DenseSearch(bright_net(), torch.device("cpu"), None)
    np.testing.assert_array_equal(fits[0][0].hard[field.name], bright_places(field, 4.5))
    for crops, _ in fits[1:]:
        np.testing.assert_allclose(crops.hard[field.name], hard_places(shining, field, -2.0))
    found = spots_on(shining, field, -2.0)
    curve = RecoveryCurve.of(found.x, found.y, found.peak, field.targets, field.snr)
    assert figures == {f"round {n}": {"loss": [0.12346]} | recovery([curve]) for n in range(3)}
    count = len(fits[0][0].hard[field.name])
    assert lines[0] == f"round 0: 1 exposures, {count} hard places"
    c7, c10 = recovery([curve])["at 1 false"].values()
    words = f"{c7[0]} of {c7[1]} trails of S/N 7 and more, {c10[0]} of {c10[1]} trails of S/N 10 and more"
    assert lines[1] == f"round 0: loss 0.12346; at 1 false per image it finds {words}"
    card = read_card("detect", str(tmp_path))
    assert (card.threshold, card.training, card.metrics) == (0.4, {"data": "a test"}, {"validation": figures})
    assert (card.input["planes"], card.input["cell"], card.input["dilations"]) == (PLANES, CELL, [1, 1])

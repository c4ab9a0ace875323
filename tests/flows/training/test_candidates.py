from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flows.storage.zarr_tiles import TileStore, write_exposure
from flows.training.candidates import (
    cached_detector,
    candidate_completeness,
    candidate_threshold,
    candidates,
    described_candidates,
    label_candidates,
    misjudged,
    publishable,
    require_candidates,
    search_example,
    stamp_of,
    unless_flooded,
    without_science,
)
from flows.training.examples import pixels, truth_targets
from flows.training.fits import false_level
from flows.training.windows import cut_windows
from kernels.measure.reliability import STAMP_CHANNELS, STAMP_SIDE
from kernels.nets.basic_cnn import BasicCnn
from schemas.dia_source import FEATURES, STATIC, UNKNOWN
from schemas.errors import BadInput, Misconfigured
from schemas.pixels import Tiling
from schemas.settings import Settings
from stages.measure import Described
from tests.support.candidates import exposure
from tests.support.models import write_bright, write_cells, write_windows
from tests.support.truth import truth_table

ROWS = [
    ("streak", 100.0, 100.0, 3.0, 20.0, 10.0, 1.0),
    ("streak", 300.0, 200.0, 60.0, 120.0, 5.0, 1.0),
    ("streak", 10.0, 10.0, 3.0, 0.0, 20.0, 0.1),
    ("point", 50.0, 300.0, 0.0, 0.0, 30.0, 1.0),
    ("satellite", 250.0, 350.0, 500.0, 0.0, 90.0, 1.0),
    ("point", 200.0, 50.0, 0.0, 0.0, -30.0, 1.0),
    ("point", 220.0, 50.0, 0.0, 0.0, 4.0, 1.0),
]


def planes_of(example):
    store = TileStore.open(example.store)
    return {name: store.read_all(name) for name in ("difference", "mask")}, store.info


def labelled(positions):
    x, y, score = map(np.array, zip(*positions, strict=True))
    table = pa.table({"x": x, "y": y, "logitSum": score, "snr": np.full(len(x), 9.0), "trailClass": [""] * len(x)})
    features, stamps = (
        np.zeros((len(x), len(FEATURES)), np.float32),
        np.zeros((len(x), STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE), np.float32),
    )
    return label_candidates(Described(table, features, stamps), truth_table(ROWS))


def test_labels():
    one = labelled(
        [
            (101.0, 100.0, 9.0),
            (101.5, 99.0, 8.0),
            (150.0, 150.0, 7.0),
            (50.0, 301.0, 6.0),
            (11.0, 11.0, 5.0),
            (60.0, 352.0, 4.0),
            (200.0, 51.0, 3.0),
            (221.0, 50.0, 2.0),
        ]
    )
    assert one.label.tolist() == [1, 0, 0, 3, -1, 2, -1, -1]
    assert one.target.tolist() == [0, *[-1] * 7]
    assert one.known.tolist() == [True, True, True, True, False, True, False, False]
    np.testing.assert_array_equal(one.snr, [10, 5, 20, 30, 90, -30, 4])
    assert one.stamps.dtype == np.float16


def test_targets_are_the_rows_of_the_truth():
    targets = truth_targets(truth_table(ROWS))
    assert targets.kind.tolist() == [row[0] for row in ROWS]
    np.testing.assert_array_equal(targets.angle, [20, 120, *[0] * 5])
    assert targets.counted.tolist() == [True, True, *[False] * 5]


def test_a_share_of_the_candidates_can_be_seen_without_science_image():
    one = labelled([(float(x), 100.0, 9.0) for x in range(400)])
    one = replace(one, features=np.random.default_rng(1).random((len(one.label), len(FEATURES)), np.float32))
    half, none = without_science(one, 0.5, seed=3), without_science(one)
    column = [FEATURES.index(name) for name in STATIC]
    others = [n for n in range(len(FEATURES)) if n not in column]
    for seen in (half, none):
        np.testing.assert_array_equal(seen.features[:, others], one.features[:, others])
    hidden = (half.features[:, column] == UNKNOWN).all(1)
    assert 0.4 < hidden.mean() < 0.6
    np.testing.assert_array_equal(half.features[~hidden], one.features[~hidden])
    assert (none.features[:, column] == UNKNOWN).all()
    assert (one.features[:, column] != UNKNOWN).any()


def test_completeness_counts_what_was_asked_for():
    one = labelled([(101.0, 100.0, 9.0), (300.0, 201.0, 8.0), (150.0, 150.0, 7.0)])
    score = np.array([0.9, 0.4, 0.6])
    assert candidate_completeness([one], [score], 0.5, 3.0) == (1, 2, 1.0)
    assert candidate_completeness([one], [score], 0.3, 3.0) == (2, 2, 1.0)
    assert candidate_completeness([one], [score], 0.7, 7.0) == (1, 1, 0.0)


@pytest.mark.parametrize(("wanted", "left"), [(0.0, 0), (0.5, 2), (1.0, 4), (100.0, 12)])
def test_threshold_leaves_the_wanted_number_of_false(wanted, left):
    rng = np.random.default_rng(0)
    examples = [labelled([(150.0 + 40 * n, 150.0, 1.0) for n in range(3)]) for _ in range(4)]
    scores = [rng.random(3) for _ in examples]
    threshold = candidate_threshold(examples, scores, wanted)
    assert sum(int((score >= threshold).sum()) for score in scores) == left


def test_search_scores_windows_as_cut(examples, tmp_path):
    write_windows(tmp_path, threshold=1e-6)
    hits = search_example(*planes_of(examples[0]), str(tmp_path)).rows
    image, usable, background = pixels(examples[0])
    rows, columns = Tiling(image.shape).grid
    assert 0.5 * rows * columns < len(hits) <= rows * columns
    corners = 7 * np.stack([hits["row"].to_numpy(), hits["column"].to_numpy()], 1).astype(np.int64)
    windows = cut_windows(image, usable, background, corners[:300])
    torch.manual_seed(4)
    with torch.no_grad():
        scores = BasicCnn().eval()(torch.from_numpy(windows)).numpy()
    np.testing.assert_allclose(hits["logit"].to_numpy()[:300], scores[:, 1] - scores[:, 0], atol=1e-5)


def test_search_of_cells_looks_at_all_of_them(examples, tmp_path):
    write_cells(tmp_path, threshold=1e-30)
    planes, info = planes_of(examples[0])
    hits, counts = search_example(planes, info, str(tmp_path))
    rows, columns = info.shape[0] // 4, info.shape[1] // 4
    assert counts.windows == rows * columns == len(hits) + counts.unscored


def test_new_weights_in_a_folder_are_loaded(examples, tmp_path):
    found = []
    for seed in (1, 2):
        write_cells(tmp_path, threshold=1e-30, seed=seed)
        found.append(search_example(*planes_of(examples[0]), str(tmp_path)).rows["logit"].to_numpy())
    assert not np.array_equal(*found)
    assert stamp_of("basic_cnn") == 0
    assert cached_detector(str(tmp_path)) is cached_detector(str(tmp_path))


def test_candidates_come_with_the_right_and_with_another_psf(examples, tmp_path):
    write_bright(tmp_path)
    one, other = candidates(examples[0], str(tmp_path), wrong_psf=True)
    for part in (one, other):
        count = len(part.label)
        assert count > 3
        assert part.features.shape == (count, len(FEATURES))
        assert part.stamps.shape == (count, STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE)
        assert np.isfinite(part.features).all()
        assert np.isfinite(part.stamps).all()
    assert (one.label == 1).any()
    assert not np.array_equal(one.features, other.features)
    (alone,) = candidates(examples[0], str(tmp_path), wrong_psf=False)
    np.testing.assert_array_equal(alone.features, one.features)


def test_a_variance_plane_counts_as_it_does_in_a_night(examples, tmp_path):
    write_bright(tmp_path)
    planes, info = planes_of(examples[0])
    light = np.maximum(planes["difference"] - info.background, 0)
    seen = []
    for name, more in (("plain", {}), ("told", {"variance": info.noise**2 + np.float32(50 * info.noise) * light})):
        path = tmp_path / f"{name}.zarr"
        write_exposure(path, info.model_copy(update={"planes": tuple(more)}), planes | more, Settings().tiles, "d")
        seen.append(described_candidates(replace(examples[0], store=path), str(tmp_path)).features)
    snr = FEATURES.index("log_snr")
    assert (seen[1][:, snr] < seen[0][:, snr]).all()


def test_misjudged_psf_is_plausible_and_always_the_same(examples):
    info = TileStore.open(examples[0].store).info
    assert misjudged(info) == misjudged(info)
    many = [misjudged(info.model_copy(update={"visit": visit})).psf.fwhm_px / info.psf.fwhm_px for visit in range(400)]
    assert np.std(np.log(many)) == pytest.approx(0.12, abs=0.015)
    assert np.mean(np.log(many)) == pytest.approx(0, abs=0.02)


def test_faint_candidates_can_be_left_out():
    one = labelled([(101.0, 100.0, 9.0), (300.0, 201.0, 8.0), (150.0, 150.0, 7.0)])
    kept = publishable(replace(one, found_snr=np.array([5.0, 6.0, 7.0])), 5.5)
    np.testing.assert_array_equal(kept.features, one.features[1:])
    assert kept.found_snr.tolist() == [6.0, 7.0]
    np.testing.assert_array_equal(kept.label, one.label[1:])
    np.testing.assert_array_equal(kept.target, one.target[1:])
    assert len(kept.stamps) == 2
    assert candidate_completeness([kept], [np.ones(2)], 0.5, 0.0)[:2] == (1, 2)


@pytest.mark.slow
def test_what_a_night_would_quarantine_teaches_nothing(examples, tmp_path, monkeypatch):
    write_bright(tmp_path)
    assert len(unless_flooded(examples[0], str(tmp_path), wrong_psf=False)) == 1
    monkeypatch.setattr("schemas.dia_source.MOST_HITS", 0)
    assert unless_flooded(examples[0], str(tmp_path), wrong_psf=False) == []
    with pytest.raises(BadInput, match="windows above the threshold, more than 0"):
        candidates(examples[0], str(tmp_path), wrong_psf=False)


scores = st.lists(st.lists(st.floats(-50, 50, width=32), max_size=12), min_size=1, max_size=5)


@given(scores, st.sampled_from((0.0, 0.25, 0.5, 1.0, 3.0)), st.sampled_from((np.float32, np.float64)))
def test_no_more_pass_than_allowed_and_no_lower_level_would_do(images, rate, kind):
    images = [np.array(part, kind) for part in images]
    level = false_level(images, rate)
    everything = np.concatenate(images)
    assert (everything >= level).sum() <= rate * len(images)
    if np.isfinite(level):
        below = everything[everything < level].max()
        assert (everything >= below).sum() > int(rate * len(images))
    else:
        assert len(everything) <= rate * len(images)


def test_the_psf_is_misjudged_by_the_number_of_the_exposure(examples):
    info = TileStore.open(examples[0].store).info
    drawn = [misjudged(info.model_copy(update={"visit": n, "detector": n % 3})) for n in range(200)]
    off = np.log([one.psf.fwhm_px / info.psf.fwhm_px for one in drawn])
    beta = [one.psf.beta for one in drawn]
    np.testing.assert_allclose([off.sum(), (off**2).sum(), sum(beta)], GOLDEN_PSF, rtol=1e-6)
    assert set(beta) == {2.5, 3.0, 4.0, 100.0}
    assert isinstance(Settings.model_validate({}), Settings)


GOLDEN_PSF = [-1.3196191100306676, 2.3946225865892474, 4684.0]


def test_a_candidate_at_the_least_snr_is_kept():
    one = labelled([(101.0, 100.0, 9.0), (150.0, 150.0, 7.0)])
    one = replace(one, found_snr=np.array([5.0, 7.0], np.float32))
    assert len(publishable(one, 5.0).label) == 2
    assert len(publishable(one, np.nextafter(np.float32(5.0), 9)).label) == 1


@pytest.mark.parametrize("cause", ["bleed", "cosmicRay", "hotColumn", "ghost", "spike", "dipole", "edge"])
def test_what_a_night_refuses_is_left_out_unless_it_has_a_class(cause):
    """As `kernels.measure.vetoes.evidence.refused` does, of which a satellite is never."""
    one = labelled([(float(x), 100.0, 9.0) for x in range(100, 104)])
    features = one.features.copy()
    features[:, FEATURES.index(f"{cause}Evidence")] = [0.0, 1.49, 1.5, 1.5]
    one = replace(one, features=features, found_snr=np.full(4, 9.0), classed=np.array([False, False, False, True]))
    kept = publishable(one, 5.0).features[:, FEATURES.index(f"{cause}Evidence")]
    refusing = cause not in ("spike", "dipole", "edge")
    np.testing.assert_array_equal(kept, np.float32([0.0, 1.49, 1.5] if refusing else [0.0, 1.49, 1.5, 1.5]))


def test_which_candidates_have_no_science_image_is_decided_by_the_seed():
    one = labelled([(float(x), 100.0, 9.0) for x in range(50)])
    one = replace(one, features=np.full((50, len(FEATURES)), 0.25, np.float32))
    column = FEATURES.index(STATIC[0])
    for seed, options in ((7, {"seed": 7}), (0, {})):
        hidden = without_science(one, 0.4, **options).features[:, column] != 0.25
        np.testing.assert_array_equal(hidden, np.random.default_rng(seed).random(50) < 0.4)


def test_streaks_at_the_least_snr_and_scores_at_the_threshold_count():
    one = labelled([(101.0, 100.0, 9.0), (300.0, 201.0, 8.0), (150.0, 150.0, 7.0), (60.0, 352.0, 4.0)])
    score = np.array([0.9, 0.5, 0.5, 0.9])
    assert candidate_completeness([one] * 2, [score, np.zeros(4)], 0.5, 5.0) == (2, 4, 0.5)
    assert candidate_completeness([one], [score], 0.5, 5.01) == (1, 1, 1.0)
    assert candidate_completeness([], [], 0.5, 5.0) == (0, 0, 0.0)
    assert candidate_threshold([one], [score], 0.0) == np.nextafter(0.5, 1)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([], "too many candidates on all exposures to learn from"),
        ([exposure(1, 0, 0)], "no candidates on the exposures to learn from.*lower"),
        ([exposure(1, 0, 3)], "finds 3 candidates.*none is known to be real"),
        ([exposure(1, 2, 0), exposure(2, 1, 0)], "finds 3 candidates.*none is known to be false"),
    ],
)
def test_a_detector_that_finds_nothing_to_learn_from_is_refused(found, says):
    with pytest.raises(Misconfigured, match=says) as error:
        require_candidates(found, "models/mine", "to learn from", false=True)
    assert (error.value.code, error.value.where) == ("no_candidates", "detector 'models/mine'")


def test_false_candidates_are_needed_to_learn_only():
    require_candidates([exposure(1, 2, 0)], "models/mine", "to report on")
    require_candidates([exposure(1, 2, 0), exposure(2, 0, 1)], "models/mine", "to learn from", false=True)

import numpy as np

from flows.training.candidate_set import candidate_cutouts, candidate_labels, candidate_set
from kernels.matching import Targets
from kernels.shape_features import FEATURES


def targets(*rows):
    kind, *columns = zip(*rows, strict=True)
    return Targets(np.array(kind), *(np.array(column, float) for column in columns))


def labels(places, score, there, snr):
    x, y = np.array(places, float).T
    return candidate_labels(x, y, np.array(score, float), there, np.array(snr, float)).tolist()


def test_the_best_candidate_on_a_streak_is_it():
    there = targets(("streak", 50, 50, 30, 0, 1.0))
    places = [(40, 50), (50.5, 50), (50, 57), (50, 80), (50, 52.5)]
    assert labels(places, [10, 9, 30, 9, 6], there, [9]) == [-1, 1, -1, 0, -1]


def test_other_sources_teach_nothing_and_holes_are_false():
    there = targets(
        ("point", 20, 20, 0, 0, 1.0),
        ("satellite", 100, 100, 80, 0, 1.0),
        ("streak", 60, 20, 5, 0, 0.3),
        ("streak", 20, 60, 5, 0, 1.0),
    )
    places = [(21, 20), (130, 109), (130, 112), (60, 21), (20, 60)]
    assert labels(places, [9] * 5, there, [8, 90, 9, -9]) == [-1, -1, 0, -1, 0]


def test_candidates_of_an_exposure(examples):
    found = candidate_set(examples[0])
    assert found.features.shape == (len(found.x), len(FEATURES))
    assert np.isfinite(found.features).all()
    asked = found.targets.counted & (found.snr >= 8)
    matched = found.matches(found.features[:, 0]).target
    assert asked.sum() >= 3
    assert np.isin(np.flatnonzero(asked), matched).mean() >= 0.8
    assert (found.label == 1).sum() >= 0.8 * asked.sum()
    cutouts = candidate_cutouts(examples[0], np.flatnonzero(found.label == 1))
    assert len(cutouts) == (found.label == 1).sum()
    middle = cutouts[:, 1, 8:16, 24:40].max((1, 2))
    assert (middle > 1.5).all()

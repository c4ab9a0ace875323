import numpy as np

from flows.adapters.weights import load_model
from flows.training.boosted_fit import TreeFit
from flows.training.boosted_train import Examples, fit_on, gather, train_boosted
from flows.training.candidate_set import find_on
from kernels.plane import Places
from kernels.tree_ensemble import tree_logits

FIT = TreeFit(trees=30, least=3)


def test_trains_and_writes_a_detector_that_says_what_was_reported(examples, tmp_path):
    said = []
    sets = Examples(examples[:1], examples[1:], examples[1:])
    figures = train_boosted(tmp_path, sets, FIT, {"command": "this test"}, 1, 1, said.append)
    detector = load_model("detect", str(tmp_path))
    assert detector.card.metrics == figures
    assert detector.card.training == {"command": "this test"}
    assert any("trees on" in line for line in said)
    plane = find_on(examples[1]).plane
    rows, columns = (extent // 4 for extent in plane.pixels.shape)
    logits, _ = detector.search(plane, Places(0, 0, rows, columns, 4))
    (own,) = gather(examples[:1], 1, said.append)
    odds = tree_logits(own.features, fit_on([own], FIT, 1, said.append))
    assert odds[own.label == 1].mean() > odds[own.label == 0].mean() + 2
    assert np.isfinite(logits).sum() > 3

import numpy as np
import pytest

from flows.adapters.weights import load_model
from flows.training.star_galaxy_inputs import CONFIGURATIONS
from flows.training.star_galaxy_multi import ON_CARD, OURS, fit_multi
from kernels.class_scores import class_scores
from tests.flows.training.star_galaxy_support import PLAN, cutouts


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    out = tmp_path_factory.mktemp("multi")
    deep = {"train": cutouts(), "validation": cutouts(2, 6), "test": cutouts(2, 20)}
    nights = {"train": cutouts(2, 40), "validation": cutouts(1, 50), "test": cutouts(1, 60)}
    return out, deep, nights, fit_multi(out, deep, nights, PLAN, {"data": "small"}, 1, lambda line: None)


def test_every_way_says_of_every_test_cutout(fitted):
    _, deep, nights, own = fitted
    for said, test in ((own.said, deep["test"]), (own.nights, nights["test"])):
        assert set(said) == {OURS, "boosted moments", "locus cut"}
        assert set(said[OURS]) == set(said["boosted moments"]) == set(CONFIGURATIONS)
        for some in said.values():
            for probability in some.values():
                assert probability.shape == (len(test),)
                assert ((probability >= 0) & (probability <= 1)).all()
    right = (own.said[OURS]["all"] > 0.5) == (deep["test"].label == 1)
    assert right.mean() > 0.85


def test_what_is_written_says_what_was_measured(fitted):
    out, deep, nights, own = fitted
    model = load_model("star_galaxy", str(out / "multi_band"))
    assert model.share == PLAN.share > 0
    star = model(deep["test"].cutouts).probability[:, 0]
    np.testing.assert_allclose(star, own.said[OURS]["all"], atol=5e-3)  # the card rounds, pictures were float16
    scores = class_scores(own.nights[OURS]["all"], nights["test"].label)
    assert model.card.metrics["of nights"]["all"] == {key: scores[key] for key in ON_CARD}
    assert model.card.training["data"] == "small"


def test_hidden_bands_cost_accuracy_but_not_sense(fitted):
    _, deep, _, own = fitted
    for name in CONFIGURATIONS:
        right = (own.said[OURS][name] > 0.5) == (deep["test"].label == 1)
        assert right.mean() > 0.7, name

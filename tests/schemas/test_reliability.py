from flows.adapters.weights import read_card, read_weights
from schemas.reliability import FEATURES


def test_shipped_verdict_was_trained_on_these_features():
    assert len(set(FEATURES)) == len(FEATURES)
    assert tuple(read_card("reliability", "verdict").input["features"]) == FEATURES
    _, arrays = read_weights("reliability", "verdict")
    assert arrays["mean"].shape == arrays["scale"].shape == (len(FEATURES),)
    assert arrays["weight0"].shape[1] == len(FEATURES)

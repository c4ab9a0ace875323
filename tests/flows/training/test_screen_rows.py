import numpy as np

from flows.adapters.weights import load_model
from flows.training.scan import pixels
from flows.training.screen_rows import exact_search, guessed, scored_rows, telling_rows
from kernels.fused_net import Dense
from tests.kernels.fused_fixture import cut

FIRST = (Dense(np.eye(1, 12, dtype=np.float32), np.zeros(1, np.float32)),)


def test_rows_are_the_scored_windows_with_the_networks_own_log_odds(examples):
    image, usable, background = pixels(examples[0])
    windows, scored = cut(image[None], usable, background)
    rows = scored_rows(examples[0], "basic_cnn")
    np.testing.assert_allclose(rows.logits, load_model("detect", "basic_cnn")(windows[scored]), atol=2e-5)
    assert rows.features.shape == (scored.sum(), 12)
    assert (exact_search("basic_cnn").log_odds(rows.features) == rows.logits).all()


def test_windows_far_below_are_drawn_the_others_all_there(examples):
    rows = scored_rows(examples[0], "basic_cnn")
    low = float(np.median(rows.logits))
    told = telling_rows(examples[0], "basic_cnn", low, 0.2)
    assert (told.logits[told.logits > low] == rows.logits[rows.logits > low]).all()
    assert 0.1 < (told.logits <= low).sum() / (rows.logits <= low).sum() < 0.3
    assert (telling_rows(examples[0], "basic_cnn", low, 0.2).features == told.features).all()


def test_guesses_stand_beside_what_they_are_of(examples):
    rows, found = scored_rows(examples[1], "basic_cnn"), guessed(examples[1], "basic_cnn", FIRST)
    assert (found.logits == rows.logits).all()
    np.testing.assert_allclose(found.guess, rows.features[:, 0])


def test_the_shipped_screen_keeps_every_hit_and_leaves_few_windows(examples):
    scorer = load_model("detect", "basic_cnn", screen=True)
    for example in examples:
        rows = scored_rows(example, "basic_cnn")
        guess, hit = scorer.screen(rows.features), rows.logits >= scorer.floor
        assert hit.sum() > 5
        assert (guess[hit] >= scorer.screen.level).all()
        assert (guess >= scorer.screen.level).mean() < 0.2

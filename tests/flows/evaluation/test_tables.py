from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from flows.evaluation.evaluate import Evaluation
from flows.evaluation.summary import summarise
from flows.evaluation.tables import night_tables, share_text, stamp_tables


def text_of(tables):
    console = Console(width=160, file=StringIO())
    for table in tables:
        console.print(table)
    return console.file.getvalue()


def evaluation(n, oracle):
    errors = {name: np.full(n, 0.25) for name in ("dx", "dy", "length_error", "angle_error")}
    return Evaluation(
        images=2,
        snr=np.full(n, 12.0),
        length=np.full(n, 9.0),
        score=np.where(np.arange(n) % 4 > 0, 0.5, -np.inf),
        oracle_snr=np.full(n, oracle),
        oracle_area_px=9e6,
        false_score=np.array([0.1, 0.6]),
        false_snr=np.array([5.0, 6.0]),
        uncounted=0,
        **errors,
    )


@pytest.mark.parametrize("oracle", [12.0, np.nan])
def test_shows_the_figures(oracle):
    shown = text_of(night_tables(summarise(evaluation(40, oracle))))
    assert "40 streaks on 2 images" in shown
    assert "0.750" in shown
    assert ("1.000 (0.91-1.00)" in shown) == np.isfinite(oracle)
    assert "0.250" in shown  # bias


def test_shows_a_night_without_streaks():
    assert "0 streaks on 2 images" in text_of(night_tables(summarise(evaluation(0, np.nan))))


def test_share():
    assert share_text({"completeness": None, "interval": [0, 1]}) == "-"
    assert share_text({"completeness": 0.5, "interval": [0.25, 0.75]}) == "0.500 (0.25-0.75)"


def test_shows_stamps():
    group = {"n": 10, "found": 5, "completeness": 0.5, "interval": [0.2, 0.8]}
    row = {"min_reliability": 0.3, "groups": {"known_asteroids": group, "low_rb": group}}
    figures = {"stamps": 20, "truncated": 1, "at_default": row, "thresholds": [row | {"min_reliability": 0.9}]}
    figures |= {"auc_known_asteroids_against_low_rb": {"value": 0.71, "interval": [0.6, 0.8]}}
    shown = text_of(stamp_tables(figures))
    assert "20 stamps, 1 of them cut" in shown
    assert "0.3 (default)" in shown
    assert "0.9 " in shown
    assert "low rb, 10" in shown
    assert "0.710 (0.60-0.80)" in " ".join(shown.split())

from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.pipeline.weights import read_card
from schemas.dia_source import CAUSES, DIA_SOURCE, FEATURES, RESIDUALS, STATIC, UNKNOWN
from schemas.model_card import ModelCard

SHIPPED = sorted(
    (path.parent.name, path.stem)
    for stage in ("detect", "reliability")
    for path in (Path(__file__).parents[2] / "stages/weights" / stage).glob("*.json")
)


@pytest.mark.parametrize(("stage", "name"), SHIPPED)
def test_shipped_cards_say_where_they_come_from(stage, name):
    card = read_card(stage, name)
    assert ModelCard.model_validate_json(card.model_dump_json()) == card
    assert card.name == name
    assert card.training["command"].startswith("nightstride train detect")
    assert 0 < card.threshold < 1
    if (stage, name) == ("detect", "matched_filter"):  # which learns nothing
        assert card.training["data"] == "none"
        return
    assert card.training["exposures"]["test"] > 0
    assert "no real data" in card.training["data"]
    assert card.metrics


def test_a_verdict_may_have_another_threshold_without_science_images():
    card = read_card("reliability", "streak_net").model_copy(update={"threshold": 0.4, "calibration": {}})
    assert [card.least_reliability(science) for science in (True, False)] == [0.4, 0.4]
    other = card.model_copy(update={"calibration": {"threshold_without_science": 0.6}})
    assert [other.least_reliability(science) for science in (True, False)] == [0.4, 0.6]


def test_incomplete_card_is_refused():
    with pytest.raises(ValidationError, match="sha256"):
        ModelCard.model_validate({"stage": "detect"})


@pytest.mark.parametrize(("stage", "threshold"), [("detect", 4.0), ("reliability", -0.1), ("membership", 1.5)])
def test_a_threshold_beyond_probabilities_is_refused(stage, threshold):
    given = read_card("reliability", "streak_net").model_dump() | {"stage": stage, "threshold": threshold}
    with pytest.raises(ValidationError, match=f"threshold is {threshold}, and a model of {stage} gives probabilities"):
        ModelCard.model_validate(given)
    assert ModelCard.model_validate(given | {"stage": "anomaly"}).threshold == threshold


def test_every_feature_has_a_name_of_its_own():
    assert len(set(FEATURES)) == len(FEATURES)
    assert FEATURES[-len(RESIDUALS + STATIC) :] == RESIDUALS + STATIC
    assert len(UNKNOWN) == len(STATIC)


def test_every_cause_counts_by_its_column_of_the_catalogue():
    columns = {f"{name}Evidence" for name, _, _ in CAUSES}
    assert columns == {name for name in FEATURES if name in DIA_SOURCE.schema.names}

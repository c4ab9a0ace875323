import pytest
from pydantic import ValidationError

from flows.adapters.weights import read_card
from schemas.model_card import ModelCard


@pytest.mark.parametrize(("stage", "name"), [("detect", "basic_cnn"), ("reliability", "verdict")])
def test_shipped_cards_say_where_they_come_from(stage, name):
    card = read_card(stage, name)
    assert ModelCard.model_validate_json(card.model_dump_json()) == card
    assert card.training["command"] == "nightstride train detect"
    assert card.training["exposures"]["test"] > 0
    assert "no real data" in card.training["data"]
    assert card.metrics
    assert 0 < card.threshold < 1


def test_incomplete_card_is_refused():
    with pytest.raises(ValidationError, match="sha256"):
        ModelCard.model_validate({"stage": "detect"})

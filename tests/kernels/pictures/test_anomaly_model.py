"""Kinds of models of anomalies; what they say of pictures is tested with their training."""

import pytest

from flows.pipeline.weights import read_weights
from kernels.pictures.anomaly_model import KINDS, AnomalyModel
from schemas.errors import Misconfigured


def test_a_kind_that_there_is_not_is_refused():
    card, arrays = read_weights("anomaly", "default")
    assert AnomalyModel(card, arrays).card.input["kind"] in KINDS
    other = card.model_copy(update={"input": {**card.input, "kind": "forest"}})
    with pytest.raises(Misconfigured, match="is of kind 'forest', must be codes, one-class or soft-boundary") as raised:
        AnomalyModel(other, arrays)
    assert raised.value.code == "unknown_kind"

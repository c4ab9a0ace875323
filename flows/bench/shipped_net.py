"""The shipped window network, bare."""

from flows.adapters.weights import load_model
from kernels.nets.basic_cnn import BasicCnn
from kernels.scorer import WindowScorer
from schemas.model_card import ModelCard


def shipped_net() -> tuple[BasicCnn, ModelCard]:
    """Give the network, in evaluation mode on the processor, and its card."""
    scorer = load_model("detect", "basic_cnn")
    assert isinstance(scorer, WindowScorer)
    assert isinstance(scorer.net, BasicCnn)
    return scorer.net, scorer.card

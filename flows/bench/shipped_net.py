"""The shipped window network, bare."""

from flows.adapters.weights import load_model
from kernels.nets.basic_cnn import BasicCnn
from kernels.scorer import WindowScorer
from schemas.model_card import ModelCard
from schemas.settings import Settings


def shipped_net() -> tuple[BasicCnn, ModelCard]:
    """Give the default network of the search, in evaluation mode on the processor, and its card."""
    scorer = load_model("detect", Settings().detect.model)
    assert isinstance(scorer, WindowScorer)
    assert isinstance(scorer.net, BasicCnn)
    return scorer.net, scorer.card

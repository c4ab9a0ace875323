"""The shipped window network, bare."""

import torch

from flows.adapters.weights import read_weights
from kernels.nets.basic_cnn import BasicCnn
from schemas.model_card import ModelCard
from schemas.settings import Settings


def shipped_net() -> tuple[BasicCnn, ModelCard]:
    """Give the default network of the search, in evaluation mode on the processor, and its card."""
    card, arrays = read_weights("detect", Settings().detect.model)
    net = BasicCnn(bands=int(card.input["bands"]))
    net.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in arrays.items()})
    return net.eval(), card

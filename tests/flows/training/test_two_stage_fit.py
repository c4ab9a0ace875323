import numpy as np
import torch

from flows.training.two_stage_fit import Cutouts, NetFit, fit_net
from kernels.candidate_judges import net_logits
from kernels.line_cutouts import CHANNELS, LONG, WIDE


def sample(seed):
    """Bars along the rows, and bars across."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, 256)
    pictures = rng.normal(0, 0.3, (256, CHANNELS, WIDE, LONG))
    pictures[label == 1, :, 11:13, 20:44] += 2
    pictures[label == 0, :, 2:22, 31:33] += 2
    return Cutouts(pictures.astype(np.float16), rng.normal(size=(256, 5)).astype(np.float32), label)


def test_learns_to_tell_a_line_from_what_crosses_it():
    torch.set_num_threads(1)
    said = []
    net = fit_net(sample(1), NetFit(epochs=5, batch=32), 1, said.append)
    fresh = sample(2)
    odds = net_logits(net, fresh.pictures.astype(np.float32), fresh.features, torch.device("cpu"))
    assert ((odds > 0) == fresh.label).mean() > 0.97
    assert len(said) == 5

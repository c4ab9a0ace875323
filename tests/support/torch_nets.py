"""What the tests of networks, and of the search on torch devices, build from."""

from functools import cache

import numpy as np
import pytest
import torch

from kernels.nets.basic_cnn import BasicCnn
from kernels.search.fused_net import fuse
from kernels.search.windows import fill_windows

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")),
]


@cache
def lively_net(bands=1, side=26):
    """Random weights, larger than usual so that log odds spread over some units, and its fused twin."""
    torch.manual_seed(bands * 100 + side)
    net = BasicCnn(bands, side).eval()
    with torch.no_grad():
        for values in net.parameters():
            values.mul_(2.0)
    fused = fuse(net)
    assert fused is not None
    return net, fused


def plainly(net, image, usable, background, grid, stride):
    """Log odds by the module itself, from windows that are cut out and z-scored; -inf where not scored."""
    windows = np.empty((grid[0] * grid[1], len(image), net.side, net.side), np.float32)
    _, scored = fill_windows(image, usable, background, grid, stride, 0, windows)
    with torch.inference_mode():
        scores = net(torch.from_numpy(windows)).numpy()
    return np.where(scored, scores[:, 1] - scores[:, 0], -np.inf), int((~scored).sum())


def messy_image(shape=(131, 150), bands=1, seed=1, background=3.0):
    """Noise with stars, a trail, a plateau, scattered and blocked masks (NaN beneath), and a flat patch."""
    rng = np.random.default_rng(seed)
    image = rng.normal(background, 5, (bands, *shape)).astype(np.float32)
    image[:, 20:23, 30:33] += 3000
    image[:, 70:71, 20:60] += 60
    image[-1, 85:125, 5:40] += 700
    image[:, 40:70, 90:125] = 11.5
    usable = rng.random(shape) > 0.03
    usable[95:130, 80:120] = False
    image[:, ~usable] = np.nan
    return image, usable, background


def shapes(net):
    """Of the weights of its layers, by their names."""
    return {name: tuple(value.shape) for name, value in net.state_dict().items() if value.ndim > 1}


def dropped(net):
    """Shares that its layers drop in training."""
    return [one.p for one in net.modules() if isinstance(one, torch.nn.Dropout)]

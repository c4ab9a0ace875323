"""The plain way to what the fused search computes: cut windows, z-score them, put them to torch."""

import numpy as np
import torch

from kernels.nets.basic_cnn import BasicCnn
from kernels.search.windows import fill_windows


def network(bands=1, side=26, seed=0):
    torch.manual_seed(seed)
    return BasicCnn(bands, side).eval()


def sky(shape, bands=1, seed=0, bad=0.05, pedestal=0.0):
    """Noise of 5 with a few bright pixels, (bands, ny, nx), and which pixels are usable."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 5, (bands, *shape)) + pedestal + 3.0 * np.arange(bands)[:, None, None]
    image[:, rng.random(shape) < 0.002] += 400
    return image.astype(np.float32), rng.random(shape) >= bad


def grid_of(shape, side=26, stride=7):
    return tuple((n - side) // stride + 1 for n in shape)


def cut(image, usable, background, side=26, stride=7):
    """z-scored windows (n, bands, side, side), and which could be scored."""
    grid = grid_of(usable.shape, side, stride)
    windows = np.empty((grid[0] * grid[1], len(image), side, side), np.float32)
    _, scored = fill_windows(image, usable, background, grid, stride, 0, windows)
    return windows, scored


def first_maps(net, windows):
    """What the second convolution gets, (n, c1, side, side)."""
    with torch.no_grad():
        return torch.relu(torch.max_pool2d(net.conv1(torch.from_numpy(windows)), 4, 2)).numpy()


def features(net, windows):
    """What the linear layers get, (n, features)."""
    with torch.no_grad():
        second = net.conv2(torch.from_numpy(first_maps(net, windows)))
        return torch.relu(torch.max_pool2d(second, 4, 2)).flatten(1).numpy()


def log_odds(net, windows):
    with torch.no_grad():
        scores = net(torch.from_numpy(windows)).numpy()
    return scores[:, 1] - scores[:, 0]

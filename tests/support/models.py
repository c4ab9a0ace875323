"""Models without training, as their training writes them."""

import numpy as np
import torch

from flows.pipeline.stage_run import search_grid
from flows.pipeline.weights import write_model
from kernels.measure.reliability import STAMP_CHANNELS, STAMP_SIDE
from kernels.measure.reliability_net import TREES
from kernels.nets.basic_cnn import BasicCnn
from kernels.nets.reliability_cnn import ReliabilityCnn
from kernels.nets.streak_net import CELL, PLANES, StreakNet
from kernels.nets.tree_ensemble import TreeEnsemble
from kernels.search.dense_search import dense_grid
from schemas.dia_source import FEATURES
from schemas.settings import DetectSettings

CARD = {
    "name": "test", "version": "1", "classes": ("nothing", "trail"), "training": {}, "metrics": {},
    "false_alarm_rate": "not set",
}  # fmt: skip


def write_windows(folder, threshold=0.5, seed=4):
    """Write a `BasicCnn` to a folder; give its card."""
    torch.manual_seed(seed)
    arrays = {name: value.numpy() for name, value in BasicCnn(bands=1).state_dict().items()}
    given = {"stage": "detect", "input": {"kind": "windows", "bands": 1, "side": 26}, "threshold": threshold}
    return write_model(folder, arrays, CARD | given)


def write_cells(folder, threshold=0.5, seed=4, channels=8, dilations=(1, 1)):
    """Write a small `StreakNet` to a folder; give its card."""
    torch.manual_seed(seed)
    return _write_net(folder, StreakNet(channels, dilations), threshold)


def bright_net():
    """Make a `StreakNet` whose log odds are 4 times the mean squashed S/N of a point source in a cell, less 6."""
    net = StreakNet(2, (1, 1)).eval()
    with torch.no_grad():
        for value in net.parameters():
            value.zero_()
        net.first.weight[0, CELL**2 : 2 * CELL**2, 1, 1] = 1 / CELL**2
        net.head.weight[0, 0] = 1
        net.last.weight[0, 0] = 4
        net.last.bias[0] = -6
    return net


def write_bright(folder):
    """Write `bright_net` to a folder: it finds what is bright; give its card."""
    return _write_net(folder, bright_net(), 0.5)


def _write_net(folder, net, threshold):
    arrays = {name: value.detach().numpy() for name, value in net.state_dict().items()}
    known = {"kind": "cells", "channels": net.channels, "dilations": list(net.dilations), "planes": PLANES}
    known |= {"cell": CELL, "grid": vars(dense_grid(net.reach))}
    return write_model(folder, arrays, CARD | {"stage": "detect", "input": known, "threshold": threshold})


def one_leaf(value):
    """Make trees that say the same of everything."""
    zero = np.zeros(1, np.int32)
    return TreeEnsemble(zero, np.full(1, -1, np.int16), np.zeros(1), zero, zero, np.array([value]), np.zeros(1))


def write_reliability(folder, gain=0.0, offset=0.0, feature="log_snr", networks=1, threshold=0.1, **known):
    """Write a verdict whose log odds are ``gain`` times a feature that is not negative, plus ``offset``."""
    net = ReliabilityCnn(len(FEATURES))
    arrays = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    arrays["scale"] += 1
    arrays["joined.0.weight"][0, FEATURES.index(feature)] = 1
    arrays["joined.3.weight"][0, 0] = 1
    arrays["joined.5.weight"][0, 0] = 2 * gain  # the trees are silent, and have half of the say
    arrays["joined.5.bias"][0] = 2 * offset
    members = {f"{n}.{name}": value.numpy() for n in range(networks) for name, value in arrays.items()}
    members |= {f"{TREES}{name}": value for name, value in one_leaf(0.0)._asdict().items()}
    given = {"features": list(FEATURES), "stamps": [STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE], "networks": networks}
    given["centred"] = True
    made = {"stage": "reliability", "input": given | known, "threshold": threshold}
    return write_model(folder, members, CARD | made | {"calibration": {"slope": 1.0, "offset": 0.0}})


def tile_of(model, shape):
    """Give the only tile of an image for a detector in a folder."""
    grid = search_grid(DetectSettings(model=str(model)))
    (tile,) = grid.tiling(shape, grid.stride * 1000).tiles()
    return tile


CARD_SCREEN_SUPPORT = {
    "stage": "screen", "name": "test", "version": "1", "classes": ("below", "worth the network"), "training": {},
    "metrics": {}, "false_alarm_rate": "not set",
}  # fmt: skip


def write_screen(folder, detect_sha256, level=0.3):
    rng = np.random.default_rng(0)
    arrays = {
        f"{kind}{n}": rng.normal(size=shape).astype(np.float32)
        for n, size in enumerate([(4, 12), (1, 4)])
        for kind, shape in (("weight", size), ("bias", size[:1]))
    }
    given = {"input": {"features": 12, "detect_sha256": detect_sha256, "threshold": 0.5}, "threshold": level}
    write_model(folder, arrays, CARD_SCREEN_SUPPORT | given)

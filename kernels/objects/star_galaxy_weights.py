"""Models for stars and galaxies, and their baselines, made from weights and card."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.nets.basic_cnn import BasicCnn
from kernels.nets.cutout_nets import BandSetNet, CutoutMlp, CutoutResnet
from kernels.nets.tree_ensemble import tree_ensemble
from kernels.objects.cutout_features import CHANNELS, FEATURES, OF_PSF
from kernels.objects.star_galaxy_model import (
    SETS,
    Known,
    LocusCut,
    MomentTrees,
    PlaneNet,
    StarGalaxyModel,
    StarGalaxyNet,
)
from schemas.errors import Misconfigured
from schemas.model_card import ModelCard
from schemas.objects import SIDE

Arrays = Mapping[str, NDArray[Any]]

PICTURES_OF_PSF = 2
"""Index of the first picture of a band that needs the PSF."""

PLANE_NETS: dict[str, Callable[[int], Any]] = {
    "basic_cnn": lambda planes: BasicCnn(planes, SIDE),
    "resnet": CutoutResnet,
    "mlp": lambda planes: CutoutMlp(planes, SIDE),
}
"""Untrained networks of the source for a number of planes."""

_TREES, _KNOWN, _NET = "trees.", "known.", "net."


class Baselines(NamedTuple):
    """Simplest ways to the same verdict: locus cut, and trees on moments."""

    locus: LocusCut
    trees: MomentTrees


def new_net() -> BandSetNet:
    """Return an untrained network for the pictures and measurements that we make."""
    return BandSetNet(CHANNELS, len(FEATURES), (PICTURES_OF_PSF, OF_PSF))


def build_star_galaxy(card: ModelCard, arrays: Arrays) -> StarGalaxyModel:
    """Make the model of its weights and card: ours, or one of `PLANE_NETS`.

    Raises
    ------
    Misconfigured
        It was trained on other measurements, or its network is not one of ours.
    """
    for name, ours in (("features", FEATURES), ("moments", SETS)):
        if tuple(card.input.get(name, ())) != ours:
            problem = f"was trained on the {name} {card.input.get(name)}, this version measures {list(ours)}."
            raise Misconfigured("other_features", card.name, problem, "train it again: nightstride train star-galaxy.")
    network = card.input.get("network")
    if network is not None and network not in PLANE_NETS:
        problem = f"is the network {network!r}, not one of {sorted(PLANE_NETS)}."
        raise Misconfigured("unknown_network", card.name, problem, "train it again: nightstride train star-galaxy.")
    scale = card.calibration
    known = Known(
        arrays[_KNOWN + "centres"], arrays[_KNOWN + "whitening"], float(scale["limit"]), float(scale["signal"])
    )
    common = {
        "known": known,
        "slope": float(scale["slope"]),
        "offset": float(scale["offset"]),
        "psf": card.input["psf"],
        "side": int(card.input["side"]),
        "card": card,
    }
    if network is not None:
        bands = int(card.input["planes"]) // 2
        net = PLANE_NETS[network](2 * bands)
        return PlaneNet(net=_filled(net, arrays, _NET), bands=bands, **common)
    nets = tuple(_filled(new_net(), arrays, f"{n}.") for n in range(int(card.input["networks"])))
    share = float(card.input.get("share_of_trees", 0.0))
    return StarGalaxyNet(nets=nets, trees=build_baselines(arrays).trees, share=share, **common)


def _filled(net: Any, arrays: Arrays, prefix: str) -> Any:
    # A counter of batch norm has no axis, which the file of weights does not keep.
    shapes = {name: value.shape for name, value in net.state_dict().items()}
    net.load_state_dict({name: torch.from_numpy(arrays[prefix + name].reshape(shapes[name]).copy()) for name in shapes})
    return net.eval()


def build_baselines(arrays: Arrays) -> Baselines:
    """Make the baselines that lie beside a model in its weights."""
    trees = {name.removeprefix(_TREES): value for name, value in arrays.items() if name.startswith(_TREES)}
    cut = LocusCut(*(float(value) for value in arrays["locus"]))
    return Baselines(cut, MomentTrees(tree_ensemble(trees)))


def arrays_of(nets: tuple[BandSetNet, ...], known: Known, baselines: Baselines) -> dict[str, NDArray[Any]]:
    """Return the arrays of our model to store."""
    arrays = {f"{n}.{key}": value.numpy() for n, net in enumerate(nets) for key, value in net.state_dict().items()}
    return arrays | _beside(known, baselines)


def plane_arrays_of(net: torch.nn.Module, known: Known, baselines: Baselines) -> dict[str, NDArray[Any]]:
    """Return those of a model of `PLANE_NETS`; its weights as float16, for these networks are large."""
    weights = {
        _NET + key: value.half() if value.is_floating_point() else value for key, value in net.state_dict().items()
    }
    return {key: value.numpy() for key, value in weights.items()} | _beside(known, baselines)


def _beside(known: Known, baselines: Baselines) -> dict[str, NDArray[Any]]:
    trees = {_TREES + name: value for name, value in baselines.trees.trees._asdict().items()}
    places = {_KNOWN + "centres": known.centres, _KNOWN + "whitening": known.whitening}
    return trees | places | {"locus": np.array(baselines.locus, np.float64)}

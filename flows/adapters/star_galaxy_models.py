"""Models for stars and galaxies, and the baselines beside them, made from weights and card."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.cutout_features import CHANNELS, FEATURES, OF_PSF
from kernels.locus_cut import LocusCut
from kernels.moment_trees import MomentTrees
from kernels.nets.band_set_net import BandSetNet
from kernels.star_galaxy_net import Known, StarGalaxyNet
from kernels.tree_ensemble import tree_ensemble
from schemas.errors import Misconfigured
from schemas.model_card import ModelCard

Arrays = Mapping[str, NDArray[Any]]

PICTURES_OF_PSF = 2
"""Number of the first picture of a band that needs the PSF."""

_TREES, _KNOWN = "trees.", "known."


class Baselines(NamedTuple):
    """The simplest ways to the same verdict: locus cut, and trees on moments."""

    locus: LocusCut
    trees: MomentTrees


def new_net() -> BandSetNet:
    """Give an untrained network for the pictures and measurements that we make."""
    return BandSetNet(CHANNELS, len(FEATURES), (PICTURES_OF_PSF, OF_PSF))


def build_star_galaxy(card: ModelCard, arrays: Arrays) -> StarGalaxyNet:
    """Make the model of its weights and card.

    Raises
    ------
    Misconfigured
        It was trained on other measurements.
    """
    if tuple(card.input.get("features", ())) != FEATURES:
        problem = f"was trained on {card.input.get('features')}, this version measures {list(FEATURES)}."
        raise Misconfigured("other_features", card.name, problem, "train it anew: nightstride train star-galaxy.")
    nets = []
    for n in range(int(card.input["networks"])):
        net = new_net()
        own = {name.split(".", 1)[1]: value for name, value in arrays.items() if name.startswith(f"{n}.")}
        net.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in own.items()})
        nets.append(net.eval())
    scale = card.calibration
    known = Known(
        arrays[_KNOWN + "centres"], arrays[_KNOWN + "whitening"], float(scale["limit"]), float(scale["signal"])
    )
    return StarGalaxyNet(
        tuple(nets),
        build_baselines(arrays).trees,
        float(card.input.get("share_of_trees", 0.0)),
        known,
        float(scale["slope"]),
        float(scale["offset"]),
        card.input["psf"],
        int(card.input["side"]),
        card,
    )


def build_baselines(arrays: Arrays) -> Baselines:
    """Make the baselines that lie beside a model in its weights."""
    trees = {name.removeprefix(_TREES): value for name, value in arrays.items() if name.startswith(_TREES)}
    cut = LocusCut(*(float(value) for value in arrays["locus"]))
    return Baselines(cut, MomentTrees(tree_ensemble(trees), int(arrays["baseline_bands"][0])))


def arrays_of(nets: tuple[BandSetNet, ...], known: Known, baselines: Baselines) -> dict[str, NDArray[Any]]:
    """Give the arrays to store."""
    arrays = {f"{n}.{key}": value.numpy() for n, net in enumerate(nets) for key, value in net.state_dict().items()}
    trees = {_TREES + name: value for name, value in baselines.trees.trees._asdict().items()}
    places = {_KNOWN + "centres": known.centres, _KNOWN + "whitening": known.whitening}
    cut = {"locus": np.array(baselines.locus, np.float64), "baseline_bands": np.array([baselines.trees.bands])}
    return arrays | trees | places | cut

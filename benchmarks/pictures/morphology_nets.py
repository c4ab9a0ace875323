"""Networks for morphology side by side: ``python -m benchmarks.pictures.morphology_nets WORK FOLDER_OR_CSV...``.

Those of a published comparison, ResNet-50 and ours learn from the same three fifths of labelled pictures and are judged
on the same fifth, with the same augmentation and schedule. An interrupted run goes on from the checkpoints in WORK.
With ``--full``, for a GPU, the large ones make 100 passes over pictures of 224 px, and nothing is kept in WORK, for a
checkpoint takes longer than a pass.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.pictures.published_nets import GalaxyCnn, GalaxyLstm, GalaxyMlp, ResNet50
from benchmarks.support.command_line import command_line
from flows.inputs.picture_files import list_pictures, read_picture, split_pictures
from flows.results.evaluation.picture_scores import LONGEST, content_number, label_sets, picture_figures
from flows.training.picture_fit import PictureExamples, PictureFit, apply_net, fit_pictures
from kernels.pictures.compact_net import PictureNet
from kernels.pictures.picture_model import squared
from schemas.picture_classes import MORPHOLOGIES

CROP = 0.45
SHARES = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class Entry:
    """Network, the side of its pictures in px, and passes over them."""

    name: str
    make: Callable[[], nn.Module]
    side: int
    epochs: int
    rate: float = 1e-3


CLASSES = len(MORPHOLOGIES)
ENTRIES = (
    Entry("FFNN", lambda: GalaxyMlp(CLASSES), 224, 20),
    Entry("CNN", lambda: GalaxyCnn(CLASSES), 224, 10),
    Entry("LSTM", lambda: GalaxyLstm(CLASSES), 224, 10),
    Entry("ResNet-50", lambda: ResNet50(CLASSES), 112, 10),
    Entry("PictureNet (ours)", lambda: PictureNet(classes=CLASSES), 48, 140, 3e-3),
)
FULL = {"side": 224, "epochs": 100}


@lru_cache(2)
def _pictures(files: tuple[Path, ...], side: int) -> torch.Tensor:
    return torch.stack([squared(read_picture(file, LONGEST), CROP, side) for file in files])


def measure(
    entry: Entry, data: Sequence[Path], work: Path | None, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Train one network, and return its figures on the held-out pictures."""
    files = list_pictures(*data)
    labels, _ = label_sets("morphology", files)
    files = [file for file in files if file.label in labels]
    known = [labels[file.label] for file in files]
    parts = split_pictures([f"{content_number(file.path):016x}" for file in files], [0] * len(files), SHARES, seed)
    pictures = _pictures(tuple(file.path for file in files), entry.side)
    targets = torch.tensor([[float(name in one) for name in MORPHOLOGIES] for one in known])
    train, validation, test = (PictureExamples(pictures, targets).take(np.asarray(part)) for part in parts)
    torch.manual_seed(seed)
    net, plan = entry.make(), PictureFit(epochs=entry.epochs, patience=entry.epochs, rate=entry.rate)
    start = perf_counter()
    fit_pictures(net, train, validation, plan, seed, None if work is None else work / f"{entry.name}.pt", say)
    minutes = (perf_counter() - start) / 60
    net.to("cuda" if torch.cuda.is_available() else "cpu")
    apply_net(net, test.pictures[:256])  # where there is a GPU, the first takes longer
    start = perf_counter()
    scores = apply_net(net, test.pictures)
    figures = picture_figures(torch.softmax(scores, 1).numpy(), [known[n] for n in parts[2]], MORPHOLOGIES)
    return {
        "network": entry.name, "parameters": sum(one.numel() for one in net.parameters()), "side": entry.side,
        "epochs": entry.epochs, "minutes": round(minutes, 1), "n": figures["n"], "accuracy": figures["accuracy"],
        "interval": figures["accuracy_interval"], "macro_f1": figures["macro_f1"],
        "ms a picture": round(1000 * (perf_counter() - start) / len(parts[2]), 2), "confusion": figures["confusion"],
    }  # fmt: skip


def main() -> None:
    """Train each and print its figures."""
    asked = command_line(__doc__, "work", "data+", only=[entry.name for entry in ENTRIES], seed=1, full=False)
    asked.work.mkdir(parents=True, exist_ok=True)
    work = None if asked.full else asked.work
    for entry in ENTRIES:
        if entry.name in asked.only:
            entry = replace(entry, **FULL) if asked.full and entry != ENTRIES[-1] else entry
            print(json.dumps(measure(entry, asked.data, work, asked.seed, lambda line: None)), flush=True)


if __name__ == "__main__":
    main()

"""How good the window classifier is, and how it came to be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flows.training.window_fit import Epoch
from kernels.completeness import binomial_interval

mpl.use("Agg")
from matplotlib import pyplot as plt  # the backend comes first


def window_metrics(net: nn.Module, windows: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Give accuracy with a 95 % interval and the confusion matrix (rows: truth) at probability 0.5 and 0.99."""
    with torch.inference_mode():
        scores = torch.cat([net(part) for part in torch.split(torch.from_numpy(windows), 4096)])
    probability = torch.softmax(scores, 1)[:, 1].numpy()
    metrics: dict[str, Any] = {"windows": len(labels)}
    for level in (0.5, 0.99):
        said = (probability >= level).astype(int)
        right = int((said == labels).sum())
        low, high = binomial_interval(right, len(labels))
        confusion = [[int(((labels == a) & (said == b)).sum()) for b in (0, 1)] for a in (0, 1)]
        metrics[f"at_{level}"] = {
            "accuracy": round(right / len(labels), 4),
            "interval": [round(low, 4), round(high, 4)],
            "confusion": confusion,
        }
    return metrics


def draw_history(path: Path, rounds: Sequence[Sequence[Epoch]], metrics: dict[str, Any]) -> None:
    """Draw loss and accuracy per epoch over all rounds, and the confusion matrix."""
    epochs = [epoch for fit in rounds for epoch in fit]
    _, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy"), strict=False):
        axis.plot([getattr(epoch, name) for epoch in epochs], label="training")
        axis.plot([getattr(epoch, f"validation_{name}") for epoch in epochs], label="validation")
        for end in np.cumsum([len(fit) for fit in rounds])[:-1]:
            axis.axvline(end - 0.5, color="0.8", lw=1)
        axis.set(xlabel="epoch (lines: rounds of mining)", ylabel=name)
        axis.legend(frameon=False)
    confusion = np.array(metrics["at_0.5"]["confusion"])
    axes[2].imshow(confusion / confusion.sum(1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        share = count / confusion[row].sum()
        axes[2].text(column, row, f"{count}\n{share:.1%}", ha="center", va="center", color="w" if share > 0.5 else "k")
    names = ("nothing", "streak")
    axes[2].set(
        xticks=(0, 1), yticks=(0, 1), xticklabels=names, yticklabels=names, xlabel="said", ylabel="true",
        title="test windows, p ≥ 0.5",
    )  # fmt: skip
    plt.savefig(path, dpi=110)
    plt.close()

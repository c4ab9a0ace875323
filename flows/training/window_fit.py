"""Fit of the window classifier, and its figures."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import matplotlib as mpl
import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from matplotlib import pyplot as plt  # the backend comes first
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, TensorDataset, WeightedRandomSampler

from kernels.statistics.completeness import binomial_interval


@dataclass(frozen=True)
class Epoch:
    """Mean loss and accuracy of one epoch on the training and on the validation windows."""

    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True)
class FitPlan:
    """Settings of the fit.

    Attributes
    ----------
    epochs, batch, rate, seed
        Passes over the windows, windows per step, Adam's peak learning rate, seed.
    device
        ``auto``, ``cpu`` or ``cuda``.
    """

    epochs: int = 10
    batch: int = 256
    rate: float = 1e-3
    seed: int = 0
    device: str = "auto"


class _Fit(lightning.LightningModule):
    def __init__(self, net: nn.Module, plan: FitPlan, steps: int) -> None:
        super().__init__()
        self.net, self.plan, self.steps = net, plan, steps
        self.history: list[Epoch] = []
        self.sums = {"train": np.zeros(3), "validation": np.zeros(3)}

    def _step(self, batch: tuple[torch.Tensor, torch.Tensor], kind: str) -> torch.Tensor:
        windows, label = batch
        if kind == "train":
            windows = _turned(windows)
        scores = self.net(windows)
        loss = nn.functional.cross_entropy(scores, label)
        right = (scores.argmax(1) == label).sum()
        self.sums[kind] += [float(loss.detach()) * len(label), float(right), len(label)]
        return loss

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        self._step(batch, "validation")

    def on_train_epoch_end(self) -> None:
        loss, accuracy, count = self.sums["train"]
        validation = self.sums["validation"]
        epoch = Epoch(loss / count, accuracy / count, validation[0] / validation[2], validation[1] / validation[2])
        self.history.append(epoch)
        self.sums = {"train": np.zeros(3), "validation": np.zeros(3)}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.plan.rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.plan.rate, total_steps=self.steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def fit_windows(
    net: nn.Module,
    windows: NDArray[np.float32],
    labels: NDArray[np.int64],
    validation: tuple[NDArray[np.float32], NDArray[np.int64]],
    plan: FitPlan,
) -> tuple[Epoch, ...]:
    """Fit ``net`` in place; return its history.

    Parameters
    ----------
    net
        Network from (n, 1, side, side) windows to (n, 2) class scores.
    windows, labels
        (n, 1, side, side) float32, z-scored, and (n,) 0 or 1. Both classes have equal weight: batches have, on
        average, as many of one as of the other.
    validation
        The same, from exposures not used in training.
    plan
        Settings of the fit.

    Notes
    -----
    Adam with a one-cycle learning rate; every batch is turned by one of the eight symmetries of the square.
    """
    lightning.seed_everything(plan.seed, verbose=False)
    data = TensorDataset(torch.from_numpy(windows), torch.from_numpy(labels))
    share = np.bincount(labels, minlength=2)
    size = 2 * int(share.max())
    weights = torch.from_numpy(1.0 / share[labels])
    generator = torch.Generator().manual_seed(plan.seed)
    order = WeightedRandomSampler(weights.tolist(), size, generator=generator)
    # Whole batches are indexed at once: fetching windows one by one takes longer than learning from them.
    train = DataLoader(data, batch_size=None, sampler=BatchSampler(order, plan.batch, drop_last=True))
    check = TensorDataset(torch.from_numpy(validation[0]), torch.from_numpy(validation[1]))
    everything = BatchSampler(range(len(check)), 4096, drop_last=False)
    # Networks from earlier rounds are in evaluation mode; dropout must be active again.
    module = _Fit(net.train(), plan, len(train) * plan.epochs)
    with warnings.catch_warnings():
        # Lightning recommends more loader processes, but the windows are already in memory.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*`srun` command is available.*")  # where SLURM is installed
        # Lightning's own use of torch's tree utilities.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        trainer = lightning.Trainer(
            max_epochs=plan.epochs,
            accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[plan.device],
            devices=1,
            plugins=[LightningEnvironment()],  # a single process, even if SLURM is installed
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, train, DataLoader(check, batch_size=None, sampler=everything))
    net.cpu().eval()
    return tuple(module.history)


def _turned(windows: torch.Tensor) -> torch.Tensor:
    turns = int(torch.randint(8, ()))
    turned = torch.rot90(windows, turns % 4, (2, 3))
    return torch.flip(turned, (3,)) if turns >= 4 else turned


mpl.use("Agg")


def window_metrics(net: nn.Module, windows: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Return accuracy with a 95 % interval and the confusion matrix (rows: truth) at probability 0.5 and 0.99."""
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

"""Fit of a network to pictures: early stopping, checkpoints, ambiguous labels, vote fractions."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flows.storage.writing import TRAIN_AGAIN, write_whole
from kernels.pictures.augment import Augment, augmented
from kernels.search.detector import choose_device
from schemas.errors import Misconfigured


class PictureExamples(NamedTuple):
    """Pictures and their targets.

    Attributes
    ----------
    pictures : (n, planes, side, side) uint8
        0 to 255.
    targets : (n, classes) float32
        Vote fractions, with sum 1; or 1 for each class that a label allows, and 0 for the others.
    """

    pictures: torch.Tensor
    targets: torch.Tensor

    def take(self, chosen: NDArray[np.int64]) -> "PictureExamples":
        """Return the chosen pictures."""
        part = torch.from_numpy(chosen)
        return PictureExamples(self.pictures[part], self.targets[part])


@dataclass(frozen=True)
class PictureFit:
    """Settings of the fit.

    Attributes
    ----------
    epochs, patience
        Largest number of passes; passes without a lower validation loss after which the fit ends.
    batch, rate, decay
        Pictures per step, peak learning rate of a one-cycle schedule, weight decay of AdamW.
    mixup
        Pictures are mixed in pairs by a fraction from Beta(mixup, mixup) (Zhang et al. 2018, ICLR); 0: no mixing.
    weighted
        Whether all classes have equal weight.
    augment
        Changes of a picture before it is learnt from.
    """

    epochs: int = 60
    patience: int = 20
    batch: int = 32
    rate: float = 3e-3
    decay: float = 0.05
    mixup: float = 0.2
    weighted: bool = True
    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True)
class PictureEpoch:
    """Mean loss of one pass on the training pictures; loss and accuracy on the validation pictures after it."""

    loss: float
    validation_loss: float
    validation_accuracy: float


def fit_pictures(
    net: nn.Module,
    train: PictureExamples,
    validation: PictureExamples,
    plan: PictureFit,
    seed: int,
    checkpoint: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[PictureEpoch, ...]:
    """Fit ``net`` in place, keep the weights of the best pass, and return its history.

    Parameters
    ----------
    net
        Network from float32 pictures, 0 to 1, (n, planes, side, side), to class scores (n, classes). It is fitted on
        a GPU if there is one, and returned on the CPU.
    train, validation
        Examples; validation objects are not used in training.
    plan, seed
        Settings, and seed of order and augmentation.
    checkpoint
        File written after each pass, from which an interrupted fit continues.
    say
        Receives a message on each pass.

    Raises
    ------
    Misconfigured
        The training pictures are all of one class (``one_class``), or the checkpoint is of another fit or damaged.
    """
    require_classes(train.targets)
    work = _Fit(net, train, validation, plan, seed)
    if checkpoint is not None and checkpoint.exists():
        work.resume(checkpoint)
    while not work.over:
        epoch = work.step()
        if checkpoint is not None:
            work.save(checkpoint)
        say(
            f"pass {len(work.history)} of {plan.epochs}: loss {epoch.loss:.4f}, validation "
            f"{epoch.validation_loss:.4f}, accuracy {epoch.validation_accuracy:.4f}"
        )
    net.load_state_dict(work.best)
    net.cpu().eval()
    return tuple(work.history)


def require_classes(targets: torch.Tensor) -> None:
    """Raise `Misconfigured` (``one_class``) if the targets of pictures, (n, classes), are all of one class."""
    if int((targets.sum(0) > 0).sum()) < 2:
        problem = f"{len(targets)} pictures are all of one class: nothing tells what the others look like."
        raise Misconfigured("one_class", "training pictures", problem, "give pictures of two classes or more.")


class _Fit:
    """State of a fit between two passes."""

    def __init__(
        self, net: nn.Module, train: PictureExamples, validation: PictureExamples, plan: PictureFit, seed: int
    ) -> None:
        self.net, self.train, self.validation, self.plan, self.seed = net, train, validation, plan, seed
        self.device = choose_device("auto")
        self.net.to(self.device)
        self.steps = max(1, len(train.targets) // plan.batch)
        self.optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, plan.rate, total_steps=plan.epochs * self.steps, pct_start=0.2
        )
        self.weight = class_weights(train.targets) if plan.weighted else torch.ones(train.targets.shape[1])
        self.history: list[PictureEpoch] = []
        self.best: dict[str, Any] = {}

    @property
    def over(self) -> bool:
        losses = [one.validation_loss for one in self.history]
        waited = len(losses) - 1 - int(np.argmin(losses)) if losses else 0
        return len(losses) >= self.plan.epochs or waited >= self.plan.patience

    def step(self) -> PictureEpoch:
        """Make a pass; random draws depend only on its number, so that a continued fit is the same."""
        drawn = [self.seed, len(self.history)]
        rng = np.random.default_rng(drawn)
        generator = torch.Generator(self.device).manual_seed(drawn[0] * 100_003 + drawn[1])
        self.net.train()
        total = 0.0
        for chosen in np.array_split(rng.permutation(len(self.train.targets)), self.steps):
            loss = self._loss(self.train.take(chosen), generator, rng)
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimiser.step()
            self.schedule.step()
            total += float(loss.detach()) * len(chosen)
        scores = apply_net(self.net, self.validation.pictures)
        losses = picture_loss(scores, self.validation.targets)
        right = self.validation.targets.gather(1, scores.argmax(1, keepdim=True)) >= self.validation.targets.amax(
            1, True
        )
        epoch = PictureEpoch(total / len(self.train.targets), float(losses.mean()), float(right.float().mean()))
        if not self.history or epoch.validation_loss < min(one.validation_loss for one in self.history):
            self.best = {name: value.cpu().clone() for name, value in self.net.state_dict().items()}
        self.history.append(epoch)
        return epoch

    def _loss(self, batch: PictureExamples, generator: torch.Generator, rng: np.random.Generator) -> torch.Tensor:
        pictures = augmented(batch.pictures.to(self.device).float() / 255, self.plan.augment, generator)
        targets = batch.targets.to(self.device)
        weight = (targets * self.weight.to(self.device)).sum(1) / targets.sum(1)
        # Gradients in bfloat16 have float32's range and do not vanish, unlike float16's, which need a scaled loss.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            if not self.plan.mixup:
                return (weight * picture_loss(self.net(pictures), targets)).mean()
            share = float(rng.beta(self.plan.mixup, self.plan.mixup))
            other = torch.from_numpy(rng.permutation(len(targets)))
            scores = self.net(share * pictures + (1 - share) * pictures[other])
            first, second = (
                w * picture_loss(scores, t) for w, t in ((weight, targets), (weight[other], targets[other]))
            )
            return (share * first + (1 - share) * second).mean()

    def save(self, path: Path) -> None:
        state = {
            "fit": self.about, "net": self.net.state_dict(), "best": self.best,
            "optimiser": self.optimiser.state_dict(), "schedule": self.schedule.state_dict(),
            "history": [asdict(one) for one in self.history],
        }  # fmt: skip
        held = BytesIO()
        torch.save(state, held)  # to a file it would not name a full disk
        write_whole(path, held.getvalue(), TRAIN_AGAIN)

    def resume(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
            problem = f"is a checkpoint that cannot be read ({type(error).__name__})."
            raise Misconfigured("unreadable_checkpoint", str(path), problem, "remove the file.") from error
        if state["fit"] != self.about:
            problem = "is the checkpoint of another fit: network, pictures, labels, settings or seed differ."
            raise Misconfigured("other_fit", str(path), problem, "name another --work folder, or remove the file.")
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.best = state["best"]
        self.history = [PictureEpoch(**one) for one in state["history"]]

    @cached_property
    def about(self) -> str:
        """Identity of this fit: network, pictures, labels, settings and seed."""
        shapes = [tuple(value.shape) for value in self.net.state_dict().values()]
        digest = hashlib.sha256()
        for part in (*self.train, *self.validation):
            digest.update(part.numpy().tobytes())
        return repr((shapes, digest.hexdigest(), self.plan, self.seed))


def picture_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the loss of each picture, (n,), from scores and targets (n, classes).

    For vote fractions this is the cross entropy; for ambiguous labels minus the log of the total probability of the
    allowed classes.
    """
    log = torch.log_softmax(scores.float(), 1)
    shares = -(targets * log).sum(1)
    open_to = -torch.logsumexp(log.masked_fill(targets == 0, -1e4), 1)
    return torch.where(targets.sum(1) > 1.001, open_to, shares)


def class_weights(targets: torch.Tensor) -> torch.Tensor:
    """Return weights that make all classes count equally, (classes,), with mean 1 over the pictures; absent ones 0."""
    share = (targets / targets.sum(1, keepdim=True)).sum(0)
    present = share > 0
    return torch.where(present, len(targets) / (share.clamp(min=1e-9) * present.sum()), 0.0)


def apply_net(net: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """Return class scores of pictures, 0 to 255, as (n, classes) on the CPU."""
    net.eval()
    device = next(net.parameters()).device
    with torch.inference_mode():
        parts = [net((one.float() / 255).to(device)).float().cpu() for one in torch.split(pictures, 256)]
    return torch.cat(parts)

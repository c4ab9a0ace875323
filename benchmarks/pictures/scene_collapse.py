"""Reasons why a plain network fails to learn scenes:
``python -m benchmarks.pictures.scene_collapse FOLDER [--docs PICTURE]``.

A published network of five convolutions gave one class for every picture, by SGD and by Adam. Each row changes one
thing of it; learnt from four fifths of the pictures, judged on the others, split by content.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.pictures.published_nets import SceneCnn
from benchmarks.support.command_line import command_line
from flows.inputs.picture_files import list_pictures, read_picture, split_pictures
from flows.results.evaluation.picture_scores import label_sets
from flows.results.evaluation.pictures import new_figure, save
from flows.storage.digest import file_digest
from kernels.pictures.picture_model import squared
from schemas.picture_classes import SCENES


@dataclass(frozen=True)
class Row:
    """Setting of a training: what is changed of the published ones."""

    name: str
    optimiser: str
    rate: float
    batch: int
    norm: bool = False
    standardised: bool = False
    he: bool = False
    softmax: bool = False


ROWS = (
    Row("SGD 0.001, batch 4 (published)", "sgd", 1e-3, 4),
    Row("Adam 0.01, batch 32 (published)", "adam", 1e-2, 32),
    Row("Adam 0.01, He's initialisation", "adam", 1e-2, 32, he=True),
    Row("Adam 0.01, standardised pictures", "adam", 1e-2, 32, standardised=True),
    Row("Adam 0.01, batch norm", "adam", 1e-2, 32, norm=True),
    Row("Adam 0.0005", "adam", 5e-4, 32),
    Row("Adam 0.0005, softmax twice", "adam", 5e-4, 32, softmax=True),
    Row("Adam 0.0005, batch norm", "adam", 5e-4, 32, norm=True),
    Row("SGD 0.001 with momentum 0.9, batch 4", "momentum", 1e-3, 4),
)


def read(folder: Path, side: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Return pictures (n, 3, side, side) uint8, classes (n,) and digests of a folder of folders."""
    files = list_pictures(folder)
    labels, _ = label_sets("scene", files)
    known = [file for file in files if file.label in labels]
    code = [SCENES.index(next(iter(labels[file.label]))) for file in known]
    pictures = [squared(read_picture(file.path, 512), 1.0, side) for file in known]
    return torch.stack(pictures), torch.tensor(code), [file_digest(file.path) for file in known]


def fit(
    row: Row,
    pictures: torch.Tensor,
    code: torch.Tensor,
    parts: tuple[Any, Any],
    epochs: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train with a setting; return losses by pass, and accuracy and verdicts on the held-out pictures."""
    torch.manual_seed(1)
    rng, net = np.random.default_rng(1), SceneCnn(side=pictures.shape[-1], norm=row.norm)
    if row.he:
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
    given = pictures.float() / 255
    if row.standardised:
        given = (given - given[parts[0]].mean((0, 2, 3), keepdim=True)) / given[parts[0]].std((0, 2, 3), keepdim=True)
    momentum = 0.9 if row.optimiser == "momentum" else 0.0
    optimiser: torch.optim.Optimizer = (
        torch.optim.Adam(net.parameters(), row.rate)
        if row.optimiser == "adam"
        else torch.optim.SGD(net.parameters(), row.rate, momentum=momentum)
    )
    losses, start = [], perf_counter()
    for number in range(epochs):
        net.train()
        total = 0.0
        for chosen in np.array_split(rng.permutation(parts[0]), max(1, len(parts[0]) // row.batch)):
            scores = net(given[chosen])
            loss = nn.functional.cross_entropy(torch.softmax(scores, 1) if row.softmax else scores, code[chosen])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            total += float(loss.detach()) * len(chosen)
        losses.append(round(total / len(parts[0]), 4))
        say(f"{row.name}: pass {number + 1} of {epochs}, loss {losses[-1]}")
    net.eval()
    with torch.inference_mode():
        said = torch.cat([net(one) for one in torch.split(given[parts[1]], 32)]).argmax(1)
    most = int(torch.bincount(said, minlength=3).max())
    return {
        "setting": row.name,
        "loss": losses[-1],
        "accuracy": round(float((said == code[parts[1]]).float().mean()), 3),
        "verdicts of one class": round(most / len(said), 3),
        "s": round(perf_counter() - start),
        "losses": losses,
    }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the loss of each setting by pass."""
    figure, (panel,) = new_figure()
    for row in rows:
        panel.plot(np.arange(1, len(row["losses"]) + 1), row["losses"], label=row["setting"], linewidth=1.3)
    panel.axhline(np.log(3), color="black", linewidth=0.8, linestyle=":")
    panel.set(xlabel="pass", ylabel="training loss (dotted: one class for all)", ylim=(0, 1.6))
    panel.legend(frameon=False, fontsize=6)
    save(figure, path)


def main() -> None:
    """Train with each setting, print a line of JSON for each."""
    chosen = command_line(__doc__, "folder", side=224, epochs=30, docs=(Path, "picture of the losses"))
    pictures, code, digests = read(chosen.folder, chosen.side)
    parts = split_pictures(digests, code.tolist(), (0.8, 0.2), 1)
    rows = []
    for row in ROWS:
        rows.append(fit(row, pictures, code, (parts[0], parts[1]), chosen.epochs, lambda line: None))
        print(json.dumps({name: value for name, value in rows[-1].items() if name != "losses"}), flush=True)
    if chosen.docs is not None:
        draw(rows, chosen.docs)


if __name__ == "__main__":
    main()

"""Membership in a cluster by pictures, by a table, and by both:
``python -m benchmarks.pictures.cluster_pictures WORK``.

Learns from the simulated fields that `nightstride train cluster` draws, sets what joins the two on a field of its own,
and judges all on a third, with another seeing, noise and redshift. Beside it the published way: galaxies brighter than
r = 19.4 and no redder than the red sequence, 15 rotations of each, a learning rate of 0.8 exp(-0.9 t); and pictures
without colour. Prints JSON, a line for each way.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit
from torch import nn

from benchmarks.support.command_line import command_line
from flows.inputs.cluster_table import STAR_BELOW, ClusterTable, read_clusters
from flows.inputs.picture_files import read_picture
from flows.pipeline.weights import read_weights
from flows.results.evaluation.membership import membership_figures
from flows.simulation.cluster_field import SIDE, ClusterField, write_cluster_field
from flows.training.membership import MembershipPlan, train_membership
from flows.training.picture_fit import PictureExamples, apply_net, fit_pictures
from flows.training.pictures import PLANS, cluster_fields
from kernels.objects.membership import colour_region, membership_model, redness
from kernels.pictures.augment import Augment, augmented
from kernels.pictures.compact_net import PictureNet
from kernels.pictures.picture_model import build_picture_model, squared

JOINED = ClusterField(seed=71_001, count=1000, redshift=0.0160, seeing=1.1, noise=1.0)
TEST = ClusterField(seed=72_001, count=2000, redshift=0.0205, seeing=0.9, noise=1.2)
BRIGHT, REDDEST = 19.4, 3.0
"""Limits of the published cleaning: r, and scatters from the red sequence."""

Numbers = NDArray[np.float64]


class Field(NamedTuple):
    """Galaxies of a field, without stars: its table, their pictures (n, 3, side, side) uint8, and the truth."""

    table: ClusterTable
    pictures: torch.Tensor
    truth: NDArray[np.int64]

    def take(self, rows: NDArray[np.bool_]) -> "Field":
        """Return some of them."""
        columns = {name: values[rows] for name, values in self.table.columns.items()}
        table = ClusterTable(columns, self.table.cluster[rows], self.table.truth, 0, {})
        return Field(table, self.pictures[torch.from_numpy(rows)], self.truth[rows])


def read_field(tables: Sequence[Path], joined: Path) -> Field:
    """Read fields as one; ``joined`` is written: the rows of all their tables that are not stars."""
    rows, pictures = list[dict[str, str]](), []
    for path in tables:
        with path.open(newline="") as file:
            galaxies = (row for row in csv.DictReader(file) if row["label"] != "star")
            some = [row for row in galaxies if float(row["redshift"] or 1) >= STAR_BELOW]
        rows += some
        pictures += [squared(read_picture(path.parent / row["location"], SIDE), 1.0, SIDE) for row in some]
    with joined.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    table = read_clusters(joined)
    return Field(table, torch.stack(pictures), table.columns["member"].astype(np.int64))


def published_way(field: Field, test: Field, epochs: int) -> tuple[Numbers, int]:
    """Return what our network says of the test field when it is trained as published, and from how many pictures."""
    torch.manual_seed(1)
    net, rng, generator = PictureNet(classes=2), np.random.default_rng(1), torch.Generator().manual_seed(1)
    turns = Augment(zoom=1.0, shift=0.0, gain=0.0, tint=0.0, noise=0.0)
    given = torch.cat([augmented(field.pictures.float() / 255, turns, generator) for _ in range(15)])
    code = torch.from_numpy(np.tile(field.truth, 15))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.8)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda number: float(np.exp(-0.9 * number)))
    for _ in range(epochs):
        net.train()
        for chosen in np.array_split(rng.permutation(len(code)), len(code) // 20):
            loss = nn.functional.cross_entropy(net(given[chosen]), code[chosen])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        schedule.step()
    return member_of(apply_net(net, test.pictures)), len(code)


def our_way(field: Field, test: Field) -> Numbers:
    """Return what our network says of the test field when it is trained our way, a tenth of the field held out."""
    torch.manual_seed(1)
    net, rows = PictureNet(classes=2), np.random.default_rng(1).permutation(len(field.truth))
    every = PictureExamples(field.pictures, nn.functional.one_hot(torch.from_numpy(field.truth), 2).float())
    cut = len(rows) // 10
    fit_pictures(net, every.take(rows[cut:]), every.take(rows[:cut]), PLANS["cluster"].fit, 1)
    return member_of(apply_net(net, test.pictures))


def member_of(scores: torch.Tensor) -> Numbers:
    """Return the probability of the second class."""
    return np.asarray(torch.softmax(scores.double(), 1)[:, 1].numpy(), np.float64)


def grey(field: Field) -> Field:
    """Return a field whose pictures have no colour."""
    plain = field.pictures.float().mean(1, keepdim=True).round().to(torch.uint8)
    return field._replace(pictures=plain.expand(-1, 3, -1, -1).contiguous())


def main() -> None:
    """Compare the ways and print them."""
    asked = command_line(__doc__, "work", epochs=(12, "passes of the published way; its rate is 5e-5 by then"))
    asked.work.mkdir(parents=True, exist_ok=True)
    learnt = read_field(cluster_fields(asked.work, PLANS["cluster"].fields, 1, 2), asked.work / "learnt.csv")
    joined, test = (
        read_field([write_cluster_field(ClusterField(**{**vars(one), "folder": asked.work / name}), 2)],
                   asked.work / f"{name}.csv")
        for name, one in (("joined", JOINED), ("test", TEST))
    )  # fmt: skip
    train_membership(
        asked.work / "learnt.csv", asked.work / "table", MembershipPlan(folds=3, repeats=1), 1, lambda _: None
    )
    table = membership_model(*read_weights("membership", str(asked.work / "table")))
    network = build_picture_model(*read_weights("cluster", "default"))
    red = redness(test.table.columns, table.sequence)
    rivals = {
        "red sequence": table.by_red_sequence(test.table.columns),
        "photometric redshift cut": table.by_photometric_redshift(test.table.columns),
    }

    def odds(field: Field) -> Numbers:
        found = np.stack([network.probability(field.pictures)[:, 1], table(field.table.columns)], 1)
        return logit(np.clip(found.astype(np.float64), 1e-4, 1 - 1e-4))

    def tell(way: str, probability: Numbers, start: float, **more: Any) -> None:
        figures = membership_figures(probability, test.truth, rivals, colour_region(red), test.table.cluster)
        shown = ("n", "accuracy", "accuracy_interval", "macro_f1", "auc", "confusion", "regions", "baselines")
        line = {"way": way, **{name: figures[name] for name in shown}, "s": round(perf_counter() - start), **more}
        print(json.dumps(line), flush=True)

    from sklearn.linear_model import LogisticRegression

    start, both = perf_counter(), odds(test)
    tell("shipped network, colour", 1 / (1 + np.exp(-both[:, 0])), start)
    tell("table alone", 1 / (1 + np.exp(-both[:, 1])), start)
    join = LogisticRegression(C=1e6).fit(odds(joined), joined.truth)
    tell("both", join.predict_proba(both)[:, 1], start, weights=join.coef_[0].round(3).tolist())
    start = perf_counter()
    tell("grey", our_way(grey(learnt), grey(test)), start)
    start = perf_counter()
    clean = (learnt.table.columns["r"] < BRIGHT) & (redness(learnt.table.columns, table.sequence) < REDDEST)
    said, count = published_way(learnt.take(clean), test, asked.epochs)
    tell("published cleaning, rotations and schedule", said, start, pictures=count, galaxies=int(clean.sum()))
    start = perf_counter()
    tell("published cleaning, our schedule", our_way(learnt.take(clean), test), start, galaxies=int(clean.sum()))


if __name__ == "__main__":
    main()

"""Models of anomalies side by side: ``python -m benchmarks.pictures.anomalies TABLE [--docs PICTURE]``.

Each class of a table of labelled pictures (location, label) is the normal one in turn: every model learns from three
fifths of it, and is judged on another fifth and on the pictures of all other classes. Deep SVDD with the published
network and settings, but for the size of the pictures and the number of passes.
"""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.support.command_line import command_line
from flows.inputs.picture_files import list_pictures
from flows.results.evaluation.pictures import new_figure, save
from flows.training.anomaly import AnomalyPlan, anomaly_plan, train_anomaly


def main() -> None:
    """Train, print a line for each normal class, and draw."""
    asked = command_line(
        __doc__, "table", classes=([str], "Normal classes; default: all of the table with 100 pictures."),
        side=(128, "Px that Deep SVDD sees."), epochs=50, seed=1, docs=(Path, "Picture of the areas."),
    )  # fmt: skip
    labels = [file.label for file in list_pictures(asked.table)]
    classes = asked.classes or [one for one in sorted(set(labels)) if one and labels.count(one) >= 100]
    rows = {}
    for name in classes:
        rows[name] = compare(asked.table, name, asked.side, asked.epochs, asked.seed)
        print(json.dumps({"normal": name, **rows[name]}), flush=True)
    if asked.docs:
        draw(rows, asked.docs)


def compare(table: Path, normal: str, side: int, epochs: int, seed: int) -> dict[str, Any]:
    """Return the area under the curve of each model, and the minutes that it took, with one class as the normal one."""
    found: dict[str, Any] = {}
    settings = {"epochs": epochs, "milestone": epochs // 2, "batch": 64, "rate": 1e-3}
    plans = {
        "nearest codes": AnomalyPlan(simulated=0),
        **{
            f"Deep SVDD, {kind}": replace(anomaly_plan(kind, side, settings), simulated=0)
            for kind in ("one-class", "soft-boundary")
        },
    }
    for name, plan in plans.items():
        with TemporaryDirectory() as folder:
            begin = "default" if plan.kind == "codes" else None
            figures = train_anomaly([table], [normal], [], Path(folder), plan, seed, 1, lambda line: None, begin)
        found[name] = {"auc": figures["auc"], "interval": figures["auc_interval"], "minutes": figures["minutes"]}
        if plan.kind == "codes":
            found["n"] = figures["n"]
        for rival, areas in figures["rivals"].items():
            found.setdefault(rival, {"auc": areas["all"]})
    return found


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the areas of each model, a group for each normal class."""
    figure, (panel,) = new_figure()
    names = [name for name in next(iter(rows.values())) if name != "n"]
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        heights = [row[name]["auc"] for row in rows.values()]
        panel.bar(np.arange(len(rows)) + number * width, heights, width, label=name)
    panel.axhline(0.5, color="black", linestyle=":", linewidth=1)
    panel.set_xticks(np.arange(len(rows)) + 0.4 - width / 2, list(rows))
    panel.set(xlabel="normal class", ylabel="area under the curve", ylim=(0, 1.35))
    panel.legend(frameon=False, fontsize=8, ncols=2)
    save(figure, path)


if __name__ == "__main__":
    main()

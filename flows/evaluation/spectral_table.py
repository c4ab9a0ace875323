"""The evaluation of superclasses as a table for people."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def spectral_table(figures: Mapping[str, Any]) -> Table:
    """Give a row per model and per rival of `flows.evaluation.spectral.evaluate_spectral`."""
    table = Table(title=f"{figures['n']} rows: {', '.join(figures['classes'])}")
    for name in ("model", "n", "accuracy", "95 %", "macro F1", "AUC"):
        table.add_column(name)
    for what, one in figures["models"].items():
        _row(table, what, one)
        for rival, scores in one["baselines"].items():
            _row(table, f"  {rival}", scores)
    return table


def _row(table: Table, name: str, scores: Mapping[str, Any]) -> None:
    if not scores["n"]:
        table.add_row(name, "0")
        return
    low, high = scores["accuracy_interval"]
    area = "" if scores["auc"] is None else f"{scores['auc']:.4f}"
    table.add_row(
        name, str(scores["n"]), f"{scores['accuracy']:.4f}", f"{low:.4f}-{high:.4f}", f"{scores['macro_f1']:.4f}", area
    )

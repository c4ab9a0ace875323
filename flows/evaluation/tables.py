"""Figures of an evaluation for the terminal."""

from typing import Any

from rich.table import Table


def night_tables(figures: dict[str, Any]) -> list[Table]:
    """Give the tables of `flows.evaluation.summary.summarise`."""
    return [_overview(figures), _by(figures, "snr", "S/N"), _by(figures, "length", "length, px"), _accuracy(figures)]


def stamp_tables(figures: dict[str, Any]) -> list[Table]:
    """Give the tables of `flows.evaluation.stamps.summarise_stamps`."""
    table = Table(title=f"{figures['stamps']} stamps, {figures['truncated']} of them cut by the edge of the image")
    table.add_column("least reliability", justify="right")
    groups = figures["at_default"]["groups"]
    for name, group in groups.items():
        table.add_column(f"{name.replace('_', ' ')}, {group['n']}", justify="right")
    for row in (figures["at_default"], *figures["thresholds"]):
        default = " (default)" if row is figures["at_default"] else ""
        table.add_row(f"{row['min_reliability']:.3g}{default}", *(share_text(row["groups"][name]) for name in groups))
    if (area := figures["auc_known_asteroids_against_low_rb"]) is not None:
        low, high = area["interval"]
        table.caption = (
            f"area under the ROC curve, known asteroids against low rb: {area['value']:.3f} ({low:.2f}-{high:.2f})"
        )
    return [table]


def share_text(share: dict[str, Any]) -> str:
    """Give a share with its interval, in words a table can hold."""
    if share["completeness"] is None:
        return "-"
    low, high = share["interval"]
    return f"{share['completeness']:.3f} ({low:.2f}-{high:.2f})"


def _overview(figures: dict[str, Any]) -> Table:
    table = Table(title=f"{figures['n_streaks']} streaks on {figures['images']} images")
    table.add_column("")
    for name in ("search", "oracle matched filter"):
        table.add_column(name, justify="right")
    oracle = figures["oracle"] or {}
    for name, label in (
        ("false_per_image", "false per image"),
        ("purity", "purity"),
        ("c7", "completeness, S/N >= 7"),
        ("c10", "completeness, S/N >= 10"),
        ("s50", "S/N at 50 %"),
    ):
        table.add_row(label, _number(figures[name]), _number(oracle.get(name)))
    if (at_one := figures["at_one_false_per_image"]) is not None:
        table.add_row("S/N >= 7 at 1 false per image", _number(at_one["c7"]), "")
        table.add_row("S/N >= 10 at 1 false per image", _number(at_one["c10"]), "")
    return table


def _by(figures: dict[str, Any], name: str, label: str) -> Table:
    table = Table()
    for heading in (label, "streaks", "completeness", "oracle matched filter"):
        table.add_column(heading, justify="right")
    key = f"completeness_by_{name}"
    oracle = figures["oracle"][key] if figures["oracle"] else [None] * len(figures[key])
    for ours, theirs in zip(figures[key], oracle, strict=True):
        bounds = f"{ours['lo']:g}-{ours['hi']:g}"
        table.add_row(bounds, str(ours["n"]), share_text(ours), share_text(theirs) if theirs else "-")
    return table


def _accuracy(figures: dict[str, Any]) -> Table:
    table = Table(title="measured less true")
    for heading in ("", "n", "bias", "median size", "robust scatter", "rms"):
        table.add_column(heading, justify="right")
    for source, note in ((figures, ""), (figures["accuracy_bright_long"], ", S/N >= 10, length >= 8 px")):
        for name in ("position_px", "length_px", "angle_deg"):
            row = source[name]
            values = [_number(row[key], 3) for key in ("bias", "median", "scatter", "rms")]
            table.add_row(f"{name.replace('_', ', ')}{note}", str(row["n"]), *values)
    return table


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"

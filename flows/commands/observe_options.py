"""How a command is seen from outside, as it is given on the command line."""

from typing import Annotated

import typer

Metrics = Annotated[
    str | None, typer.Option(metavar="[HOST:]PORT", help="Where Prometheus finds metrics; default: nowhere.")
]
MetricsFile = Annotated[
    str | None, typer.Option(metavar="FILE.prom", help="Written at the end, for node_exporter's textfile collector.")
]
LogFormat = Annotated[
    str | None, typer.Option(metavar="text|json", help="What is written to standard error: words, or JSON lines.")
]


def observe_overrides(
    metrics: str | None, metrics_file: str | None, log_format: str | None
) -> dict[str, dict[str, object]]:
    """Give the settings that the options stand for; a value of None was not given."""
    return {"observe": {"metrics": metrics, "metrics_file": metrics_file, "log_format": log_format}}

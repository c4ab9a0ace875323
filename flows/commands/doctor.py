"""`nightstride doctor`: see whether this machine is fit to run."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def doctor(
    out: Annotated[Path, typer.Option(help="Where output would go.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Last line of stdout is one JSON object.")] = False,
) -> None:
    """Check versions, imports, cores, memory, GPU, threads and write access; exit code 1 if something fails."""
    from rich.console import Console
    from rich.markup import escape

    from flows.doctor import examine

    findings = examine(out)
    if as_json:
        typer.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        console = Console(soft_wrap=True)
        colour = {"pass": "green", "warn": "yellow", "fail": "red"}
        for finding in findings:
            remedy = f"  To fix, {finding.remedy}" if finding.remedy else ""
            verdict = f"[{colour[finding.verdict]}]{finding.verdict}[/]"
            console.print(f"{verdict}  {finding.name:<22}{escape(finding.found + remedy)}", highlight=False)
    raise typer.Exit(1 if any(finding.verdict == "fail" for finding in findings) else 0)

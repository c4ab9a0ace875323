"""`nightstride train`: make weights anew."""

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import Misconfigured

app = typer.Typer(help="Train the models of a stage; weights, cards and pictures go to a folder.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Train the models of a stage; weights, cards and pictures go to a folder."""


@app.command("detect")
def detect(
    model: Annotated[
        str, typer.Option(help="streak_net or basic_cnn; any other, by name or folder, gets a verdict alone.")
    ] = "streak_net",
    verdict_only: Annotated[
        bool, typer.Option("--verdict-only", help="Take the shipped detector as it is; train its verdict.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for weights, cards and pictures.")] = Path("models/detect"),
    work: Annotated[
        Path | None, typer.Option(help="Folder for the simulated exposures (about 20 GB); used again if it is there.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 1,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
    quick: Annotated[bool, typer.Option(help="A few small rounds, to see that it runs; weak weights.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Last line of stdout is one JSON object.")] = False,
) -> None:
    """Train a detector and the verdict on its candidates on simulated exposures; no data are needed.

    Simulates exposures, fits the detector, adds its false alarms over whole exposures to the next round, then fits
    the verdict on the merged, measured candidates of other exposures, calibrates it, sets its threshold and reports on
    exposures of its own.
    """
    from flows.training.detect import TrainPlan, quick_plan, train_detect

    plan = quick_plan(seed) if quick else TrainPlan(seed=seed)
    with tempfile.TemporaryDirectory(prefix="nightstride-train-") as scratch:
        try:
            figures = train_detect(
                out,
                work or Path(scratch),
                model,
                plan,
                workers or os.cpu_count() or 1,
                lambda line: typer.echo(line, err=True),
                verdict_only,
            )
        except Misconfigured as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
    typer.echo(json.dumps(figures) if as_json else json.dumps(figures, indent=2))


@app.command("screen")
def screen(
    model: Annotated[str, typer.Option(help="Network of the search: shipped name, folder or URL.")] = "basic_cnn",
    out: Annotated[Path, typer.Option(help="Folder for weights and card: the network's, if it has one.")] = Path(
        "models/screen"
    ),
    work: Annotated[
        Path | None, typer.Option(help="Folder for the simulated exposures (about 3 GB); used again if it is there.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 1,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Last line of stdout is one JSON object.")] = False,
) -> None:
    """Train a screen for the network of the search, which leaves few windows to it; no data are needed.

    Simulates exposures, fits a small network to guess what the large one says, sets the level below which windows are
    left out so that no hit is lost, and reports on exposures of its own.
    """
    from flows.training.screen_train import ScreenPlan, train_screen

    with tempfile.TemporaryDirectory(prefix="nightstride-train-") as scratch:
        try:
            figures = train_screen(
                out,
                work or Path(scratch),
                model,
                ScreenPlan(seed=seed),
                workers or os.cpu_count() or 1,
                lambda line: typer.echo(line, err=True),
            )
        except Misconfigured as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
    typer.echo(json.dumps(figures) if as_json else json.dumps(figures, indent=2))


@app.command("detector")
def detector(
    kind: Annotated[str, typer.Option(help="two_stage, boosted or matched_filter.")] = "two_stage",
    out: Annotated[Path, typer.Option(help="Folder for weights and card.")] = Path("models/detector"),
    work: Annotated[
        Path | None, typer.Option(help="Folder for the simulated exposures (about 4 GB); used again if it is there.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 1,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Last line of stdout is one JSON object.")] = False,
) -> None:
    """Train a detector that judges the peaks of a bank of trails; no data are needed.

    Simulates exposures, finds candidates with the bank, fits boosted trees to their shapes (boosted), and a network to
    cutouts of what the trees leave (two_stage). The classical matched_filter has nothing to learn.
    """
    from flows.training.candidate_train import train_candidates

    with tempfile.TemporaryDirectory(prefix="nightstride-train-") as scratch:
        try:
            figures = train_candidates(
                kind,
                out,
                work or Path(scratch),
                seed,
                workers or os.cpu_count() or 1,
                lambda line: typer.echo(line, err=True),
            )
        except Misconfigured as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error


@app.command("regions")
def regions(
    out: Annotated[Path, typer.Option(help="Folder for weights and card.")] = Path("models/regions"),
    work: Annotated[
        Path | None, typer.Option(help="Folder for the simulated exposures; those of 'train detect' are used again.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 1,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
    quick: Annotated[bool, typer.Option(help="A few steps, to see that it runs; weak weights.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Last line of stdout is one JSON object.")] = False,
) -> None:
    """Train the detector that proposes regions, on simulated exposures; no data are needed.

    Learns from 70 % of the exposures of each preset, adds its false alarms over whole exposures, and reports on the
    other 30 %.
    """
    from flows.training.region_train import RegionPlan, quick_plan, simulated_regions, train_region

    plan, processes = quick_plan(seed) if quick else RegionPlan(seed=seed), workers or os.cpu_count() or 1

    def say(line: str) -> None:
        typer.echo(line, err=True)

    with tempfile.TemporaryDirectory(prefix="nightstride-train-") as scratch:
        examples = simulated_regions(work or Path(scratch), plan, processes, say)
        figures = train_region(out, examples, plan, processes, say)
    typer.echo(json.dumps(figures) if as_json else json.dumps(figures, indent=2))

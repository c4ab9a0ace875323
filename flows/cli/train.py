"""Commands `nightstride train`: train the weights of models."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli import complete
from flows.cli.command import Commands, console, tell
from flows.cli.options import AsJson, output_folder, refusals
from flows.cli.tables import show_figures
from flows.runtime.words import counted

Detector = Annotated[
    str,
    typer.Option(
        autocompletion=complete.detectors,
        help="streak_net, basic_cnn, region_proposal or matched_filter; any other, by name or folder, gets a "
        "reliability model alone.",
    ),
]
NightOuts = Annotated[
    list[Path] | None,
    typer.Option(
        parser=output_folder,
        help="Output folder or s3:// URL whose tiles the labels are of; may be given more than once.",
    ),
]

_SEED = Annotated[int, typer.Option(min=0, max=4_000_000_000, help="Random seed.")]
_WORKERS = Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")]

app = Commands(help="Train the models of a stage; weights, cards and pictures go to a folder.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Train the models of a stage; weights, cards and pictures are written to a folder."""


@app.command("detect")
def detect(
    model: Detector = "streak_net",
    reliability_only: Annotated[
        bool, typer.Option("--reliability-only", help="Take the shipped detector as it is; train what judges it.")
    ] = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Learn nothing: set calibration and thresholds again.")
    ] = False,
    subtracted: Annotated[
        bool,
        typer.Option("--subtracted", help="Learn from subtracted images, too (an hour more, extra `subtract`)."),
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for weights, cards and pictures.")] = Path(
        "models/detect"
    ),
    work: Annotated[
        Path | None, typer.Option(help="Folder for the simulated exposures (20 to 40 GB); used again if it is there.")
    ] = None,
    challenge: Annotated[
        Path | None,
        typer.Option(help="Folder of the LLNL challenge's stacks and truth, used in place of simulated ones."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Labels of `nightstride vet OUT --export FILE`: the reliability model learns them."),
    ] = None,
    night_out: NightOuts = None,
    seed: _SEED = 1,
    workers: _WORKERS = None,
    quick: Annotated[bool, typer.Option(help="A few small rounds, to see that it runs; weak weights.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a detector, and the reliability model for its candidates, on simulated exposures; no data are needed.

    Simulates exposures, fits the detector, adds its false alarms on whole exposures to the next round; then fits the
    reliability model to merged, measured candidates on other exposures, calibrates it, sets its threshold, and reports
    on further exposures.
    """
    if calibrate and labels is not None:
        raise typer.BadParameter("--calibrate learns nothing: leave out --labels.")
    if (labels is None) != (not night_out):
        raise typer.BadParameter("--labels and --night-out belong together.")
    from flows.pipeline.models import load_model
    from flows.training.detect import Part, TrainPlan, quick_search_plan, subtracted_plan, train_detect
    from flows.training.labels import read_labels

    if quick and subtracted:
        raise typer.BadParameter("--quick and --subtracted exclude each other.")
    plan = quick_search_plan(seed) if quick else subtracted_plan(seed) if subtracted else TrainPlan(seed=seed)
    if reliability_only and calibrate:
        raise typer.BadParameter("--reliability-only and --calibrate exclude each other.")
    part: Part = "calibration" if calibrate else "reliability" if reliability_only else "all"
    cores = workers or _cores()
    with refusals(as_json):
        if part != "all":
            load_model("detect", model)  # before minutes of simulation
        said = None if labels is None else read_labels(labels, night_out or [])
    _report(lambda folder: train_detect(out, folder, model, plan, cores, tell, part, challenge, said), work, as_json)
    if quick and not as_json:
        tell(_quick_thresholds(out))


@app.command("screen")
def screen(
    model: Annotated[str, typer.Option(help="Network of the search: shipped name, folder or URL.")] = "basic_cnn",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for weights and card: the network's, if it has one.")
    ] = Path("models/screen"),
    work: Annotated[
        Path | None, typer.Option(help="Folder for the simulated exposures (about 3 GB); used again if it is there.")
    ] = None,
    seed: _SEED = 1,
    workers: _WORKERS = None,
    as_json: AsJson = False,
) -> None:
    """Train a screen for the search network, which spares it most windows; no data are needed.

    Simulates exposures, fits a small network to predict the large one's output, sets the level below which windows are
    skipped so that no hit is lost, and reports on further exposures.
    """
    from flows.training.screen import ScreenPlan, train_screen

    plan = ScreenPlan(seed=seed)
    _report(lambda folder: train_screen(out, folder, model, plan, workers or _cores(), tell), work, as_json)


@app.command("spectral-class")
def spectral_class(
    table: Annotated[
        Path | None,
        typer.Argument(help="CSV, FITS or Parquet of SDSS, or a table of stars or galaxies; none: simulated stars."),
    ] = None,
    task: Annotated[
        str, typer.Option(help="superclass, star, galaxy; kind: types in a table of stars or galaxies.")
    ] = "superclass",
    features: Annotated[str, typer.Option(help="n5, n8, photometry[-redshift] or colours.")] = "photometry-redshift",
    rebalance: Annotated[str, typer.Option(help="Balancing of the training rows: none, smote or rarest.")] = "none",
    least_class: Annotated[int, typer.Option(help="Leave out classes with fewer rows.")] = 20,
    brighter: Annotated[float | None, typer.Option(help="Only rows brighter than this in r, mag.")] = None,
    larger: Annotated[float | None, typer.Option(help="Only rows of a larger Petrosian radius, arcsec.")] = None,
    stars: Annotated[int, typer.Option(min=0, help="Number of simulated stars to add to the rows of a table.")] = 0,
    models: Annotated[str, typer.Option(help="Classifiers to compare, by comma; all, or none.")] = "all",
    name: Annotated[
        str | None, typer.Option(help="Also make a model; for use by its folder: superclass or star_subclass.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for tables, pictures, weights and card.")] = Path(
        "models/spectral_class"
    ),
    seed: _SEED = 1,
    as_json: AsJson = False,
) -> None:
    """Compare classifiers of catalogue rows, and make the one used by the pipeline.

    Each is fitted to folds of the table and scored on unseen rows; rows from one spectroscopic plate stay together.
    Writes comparison.md, comparison.json and comparison.png.
    """
    from flows.training.spectral import SpectralPlan, train_spectral
    from flows.training.spectral_compare import MODELS

    chosen = tuple(MODELS) if models == "all" else tuple(one for one in models.split(",") if one not in ("", "none"))
    plan = SpectralPlan(task, features, rebalance, least_class, brighter, larger, chosen, stars, name, seed)
    _report(lambda _: train_spectral(table, out, plan, tell), None, as_json)


@app.command("star-galaxy")
def star_galaxy(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for weights, cards, figures and pictures.")] = Path(
        "models/star_galaxy"
    ),
    work: Annotated[
        Path | None, typer.Option(help="Folder for simulated cutouts and fits (2 GB); used again if it is there.")
    ] = None,
    real: Annotated[
        Path | None, typer.Option(help="Folder of the real ZTF cutouts; default: that in NIGHTSTRIDE_DATA, if any.")
    ] = None,
    galstar: Annotated[
        Path | None, typer.Option(help="The challenge's galstar.csv, in place of the deep simulated cutouts.")
    ] = None,
    seed: _SEED = 1,
    workers: _WORKERS = None,
    quick: Annotated[bool, typer.Option(help="A little of everything, to see that it runs; weak weights.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train and compare the networks for stars and galaxies, in six configurations of bands.

    Simulates cutouts; fits MLP, basic_cnn and ResNet in each configuration and our network once, and compares them with
    a locus cut and boosted trees on moments; then fits the first three as models of the stage, and the model for a
    single band on simulated and real cutouts, split by frame.
    """
    from flows.inputs.cutout_files import CLASSES
    from flows.training.star_galaxy import StarGalaxyPlan, quick_star_galaxy_plan, train_star_galaxy

    plan = quick_star_galaxy_plan() if quick else StarGalaxyPlan()
    found = real or _real_cutouts()
    processes = workers or _cores()
    _report(
        lambda folder: train_star_galaxy(out, folder, found, plan, seed, processes, tell, galstar),
        work,
        as_json,
        CLASSES,
    )


_DATA = Annotated[
    list[Path] | None,
    typer.Option(
        help="Folder whose sub-folders are named by what is in them, or CSV of location, label; may be repeated. "
        "Default: the real pictures in NIGHTSTRIDE_DATA."
    ),
]
_REPEATS = Annotated[int, typer.Option(min=1, help="Trainings with seeds and splits of their own.")]
_FOLDER = Annotated[Path, typer.Option("--out", "-o", help="Folder for weights, card and pictures.")]
_WORK = Annotated[Path | None, typer.Option(help="Folder of checkpoints, from which an interrupted training goes on.")]
_QUICK = Annotated[bool, typer.Option(help="Two passes, to see that it runs; weak weights.")]


def _of_pictures(task: str) -> Callable[..., None]:
    """Make the command that trains the network for one kind of pictures."""

    def command(
        data: _DATA = None,
        repeats: _REPEATS = 3,
        out: _FOLDER = Path(f"models/{task}"),
        work: _WORK = None,
        seed: _SEED = 1,
        quick: _QUICK = False,
        as_json: AsJson = False,
    ) -> None:
        _pictures(task, data, repeats, out, work, seed, quick, as_json)

    return command


for _task, _told in {
    "morphology": "Train the network that tells elliptical, spiral, edge-on and merging galaxies on colour pictures.",
    "scene": "Train the network that tells pictures of the solar system, of nebulae and of galaxies.",
    "cluster": "Train the network that tells members of a cluster from other galaxies by their pictures.\n\n"
    "Without data it learns from simulated fields. A table of galaxies tells more: nightstride train membership.",
}.items():
    app.command(_task, help=_told)(_of_pictures(_task))


@app.command("membership")
def membership(
    data: Annotated[
        Path | None, typer.Option(help="Table of galaxies with a class or redshift; none: that in NIGHTSTRIDE_DATA.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="How often folds are redrawn.", min=1)] = 3,
    out: _FOLDER = Path("models/membership"),
    seed: _SEED = 1,
    as_json: AsJson = False,
) -> None:
    """Train the model for the membership of galaxies in a cluster."""
    from flows.training.membership import MembershipPlan, train_membership

    plan = MembershipPlan(repeats=repeats)
    _report(lambda scratch: train_membership(data, out, plan, seed, tell), None, as_json)


@app.command("anomaly")
def anomaly(
    data: _DATA = None,
    normal: Annotated[
        list[str] | None, typer.Option(help="Label of normal pictures; may be repeated. Default: all.")
    ] = None,
    apply: Annotated[list[Path] | None, typer.Option(help="Pictures to be scored only; may be repeated.")] = None,
    kind: Annotated[str, typer.Option(help="codes, one-class or soft-boundary (Deep SVDD).")] = "codes",
    nu: Annotated[float, typer.Option(help="Share beyond the radius of a soft boundary.")] = 0.1,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of Deep SVDD.")] = 100,
    milestone: Annotated[int, typer.Option(min=1, help="Pass from which the rate is a tenth.")] = 50,
    rate: Annotated[float, typer.Option(help="Rate of Deep SVDD.")] = 1e-4,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 200,
    decay: Annotated[float, typer.Option(help="Weight decay of Deep SVDD.")] = 0.5e-6,
    side: Annotated[int, typer.Option(help="Px that Deep SVDD sees; a multiple of 64.")] = 256,
    load_model: Annotated[
        str | None, typer.Option(help="Model whose network is taken over: shipped name, or folder.")
    ] = None,
    load_config: Annotated[Path | None, typer.Option(help="config.json of an earlier training, for these all.")] = None,
    out: _FOLDER = Path("models/anomaly"),
    seed: _SEED = 1,
    as_json: AsJson = False,
) -> None:
    """Train a model that measures how much a picture differs from normal galaxies."""
    from flows.training.anomaly import anomaly_plan, read_plan, train_anomaly

    with refusals(as_json):
        settings = {"nu": nu, "epochs": epochs, "milestone": milestone, "rate": rate, "batch": batch}
        plan = anomaly_plan(kind, side, settings | {"decay": decay})
        if load_config:
            plan, normal, seed = read_plan(load_config)
    _report(
        lambda scratch: train_anomaly(
            data or [], normal or [], apply or [], out, plan, seed, _cores(), tell, begin_with=load_model
        ),
        None,
        as_json,
    )


def _pictures(
    task: str,
    data: list[Path] | None,
    repeats: int,
    out: Path,
    work: Path | None,
    seed: int,
    quick: bool,
    as_json: bool,
) -> None:
    from dataclasses import replace

    from flows.training.pictures import PLANS, train_pictures

    plan = replace(PLANS[task], repeats=repeats)
    if quick:
        plan = replace(plan, side=32, fit=replace(plan.fit, epochs=2), fields=40)
    _report(lambda scratch: train_pictures(task, data or [], out, scratch, plan, seed, _cores(), tell), work, as_json)


def _real_cutouts() -> Path | None:
    folder = Path(os.environ.get("NIGHTSTRIDE_DATA", "")) / "05_star_galaxy_cutouts/ztf_llnl"
    return folder if "NIGHTSTRIDE_DATA" in os.environ and folder.is_dir() else None


def _report(
    train: Callable[[Path], dict[str, Any]], work: Path | None, as_json: bool, classes: Sequence[str] = ()
) -> None:
    """Train with a folder for exposures, by default a temporary one, and print the figures."""
    from flows.storage.folder import writable_folder

    with tempfile.TemporaryDirectory(prefix="nightstride-train-") as scratch, refusals(as_json):
        if work is not None:
            writable_folder(work, "--work")
        figures = train(work or Path(scratch))
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        show_figures(console(), figures, classes=classes)


def _quick_thresholds(out: Path) -> str:
    """Return what the thresholds of a quick training are based on, and how its result can be tried nevertheless."""
    from flows.pipeline.weights import read_card

    training = read_card("reliability", str(out)).training
    exposures = counted(training.get("calibrated", training)["exposures"]["validation"], "exposure")
    return (
        f"With --quick the thresholds are those of {exposures}, and may hide nearly everything: "
        "to try the result, set measure.min_reliability (0.5, say)."
    )


def _cores() -> int:
    return os.cpu_count() or 1

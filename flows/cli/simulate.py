"""Command `nightstride simulate`: difference images with known truth."""

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli import complete
from flows.cli.command import console, say
from flows.cli.options import AsJson, refusals
from flows.runtime.words import counted

if TYPE_CHECKING:
    from flows.simulation.night import SimulatedNight, Written


def simulate(
    preset: Annotated[
        str,
        typer.Option(
            autocompletion=complete.presets,
            help="Survey that it looks like: llnl, ztf, rubin or decam; star-galaxy: cutouts of stars and galaxies; "
            "cluster: a cluster of galaxies, table and pictures.",
        ),
    ] = "ztf",
    visits: Annotated[int, typer.Option(help="Visits of the night; each field is visited three times.")] = 3,
    detectors: Annotated[int, typer.Option(help="Detectors of each visit.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the images and truth.parquet.")] = Path(
        "simulated"
    ),
    streaks: Annotated[int | None, typer.Option(help="Asteroids per image; 0: none. Default: the preset's.")] = None,
    science: Annotated[
        bool, typer.Option(help="Write the science images too, which show what is a star; FITS only.")
    ] = True,
    template: Annotated[bool, typer.Option(help="Write the template images too; FITS only.")] = False,
    size: Annotated[tuple[int, int] | None, typer.Option(metavar="NY NX", help="NY NX, px: smaller images.")] = None,
    bands: Annotated[
        str | None, typer.Option(help="e.g. g,r,i: all visits of a field in turn; stars have colours, and galaxies.")
    ] = None,
    subtract: Annotated[
        str | None,
        typer.Option(
            help="How the difference is made: none (drawn); zogy, convolution or sfft (subtracted); mixed: zogy or "
            "convolution, as the seed says. Default: zogy; of llnl, none."
        ),
    ] = None,
    form: Annotated[
        Literal["fits", "npz"], typer.Option("--format", help="npz: the LLNL challenge's stacks instead of FITS.")
    ] = "fits",
    count: Annotated[
        int | None,
        typer.Option(help="Cutouts of star-galaxy, a multiple of 100 (34,000), or galaxies of cluster (1,000)."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core.")] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a night of difference images, in the archive's own format, with a truth table.

    With --preset star-galaxy or cluster, simulate pictures instead, using only --seed, --count, --out, --workers,
    --json.
    """
    if preset in _DRAWN:
        _cutouts(preset, out, seed, _DRAWN[preset] if count is None else count, workers or os.cpu_count() or 1, as_json)
        return
    from flows.simulation.night import SimulatedNight
    from flows.simulation.presets import find_preset, usual_subtraction
    from schemas.errors import Misconfigured, choice

    started = time.monotonic()
    with refusals(as_json):
        if preset not in complete.PRESETS:
            problem = f"{preset!r} is not a preset."
            raise Misconfigured("unknown_preset", "--preset", problem, choice(preset, complete.PRESETS))
        several = tuple(bands.split(",")) if bands else None
        chosen = find_preset(preset, streaks, size, several, subtract or usual_subtraction(preset))
        night = SimulatedNight(chosen, seed, visits, detectors, out, science, template, form)
        written = _with_progress(night, workers or os.cpu_count() or 1, quiet=as_json)
    _report(written, time.monotonic() - started, as_json)


_DRAWN = {"star-galaxy": 34_000, "cluster": 1000}
"""Presets for pictures of single stars and galaxies, and their default number."""


def _cutouts(preset: str, out: Path, seed: int, count: int, workers: int, as_json: bool) -> None:
    from rich.progress import Progress

    from flows.simulation.cluster_field import ClusterField, write_cluster_field
    from flows.simulation.cutout_set import CutoutSet, write_cutout_set

    started = time.monotonic()
    shown = console(stderr=True)
    with refusals(as_json), Progress(console=shown, disable=as_json or not shown.is_terminal) as bar:
        task = bar.add_task("cutouts", total=count)
        if preset == "cluster":
            field = ClusterField(seed=seed, count=count, folder=out)
            truth = write_cluster_field(field, workers, lambda done: bar.update(task, completed=done))
        else:
            wanted = CutoutSet(seed=seed, count=count, folder=out)
            truth = write_cutout_set(wanted, workers, lambda done: bar.update(task, completed=done))
    seconds = round(time.monotonic() - started, 2)
    if as_json:
        typer.echo(json.dumps({"cutouts": count, "truth": str(truth), "seconds": seconds}))
    else:
        say(f"{count} cutouts in {out} ({seconds} s); truth in {truth}")


def _with_progress(night: "SimulatedNight", workers: int, *, quiet: bool) -> "Written":
    from rich.progress import Progress

    from flows.simulation.night import simulate_night

    shown = console(stderr=True)
    with Progress(console=shown, disable=quiet or not shown.is_terminal) as bar:
        task = bar.add_task("exposures", total=night.visits * night.detectors)
        return simulate_night(night, workers, lambda done: bar.update(task, completed=done))


def _report(written: "Written", seconds: float, as_json: bool) -> None:
    if as_json:
        summary = {
            "exposures": [str(path) for path in written.exposures],
            "images": written.images,
            "files": len(written.files),
            "truth": str(written.truth),
            "streaks": written.streaks,
            "seconds": round(seconds, 2),
        }
        typer.echo(json.dumps(summary))
    else:
        say(
            f"{counted(written.images, 'exposure')} with {counted(written.streaks, 'streak')} in "
            f"{written.truth.parent} ({seconds:.1f} s); truth in {written.truth}"
        )

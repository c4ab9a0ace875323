"""Commands that examine an output folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from flows.cli import complete
from flows.cli.command import console, say, tell
from flows.cli.options import AsJson, Config, Nights, Out, RunConfig, refusals
from flows.cli.tables import show_rows
from flows.runtime.words import counted
from schemas.night_range import EVERY_NIGHT

if TYPE_CHECKING:
    from rich.console import Console

    from flows.results.explain import Explanation
    from flows.results.explain_static import StaticHistory
    from flows.results.model_use import ModelUse
    from flows.results.verify import Verification
    from schemas.quality import Gate

MOST = 20
"""Maximum number of former objects shown."""


def status(
    out: Out,
    night: Nights = None,
    as_json: AsJson = False,
) -> None:
    """Count the done, outdated, quarantined and failed exposures of each night, with their lag and models.

    Exit code 0: nothing is outdated, quarantined or failed; 1: something is, the objects of a night were made from
    exposures other than its present ones, or the last run did not finish; 2: the folder or night does not exist, or
    cannot be read.
    """
    from flows.results.status import read_status, show_status

    with refusals(as_json):
        found = read_status(out, night or EVERY_NIGHT)
    show_status(found, console(stderr=as_json))
    if as_json:
        typer.echo(json.dumps(found.values()))
    raise typer.Exit(found.exit_code)


def explain(
    out: Out,
    source_id: Annotated[
        int,
        typer.Argument(
            metavar="ID",
            autocompletion=complete.ids,
            help="diaSourceId of a published detection, diaObjectId, or staticObjectId or objectId.",
        ),
    ],
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Write cutouts of it, and of the others of its tracklet or object."),
    ] = None,
    config: RunConfig = None,
    as_json: AsJson = False,
) -> None:
    """Show the pixels, models, settings and code behind a detection, its tracklet, and its object over the nights.

    For an object on the science images, show its measurements in each night.

    Exit code 0: the file still has the bytes that were searched; 1: it has changed, or cannot be reached; 2: there is
    no such detection or object.
    """
    from flows.results.explain import explain_detection as follow
    from flows.results.explain_static import explain_static
    from flows.runtime.settings import load_settings
    from flows.storage.folder import require_ending
    from flows.storage.object_store import configure
    from schemas.errors import Misconfigured

    with refusals(as_json):
        if picture is not None:
            require_ending(picture, "--picture", ".png", "pictures", "cutouts")
        settings = load_settings(config)
        configure(settings.store)
        try:
            found = follow(out, source_id, settings.association)
        except Misconfigured as error:
            other = error.code in ("no_detection", "object_ended")
            lasting = explain_static(out, source_id, settings.association) if other else None
            if lasting is None:
                raise
            _show_lasting(lasting, picture, as_json)
        if picture is not None:
            _write_picture(out, found, picture)
    _show(found, err=as_json)
    if (shown := console(stderr=as_json)).is_terminal:
        _show_blocks(out, found, shown)
    if as_json:
        typer.echo(json.dumps(found.values()))
    raise typer.Exit(0 if found.source_state == "unchanged" else 1)


def _show_lasting(found: "StaticHistory", picture: Path | None, as_json: bool) -> NoReturn:
    if picture is not None:
        from schemas.errors import Misconfigured

        problem = "draws detections, and ID is an object on the science images."
        raise Misconfigured("no_detection", "--picture", problem, "leave it out.")
    say(str(found), err=as_json)
    if as_json:
        typer.echo(json.dumps(found.values()))
    raise typer.Exit(0)


def _show(found: "Explanation", err: bool) -> None:
    say(str(found), err=err)


def _write_picture(out: Path, found: "Explanation", path: Path) -> None:
    import base64

    import numpy as np

    from flows.results.explain_picture import related_levels
    from flows.results.page.picture import png
    from flows.storage.atomic import write_file
    from flows.storage.folder import require_folder
    from schemas.errors import Misconfigured

    if (drawn := related_levels(out, found, 400)) is None:
        problem = "cannot be drawn: the pixels of the exposure are not there."
        raise Misconfigured(
            "no_tiles", str(path), problem, "run the exposure again with --tiles, or leave --picture out."
        )
    require_folder(path, "--picture")
    levels, ids = drawn
    enlarged = np.kron(levels, np.ones((max(1, 164 * len(ids) // levels.shape[0]),) * 2, np.uint8))
    content = base64.b64decode(png(enlarged).uri.partition(",")[2])
    write_file(path.absolute(), content, path.absolute().parent)
    if len(ids) > 1:
        tell(f"{path}, from top to bottom: {', '.join(map(str, ids))}")


def _show_blocks(out: Path, found: "Explanation", shown: "Console") -> None:
    """Draw the cutouts with half blocks, two pixels one above the other in each character."""
    from rich.text import Text

    from flows.results.explain_picture import detection_levels

    if (levels := detection_levels(out, found, 25)) is None:
        return
    rows = [
        [f"rgb({one},{one},{one})" if one < 254 else "rgb(52,78,112)" for one in row] for row in levels[::-1].tolist()
    ]
    rows += [["default"] * len(rows[0])] * (len(rows) % 2)
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        shown.print(Text.assemble(*(("▀", f"{top} on {low}") for top, low in zip(upper, lower, strict=True))))


def quality(
    out: Out,
    night: Nights = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Judge published nights by the limits in the settings and by earlier nights, and record the verdicts.

    A run does so for its own nights; this is for earlier nights, and for changed limits. Exit code 0: no night fails;
    1: one does; 2: the folder or night does not exist; 4: another run holds it.
    """
    from flows.results.page.night import chosen_nights
    from flows.results.quality.assess import assess
    from flows.results.quality.judge import told
    from flows.runtime.settings import load_settings
    from flows.storage.lease import patient_lease
    from flows.storage.object_store import configure

    with refusals(as_json):
        settings = load_settings(config)
        configure(settings.store)
        nights = (night or EVERY_NIGHT).among(chosen_nights(out), str(out))
        with patient_lease(out, 0, tell):
            found = [assess(out, label, settings.quality, again=True) for label in nights]
    judged = {record.night: record.judged for record in found if record is not None}
    for label in (one for one in nights if one not in judged):
        say(f"{label}: it has no published exposures", err=as_json)
    shown = console(stderr=as_json)
    for label, bands in judged.items():
        for band in bands:
            say(f"{label} {band.instrument} {band.band}: {band.verdict.replace('_', ' ')}", err=as_json)
            show_rows(shown, map(_gate_row, band.gates))
            for line in (*band.notes, *told(band)):
                say(f"{label} {band.band} {line}", err=as_json)
    if as_json:
        dumped = {label: [band.model_dump(mode="json") for band in bands] for label, bands in judged.items()}
        typer.echo(json.dumps({"nights": dumped}))
    raise typer.Exit(int(any(band.verdict == "fail" for bands in judged.values() for band in bands)))


def _gate_row(gate: "Gate") -> dict[str, Any]:
    from schemas.quality import METRICS

    limits = [f"{sign} {limit:g}" for sign, limit in zip("≥≤", gate.limits, strict=True) if limit is not None]
    return {
        "  what": f"  {METRICS[gate.metric].words}",
        "value": "-" if gate.value is None else f"{gate.value:.4g} {gate.unit}".strip(),
        "limits": ", ".join(limits) or "-",
        "usual": "-" if gate.median is None else f"{gate.median:.4g} ± {gate.sigma or 0:.2g}",
        "of nights": gate.nights,
        "verdict": gate.verdict.replace("_", " "),
    }


def verify(
    out: Out,
    night: Nights = None,
    config: RunConfig = None,
    as_json: AsJson = False,
) -> None:
    """Check every published file and the association against the ledger, or a data release against its manifest.

    Nothing is changed. Exit code 0: no problems; 1: there are problems, each with its remedy; 2: the output folder does
    not exist.
    """
    from flows.pipeline.graph import declared_tables
    from flows.results.release import with_manifest
    from flows.results.verify import verify_output as check
    from flows.results.verify_association import with_store_checked
    from flows.runtime.settings import load_settings

    nights = night or EVERY_NIGHT
    with refusals(as_json):
        result = with_manifest(out, check(out, declared_tables(), nights))
        result = with_store_checked(out, load_settings(config).association, result, nights)
    if result.running:
        tell(f"A run holds {out}: {result.running}. What it is writing is left out of account.")
    for problem in result.problems:
        say(str(problem), err=as_json)
    for line in _noted(result):
        say(line, err=as_json)
    verdict = counted(len(result.problems), "problem") if result.problems else "all is well"
    named = {"exposure": result.exposures, "night": result.nights, "file": result.files, "tile store": result.tiles}
    counts = ", ".join(counted(count, name) for name, count in named.items())
    counts += f", {result.quarantined} quarantined" if result.quarantined else ""
    counts += f", {counted(len(result.former), 'former object')}" if result.former else ""
    say(f"{counts}: {verdict}.", err=as_json)
    if as_json:
        typer.echo(json.dumps(result.summary()))
    raise typer.Exit(1 if result.problems else 0)


def _noted(result: "Verification") -> Iterator[str]:
    """Yield what a verification found that is not a problem, and what may be done about it."""
    yield from (f"note: {one}." for one in result.notes)
    yield from (f"former object: {one}." for one in result.former[:MOST])
    if len(result.former) > MOST:
        yield f"former objects: {len(result.former) - MOST:,} more, see --json."
    if result.former:
        yield (
            "Such rows stay, and an id that has ended comes back with a detection at its place. To be without them, "
            "measure the objects of now in place of all rows, `nightstride forced OUT --dia-objects`; `nightstride "
            "associate OUT --rebuild` takes out those of ended objects, and may change ids."
        )


def models(
    out: Out,
    as_json: AsJson = False,
) -> None:
    """List the models that made the results in OUT: nights, exposures by state, detections, replaced exposures.

    To make the results of a model again with the model in the settings, use `nightstride backfill --out OUT
    --searched-with MODEL`. Exit code 2: the folder does not exist or cannot be read.
    """
    from flows.results.model_use import model_uses

    with refusals(as_json):
        uses = model_uses(out)
    show_rows(console(stderr=as_json), map(_use_row, uses))
    if not uses:
        say("No exposure was searched.", err=as_json)
    if as_json:
        typer.echo(json.dumps({"models": [{**vars(use), "nights": sorted(use.nights)} for use in uses]}))


def _use_row(use: "ModelUse") -> dict[str, Any]:
    nights = sorted(use.nights)
    when = nights[0] if nights else "-"
    return {
        "model": use.model,
        "weights": f"{use.name} {use.version}".strip() or "-",
        "SHA-256": use.sha256[:12] or "-",
        "nights": f"{len(nights):,}: {when} to {nights[-1]}" if len(nights) > 1 else when,
        **{name: getattr(use, name) for name in ("exposures", "detections", "quarantined", "failed", "replaced")},
    }


def report(
    out: Out,
    night: Nights = None,
    truth: Annotated[
        list[Path] | None, typer.Option(help="Truth table (Parquet, CSV or ECSV); may be given more than once.")
    ] = None,
    config: RunConfig = None,
) -> None:
    """Make the night page again from the results in OUT; with a truth table, add completeness and false streaks.

    The path of each page is printed. Exit code 2: the night does not exist in OUT, or OUT is a data release.
    """
    from flows.results.evaluation.published import nights_judged, searched_exposures
    from flows.results.evaluation.truth_table import read_truth
    from flows.results.page.night import chosen_nights
    from flows.results.page.page import write_report
    from flows.runtime.settings import load_settings
    from flows.storage.layout import refuse_release

    with refusals():
        association = load_settings(config).association
        refuse_release(out)
        nights = (night or EVERY_NIGHT).among(chosen_nights(out), str(out))
        known = read_truth(truth) if truth else None
        judged = nights_judged(known, searched_exposures(out), out) if known is not None else frozenset[str]()
        for label in nights:
            of_night = known if label in judged else None
            if known is not None and of_night is None:
                tell(f"Night {label} is drawn without the truth, which holds none of its images.")
            say(str(write_report(out, label, truth=of_night, association=association)), err=False)

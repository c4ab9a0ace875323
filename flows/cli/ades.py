"""Commands `nightstride ades`: reports to the Minor Planet Center, and their validation."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from flows.cli import complete
from flows.cli.command import Commands, console, say, tell
from flows.cli.options import AsJson, Nights, Out, RunConfig, night_argument, refusals
from flows.cli.tables import show_rows
from flows.runtime.words import counted
from schemas.night_range import EVERY_NIGHT

if TYPE_CHECKING:
    from flows.publish.ades_report import ReportSummary


class _ReportByDefault(TyperGroup):
    """Group in which anything but the name of a command is an argument of `report`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["report", *args]
        return super().parse_args(ctx, args)


app = Commands(
    cls=_ReportByDefault,
    help="Report tracklets to the Minor Planet Center; `nightstride ades OUT` is `nightstride ades report OUT`.",
    no_args_is_help=True,
)


class AdesFormat(StrEnum):
    """Format of a report."""

    PSV = "psv"
    XML = "xml"
    OBS80 = "obs80"


@app.command()
def report(
    out: Out,
    night: Annotated[
        str, typer.Option(parser=night_argument, metavar="YYYYMMDD", autocompletion=complete.nights, help="The night.")
    ],
    form: Annotated[
        AdesFormat, typer.Option("--format", help="ADES as text with bars or XML; or the older 80 columns.")
    ] = AdesFormat.PSV,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run/--submit", " /--no-dry-run", help="Only show what is new; or record it as submitted, once."
        ),
    ] = True,
    to: Annotated[Path | None, typer.Option(help="Also write the report to this file.")] = None,
    corrections: Annotated[
        bool, typer.Option("--corrections", help="Report what was submitted and whose measurements have changed.")
    ] = False,
    config: RunConfig = None,
    as_json: AsJson = False,
) -> None:
    """Report the tracklets of a night that were not submitted yet; known objects are reported by their designations.

    By default a dry run, which prints the report. With --submit the report is written under OUT/reports/ades, to be
    sent to the Minor Planet Center, and its detections are never reported again. Exit code 0: done, even if nothing is
    new; 1: another submission is in progress; 2: bad usage, settings or catalogues.
    """
    from flows.publish.ades_report import draft_report, submit_report
    from flows.runtime.settings import load_settings
    from flows.storage.atomic import write_file
    from flows.storage.folder import require_folder
    from flows.storage.object_store import configure

    with refusals(as_json):
        settings = load_settings(config)
        configure(settings.store)
        if to is not None:
            require_folder(to, "--to")
        if dry_run:
            made = draft_report(out, night, settings.ades, form.value, corrections)
        else:
            made, _ = submit_report(out, night, settings.ades, form.value, corrections)
        if to is not None and made.text:
            write_file(to, made.text.encode(), to.absolute().parent)
    summary = made.summary
    if to is not None and made.text and summary.path is None:
        summary = summary.model_copy(update={"path": str(to)})
    if dry_run and to is None:
        typer.echo(made.text, nl=False)
    _tell(summary)
    if as_json:
        typer.echo(summary.model_dump_json())


def _tell(summary: "ReportSummary") -> None:
    from flows.publish.ades_night import REASONS

    known = f", {summary.known} of them of known objects" if summary.known else ""
    what = f"{counted(summary.observations, 'observation')} of {counted(summary.tracklets, 'tracklet')}{known}"
    lines = [f"{summary.night}: {what if summary.observations else 'nothing new to report'}"]
    if summary.submitted_before:
        lines.append(
            f"{counted(summary.submitted_before, 'detection')} submitted before, {summary.changed} changed since"
        )
    if summary.withdrawn:
        lines.append(f"{counted(summary.withdrawn, 'detection')} submitted before, in no tracklet to be reported now")
    lines += [f"{counted(count, 'tracklet')} left out: {REASONS[reason]}" for reason, count in summary.left_out.items()]
    lines += [f"{count}: {note}" for note, count in summary.notes.items()]
    lines += [f"to submit, set {name}" for name in summary.missing]
    if summary.dry_run:
        lines.append("Dry run: nothing was submitted. To submit, add --submit.")
    elif summary.path is not None:
        lines.append(f"Submitted: {summary.path}. Send it to the Minor Planet Center.")
    for line in lines:
        tell(line)


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Reports in ADES, PSV or XML.")],
    as_json: AsJson = False,
) -> None:
    """Check reports against the rules of ADES, including those not in its schema; each fault is shown with its line.

    Exit code 0: all are valid; 1: some are not; 2: a file cannot be read.
    """
    from flows.publish.ades_files import read_document
    from flows.publish.ades_rules import problems_of

    found = []
    with refusals(as_json):
        for path in files:
            for one in problems_of(read_document(path)):
                found.append({"file": str(path), "line": one.line, "problem": one.text})
                say(f"{path}:{one.line}: {one.text}", err=as_json)
    say(f"{counted(len(files), 'report')}: {counted(len(found), 'problem') if found else 'valid'}.", err=as_json)
    if as_json:
        typer.echo(json.dumps({"files": len(files), "valid": not found, "problems": found}))
    raise typer.Exit(int(bool(found)))


@app.command("list")
def list_submitted(
    out: Out,
    night: Nights = None,
    as_json: AsJson = False,
) -> None:
    """List submitted reports: night, number, time, format, tracklets and detections.

    Exit code 0: done; 2: the folder does not exist, or a record is damaged.
    """
    from flows.publish.submissions import Submissions
    from flows.storage.layout import require_output

    found = []
    with refusals(as_json):
        require_output(out)
        for one in (one for one in Submissions(out).all() if one.night in (night or EVERY_NIGHT)):
            names = [detection.trkSub for detection in one.detections]  # none: a single detection of a known object
            count = len(set(names) - {""}) + names.count("")
            found.append(
                {
                    **one.model_dump(include={"night", "number", "submitted_at", "form", "correction"}),
                    "tracklets": count,
                    "detections": len(one.detections),
                }
            )
    show_rows(console(stderr=as_json), ({**one, "number": f"{one['number']:03d}"} for one in found))
    if not found:
        say("Nothing was submitted.", err=as_json)
    if as_json:
        typer.echo(json.dumps({"submissions": found}))

"""Commands that add to an output folder, remove or export from it, and one that links any detections."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from flows.cli import complete
from flows.cli.command import console, say, tell
from flows.cli.options import AsJson, Nights, Out, RunConfig, output_folder, refusals
from flows.cli.tables import show_rows
from flows.runtime.words import counted
from schemas.night_range import EVERY_NIGHT, NightRange

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.nights.association import AssociationSummary
    from flows.results.prune import Removal, Room
    from kernels.linking.tracklets import Tracklet
    from schemas.forced import ForcedSummary
    from schemas.settings import Settings


Services = Annotated[
    Path | None, typer.Option(help="Also the database of the Prefect server of these services (services up DIR).")
]

MOST = 20
"""Maximum number of tracklets printed; the others are only counted."""

DUMP = "prefect.sql"
"""File in a backup with the database."""


class Format(StrEnum):
    """File format to write."""

    CSV = "csv"
    PARQUET = "parquet"
    VOTABLE = "votable"
    FITS = "fits"
    HATS = "hats"
    REGION = "region"


def export(
    out: Out,
    to: Annotated[Path, typer.Option(help="File to write; its ending says the format. Of hats a folder.")],
    dataset: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete.datasets, help="Name of the dataset; default: object, or without any dia_source."
        ),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="csv (.csv), parquet (.parquet), votable (.vot, .votable, .xml: TOPCAT, Aladin), fits (.fits), region "
            "(.reg: DS9), hats (.hats: LSDB, needs the extra hats).",
        ),
    ] = None,
    night: Nights = None,
    where: Annotated[
        str | None, typer.Option(metavar="CONDITION", help='Only such rows: "snr > 10 and not flags.EDGE".')
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a published dataset in a format that other programs read; an existing file is replaced.

    Exit code 0: written; 2: the dataset or folder does not exist, or the file cannot be written.
    """
    from flows.results.catalogue_rows import CatalogueRows, known_tables
    from flows.results.export import nights_of_files, published_files, usual_dataset
    from flows.results.export_formats import export_format, write_rows
    from flows.results.row_filter import FLAGS, row_condition
    from flows.storage.folder import require_folder
    from schemas.errors import Misconfigured

    with refusals(as_json):
        dataset = dataset or usual_dataset(out)
        tables = known_tables(out, dataset)
        chosen = export_format(to, None if form is None else form.value)
        files = published_files(out, dataset, tables, night or EVERY_NIGHT)
        require_folder(to, "--to")
        if chosen == Format.HATS.value:
            from flows.results.export import export_hats

            if where is not None:
                raise Misconfigured("bad_usage", "--where", "does not go with hats.", "choose rows in LSDB.")
            rows = export_hats(to, tables[dataset], files)
        else:
            whole = CatalogueRows(out, tables[dataset], nights_of_files(files))
            condition = None if where is None else row_condition(where, whole.schema, FLAGS.get(dataset))
            rows = write_rows(to, chosen, dataset, whole.read(whole.schema.names, condition))
    say(f"{to}: {counted(rows, 'row')} of {dataset}, from {counted(len(files), 'published file')}", err=as_json)
    if as_json:
        typer.echo(json.dumps({"dataset": dataset, "format": chosen, "rows": rows, "path": str(to)}))


def forced(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", parser=output_folder, help="Output folder or s3:// URL, with its tiles.")
    ],
    targets: Annotated[
        Path | None, typer.Argument(metavar="TARGETS", help="List: CSV, ECSV or Parquet; see docs/use/forced.md.")
    ] = None,
    objects: Annotated[
        bool, typer.Option("--dia-objects", help="Instead of a list, the objects at rest of OUT, by their diaObjectId.")
    ] = False,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="RA,DEC", help="A single target at rest: degrees, or like 12:34:56,-1:23:45. Nothing is published."
        ),
    ] = None,
    night: Nights = None,
    sigma: Annotated[float, typer.Option(min=1.0, max=10.0, help="S/N of the upper limits, and of a detection.")] = 3.0,
    as_json: AsJson = False,
) -> None:
    """Measure the flux of each target on every exposure that covers it, detected or not, and publish it.

    With --at one target is measured and shown, and published results for a list are kept. Exit code 0: all done; 1:
    some rows of the list or some exposures could not be used, or none covers the place of --at; 2: bad usage or list.
    """
    from contextlib import nullcontext

    from rich.progress import track

    from flows.results.forced import run as forcing
    from flows.results.forced.objects import object_targets
    from flows.results.forced.target_file import read_target_file
    from flows.results.forced.targets import forced_targets, placed_target
    from flows.storage.lease import lease
    from schemas.errors import BadInput

    if (ways := (targets is not None) + objects + (at is not None)) > 1:
        raise typer.BadParameter("a list of targets, --at and --dia-objects exclude each other: give one of them.")
    if not ways:
        raise typer.BadParameter("give a list of targets, one with --at RA,DEC, or --dia-objects.")
    # With --at all rows are kept: nothing is published.
    rows = forcing.FirstRows() if at is None else forcing.FirstRows(None)
    shown, nights = console(stderr=True), night or EVERY_NIGHT
    with refusals(as_json):
        forcing.require_no_release(out)
        if at is not None:
            ra, dec = _place(at)
            known, left_out = placed_target(f"{ra:.5f},{dec:+.5f}", ra, dec), tuple[BadInput, ...]()
        elif objects:
            known, left_out = object_targets(out), ()
        else:
            known, left_out = forced_targets(read_target_file(cast(Path, targets)))
        forcing.forced_exposures(out, nights)  # before the lease, which would create the folder
        with nullcontext() if at is not None else lease(out.resolve()):
            records = forcing.forced_exposures(out, nights)
            measured = forcing.measure_night(out, known, records, sigma, publish=at is None)
            bar = track(measured, "exposures", len(records), console=shown, disable=not shown.is_terminal)
            summary = forcing.summarise_targets(known, left_out, bar, rows)
    forcing.tell_forced(summary, shown)
    forcing.show_forced(summary, rows.table, shown if as_json else console())
    _end_forced(summary, rows.table, None if at is None else (out, nights, ra, dec), as_json)


def _end_forced(
    summary: "ForcedSummary", rows: "pa.Table", at: tuple[Path, NightRange, float, float] | None, as_json: bool
) -> None:
    from flows.results.forced.run import trails_at

    more, code = dict[str, Any](), summary.exit_code
    if at is not None:
        with refusals(as_json):
            crossing = trails_at(*at)
        for line in crossing:
            tell(f"{line}: the flux is that of a point there; `nightstride explain` shows the trail.")
        more, code = {"measured": rows.to_pylist(), "trails": crossing}, 1 if summary.not_covered else code
    if as_json:
        typer.echo(json.dumps(summary.model_dump(mode="json") | more))
    raise typer.Exit(code)


def _place(text: str) -> tuple[float, float]:
    """Return right ascension and declination, deg, from ``RA,DEC`` or ``RA DEC`` in degrees or sexagesimal."""
    try:
        ra, dec = text.replace(",", " ").split()
        found = _angle(ra) * (15 if ":" in ra else 1), _angle(dec)
        if not (0 <= found[0] <= 360 and -90 <= found[1] <= 90):
            raise ValueError(text)
    except ValueError as error:
        problem = f"{text!r} is not RA,DEC: RA is 0 to 360 degrees or h:m:s, Dec -90 to 90 degrees or d:m:s."
        raise typer.BadParameter(f"--at: {problem}") from error
    return found


def _angle(text: str) -> float:
    """Return an angle in which up to two colons separate parts that are sixtieths of the previous one."""
    whole, *parts = text.strip().split(":")
    if len(parts) > 2 or any(not 0 <= float(one) < 60 for one in parts):
        raise ValueError(text)
    size = abs(float(whole)) + sum(float(one) / 60**place for place, one in enumerate(parts, start=1))
    return -size if whole.startswith("-") else size


def prune(
    out: Out,
    keep: Annotated[int | None, typer.Option(min=0, help="Number of the latest nights to leave alone.")] = None,
    older_than: Annotated[int | None, typer.Option(min=0, help="Only nights older than this, days.")] = None,
    irreplaceable: Annotated[
        bool, typer.Option("--irreplaceable", help="Also what cannot be made again: catalogues, records, reports.")
    ] = False,
    yes_really: Annotated[bool, typer.Option("--yes-really", help="Consent to the above.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list it.")] = False,
    config: RunConfig = None,
    as_json: AsJson = False,
) -> None:
    """Remove tiles of nights no longer needed, if they can be made again, and what killed runs left behind.

    Also removes quarantine reasons for files that no longer exist.

    Exit code 0: done; 2: bad usage, the folder does not exist, or no consent to remove what cannot be made again.
    """
    from flows.runtime.settings import load_settings
    from flows.storage.object_store import configure

    if keep is None and older_than is None:
        raise typer.BadParameter("give --keep NIGHTS or --older-than DAYS, or both.")
    with refusals(as_json):
        settings = load_settings(config)
        configure(settings.store)
        result = _prune(out.resolve(), keep, older_than, irreplaceable, yes_really, dry_run, settings)
    if as_json:
        typer.echo(json.dumps(result))
    raise typer.Exit(0 if result["removed"] or dry_run or not result["listed"] else 2)


def _prune(
    out: Path,
    keep: int | None,
    older_than: int | None,
    irreplaceable: bool,
    consent: bool,
    dry_run: bool,
    settings: "Settings",
) -> dict[str, Any]:
    from datetime import UTC, datetime

    from flows.results.prune import kept_tiles, nights_to_prune, removals, require_prunable, room_of, total

    nights = nights_to_prune(out, keep, older_than, datetime.now(UTC).date())
    if not dry_run:  # before listing anything as to be removed
        require_prunable(out)
    listed = removals(out, nights, settings, irreplaceable)
    kept = [] if irreplaceable else kept_tiles(out, nights, settings)
    rooms = [room_of(out, one) for one in listed]
    _show(listed, rooms, "remove")
    _show(kept, [room_of(out, one) for one in kept], "keep")
    room = total(rooms)
    what = f"{counted(len(listed), 'item')} of {counted(len(nights), 'night')}: {room}"
    if dry_run:
        tell(f"Dry run: nothing was removed. Without --dry-run it would remove {what}.")
    removed = not dry_run and _remove(out, listed, what, refused=irreplaceable and not consent)
    return {
        "nights": list(nights),
        "listed": [asdict(one) | asdict(room) for one, room in zip(listed, rooms, strict=True)],
        "kept": [asdict(one) for one in kept],
        "removed": removed,
        **asdict(room),
    }


def _remove(out: Path, listed: "Sequence[Removal]", what: str, *, refused: bool) -> bool:
    """Remove the listed items if there is consent, and report it."""
    from flows.results.prune import take_out
    from flows.storage.lease import lease

    if refused and any(not one.reproducible for one in listed):
        tell(f"Nothing was removed: some of this cannot be made again ({what}). To fix, add --yes-really.")
        return False
    if listed:
        with lease(out):
            take_out(out, listed)
    tell(f"Removed {what}.")
    return bool(listed)


def _show(found: "Sequence[Removal]", rooms: "Sequence[Room]", action: str) -> None:
    for one, room in zip(found, rooms, strict=True):
        tell(f"{action:<7}{one.kind:<11}{one.path}  ({room}; {one.why})")


def backup(
    out: Out,
    to: Annotated[Path, typer.Argument(help="Folder of the backup; what is there and unchanged is kept.")],
    services: Services = None,
    as_json: AsJson = False,
) -> None:
    """Copy what cannot be made again without another search: catalogues, ledger, quarantine, pages. Runs may continue.

    Exit code 0: copied; 1: the disk is full; 2: no output folder, a damaged database, or a backup that is not writable.
    """
    from flows.results.backup import backup_output

    with refusals(as_json):
        copied = backup_output(out, to)
        if services is not None:
            from flows.nights.services.folder import opened
            from flows.nights.services.processes import Postgres

            Postgres(opened(services)).dump(to / DUMP)
    tell(f"{counted(copied.files, 'file')} copied, {copied.bytes / 1e6:.1f} MB; {copied.kept:,} unchanged.")
    if as_json:
        typer.echo(json.dumps(asdict(copied)))


def restore(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="Folder of a backup.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", parser=output_folder, help="Output folder, which holds no results yet.")
    ],
    services: Services = None,
    as_json: AsJson = False,
) -> None:
    """Copy a backup to a new output folder, and verify it.

    Exit code 0: no problems; 1: there are problems, each with its remedy; 2: no such backup, or OUT holds results.
    """
    from flows.pipeline.graph import declared_tables
    from flows.results.backup import restore_output

    with refusals(as_json):
        if services is not None:  # first: it may be refused, and the folder can be filled only once
            from flows.nights.services.folder import opened
            from flows.nights.services.stack import load_database

            load_database(opened(services), source / DUMP)
        copied, found = restore_output(source, out, declared_tables())
    for problem in found.problems:
        say(str(problem), err=as_json)
    say(
        f"{counted(copied.files, 'file')} restored, {counted(found.exposures, 'exposure')}, "
        f"{counted(len(found.problems), 'problem')}.",
        err=True,
    )
    if as_json:
        typer.echo(json.dumps(asdict(copied) | {"problems": len(found.problems)}))
    raise typer.Exit(1 if found.problems else 0)


def release(
    out: Out,
    name: Annotated[str, typer.Option(help="Name of the release, e.g. DR1.")],
    to: Annotated[Path, typer.Option(help="Folder of the release, which is made.")],
    night: Nights = None,
    as_json: AsJson = False,
) -> None:
    """Freeze nights as a data release: catalogues, ledger, settings, models and the SHA-256 of every file.

    A release can be opened and examined like OUT, and is checked by `nightstride verify FOLDER`; runs on OUT never
    change it. Exit code 0: frozen; 1: the disk is full; 2: bad usage, or the results are incomplete; 4: a run holds
    OUT.
    """
    from flows.pipeline.graph import declared_tables
    from flows.results.release import freeze_release

    with refusals(as_json):
        made = freeze_release(out, to, name, declared_tables(), night or EVERY_NIGHT)
    note = made.note
    for model in note.weights_missing:
        tell(f"{model}: its weights are not where the settings say; the release holds its card only.")
    words = f"{note.name}: {counted(len(note.nights), 'night')}, {counted(note.exposures, 'exposure')}, "
    say(f"{words}{counted(made.files, 'file')}, {made.bytes / 1e6:.1f} MB: {to}", err=as_json)
    say(f"SHA-256 of {to / 'SHA256SUMS'}: {made.sha256}", err=as_json)
    if as_json:
        said = {"files": made.files, "bytes": made.bytes, "sha256": made.sha256, "path": str(to)}
        typer.echo(json.dumps(note.model_dump(mode="json") | said))


def associate(
    out: Out,
    night: Nights = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Forget all objects and photometry by their ids; associate again by time.")
    ] = False,
    config: RunConfig = None,
    as_json: AsJson = False,
) -> None:
    """Associate published detections that are not yet associated with objects, and publish the objects of each night.

    A run does so for its own nights. Exit code 0: done; 1: something could not be associated or published now; 2: bad
    usage, or nothing is associated in OUT; 4: another run holds OUT.
    """
    from flows.nights.associate import associate_output
    from flows.runtime.settings import load_settings
    from flows.storage.layout import require_output
    from flows.storage.lease import lease
    from flows.storage.object_store import configure

    if rebuild and night is not None:
        raise typer.BadParameter("--rebuild is of all nights: leave --night out.")
    with refusals(as_json):
        settings = load_settings(config)
        configure(settings.store)
        require_output(out)
        with lease(out.resolve()):
            summary = associate_output(out.resolve(), settings, night or EVERY_NIGHT, rebuild, tell)
    for trouble in summary.failed:
        tell(trouble.message)
    for warning in summary.warnings:
        tell(f"warning: {warning}")
    say(_association_words(summary), err=as_json)
    if as_json:
        typer.echo(summary.model_dump_json())
    raise typer.Exit(summary.exit_code)


def _association_words(summary: "AssociationSummary") -> str:
    science, new = summary.static_known + summary.static_new, summary.static_new
    objects = f" {counted(science, 'object')} of science images associated, {new:,} of them new." if science else ""
    return (
        f"{counted(summary.exposures, 'exposure')} associated: {counted(summary.known, 'detection')} of known objects, "
        f"{summary.new:,} of new ones, {summary.left_out:,} of none; {counted(summary.objects, 'object')} of "
        f"{counted(summary.sources, 'detection')} in all.{objects}"
    )


def _linked(ids: "Sequence[Any]", one: "Tracklet") -> dict[str, Any]:
    motion = one.motion
    return {
        "first detection": str(ids[one.members[0]]), "detections": len(one.members), "MJD": f"{motion.mjd:.5f}",
        "RA, deg": f"{motion.ra:.5f}", "Dec, deg": f"{motion.dec:+.5f}", "deg/day": f"{motion.rate:.4f}",
        "angle, deg": f"{motion.angle:.1f}", "rms, arcsec": f"{motion.rms:.2f}", "by chance": f"{one.chance:.1g}",
    }  # fmt: skip


def link(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE",
            parser=output_folder,
            help="Detections: Parquet or CSV file, folder of Parquet files, or OUT of a run.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.parquet", help="Gets trackletId and id of each member.")
    ] = None,
    night: Nights = None,
    nights: Annotated[
        int | None, typer.Option(min=3, max=30, help="Number of nights to link over, too; needs the extra link.")
    ] = None,
    obscode: Annotated[str, typer.Option(help="Observatory code of the MPC, of rows that have none.")] = "",
    orbits: Annotated[
        Path | None, typer.Option(help="Orbits as in MPCORB or CometEls.txt: tracklets of known objects are named.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Link the detections of each night that one moving object explains, as described in docs/use/linking.md.

    Exit code 0: done, even if satellites were left out; 1: other rows were left out, each with its reason; 2: bad usage
    or table, or linking over nights failed.
    """
    from flows.inputs.orbit_file import read_orbits
    from flows.results import linking
    from flows.results.detection_table import left_out_words, read_detections
    from flows.results.link_nights import link_over_nights, require_heliolinx, unknown_places
    from flows.storage.folder import require_apart, require_ending, require_folder

    links, names, notes = None, None, list[str]()
    with refusals(as_json):
        if out is not None:
            require_ending(out, "--out", ".parquet", "tracklets", "tracklets")
            require_folder(out, "--out")
            require_apart(table, out)
        if nights is not None:
            require_heliolinx()
        catalogue = read_orbits(orbits) if orbits is not None else None
        detections = read_detections(table, obscode, night or EVERY_NIGHT)
        summary, tracklets, stationary = linking.link_table(detections)
        if catalogue is not None:
            names = linking.name_tracklets(tracklets, linking.name_detections(detections, catalogue))
            summary = summary.model_copy(update={"known": sum(map(bool, names))})
            notes = unknown_places(detections.obscode)
        if nights is not None:
            links, notes = link_over_nights(detections, tracklets, stationary, nights)
            summary = summary.with_links(links)
        if out is not None:
            linking.write_members(out, linking.members_of(detections, tracklets, links, names))
    for words in [*left_out_words(detections), *notes]:
        tell(words)
    show_rows(console(stderr=as_json), (_linked(detections.ids, one) for one in tracklets[:MOST]))
    if len(tracklets) > MOST:
        say(f"{counted(len(tracklets) - MOST, 'tracklet')} more: --out FILE has them all.", err=as_json)
    say(summary.words, err=as_json)
    if as_json:
        typer.echo(summary.model_dump_json(exclude_none=True))
    raise typer.Exit(summary.exit_code)

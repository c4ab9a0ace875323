"""Commands that look at an output folder."""

import json
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import counted, output_folder, refusals

if TYPE_CHECKING:
    from flows.results.explain import Explanation
    from flows.results.model_use import ModelUse


def status(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    night: Annotated[str | None, typer.Argument(help="YYYYMMDD; by default every night in OUT.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Count the done, outdated, quarantined and failed exposures of each night, with their lag and models.

    Exit code 0: nothing is outdated, quarantined or failed; 1: something is; 2: there is no such folder or night,
    or it cannot be read.
    """
    from rich.console import Console

    from flows.results.status import read_status, show_status

    with refusals(as_json):
        found = read_status(out, night)
    show_status(found, Console(stderr=as_json))
    if as_json:
        typer.echo(json.dumps(found.values()))
    raise typer.Exit(1 if any(one.troubles for one in found.nights) else 0)


def explain(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    source_id: Annotated[
        int, typer.Argument(metavar="ID", help="diaSourceId of a published detection, or diaObjectId.")
    ],
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML), as that of the run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Show which pixels, models, settings and code a detection comes from, its tracklet, and its object over nights.

    Exit code 0: the file still has the bytes that were searched; 1: it has others, or cannot be reached; 2: there is no
    such detection.
    """
    from flows.results.explain import explain_detection as follow
    from flows.runtime.settings import load_settings
    from flows.storage.object_store import configure

    with refusals(as_json):
        settings = load_settings(config)
        configure(settings.store)
        found = follow(out, source_id, settings.association)
    _show(found, err=as_json)
    if as_json:
        typer.echo(json.dumps(found.values()))
    raise typer.Exit(0 if found.source_state == "unchanged" else 1)


def _show(found: "Explanation", err: bool) -> None:
    from flows.results.explain import settings_changes

    record, row = found.record, found.detection
    lines = {
        "detection": f"{row['diaSourceId']}, x {row['x']:.2f}, y {row['y']:.2f}, S/N {row['snr']:.1f}, "
        f"reliability {row['reliability']:.3f}",
        "exposure": f"night {record.night}, visit {record.visit}, detector {record.detector}",
        **_known_words(found),
        **_motion_words(found),
        "file": f"{found.source_uri} ({found.source_state})",
        "sha256": found.source_sha256,
        "pixels": f"x {found.cutout.x[0]} to {found.cutout.x[1] - 1}, y {found.cutout.y[0]} to {found.cutout.y[1] - 1} "
        f"(0-based); FITS section {found.cutout.section}",
        "tiles": f"{found.tiles}, digest {found.tiles_digest or 'none: not there'}",
        **{f"catalogue {name}": f"{path}, digest {digest}" for name, (path, digest) in found.catalogues.items()},
        "made": f"{record.finished_at} by nightstride {record.software}",
    }
    if found.provenance is not None:
        made = found.provenance
        cards = {
            f"model {name}": f"{card.name} {card.version}, sha256 {card.sha256}" for name, card in made.models.items()
        }
        stages = ", ".join(f"{name} {version}" for name, version in made.stages.items())
        stages = fill(stages, 120, subsequent_indent=22 * " ")
        changes = settings_changes(made.settings)
        told = {f"setting {name}": json.dumps(value) for name, value in changes.items()}
        rest = f"all {'others ' if told else ''}are the defaults of this version; --json has them"
        lines |= {**cards, "stages": stages, "code": made.code, **told, "settings": rest}
    if (history := found.history) is not None:
        count = counted(len(history.detections), "detection")
        lines["object"] = f"diaObjectId {history.diaObjectId}, {count} in {counted(len(history.nights), 'night')}"
    for name, text in lines.items():
        typer.echo(f"{name:<25}{text}", err=err)
    for one in found.history.detections if found.history is not None else ():
        flux = "no flux" if one["psfFlux"] is None else f"{one['psfFlux']:.0f} nJy"
        text = f"{one['night']}, MJD {one['midpointMjdTai']:.5f}, {one['band']}, {flux}, {one['separation']:.2f} arcsec"
        typer.echo(f"{'seen ' + str(one['diaSourceId']):<25}{text}", err=err)


def _known_words(found: "Explanation") -> dict[str, str]:
    row = found.known
    if row is None:
        return {}
    off = f"{row['ephOffsetAlongTrack']:+.2f} arcsec along, {row['ephOffsetCrossTrack']:+.2f} across from its ephemeris"
    bright = "" if row["ephVmag"] is None else f", V {row['ephVmag']:.1f}"
    return {"known object": f"{row['designation']}{bright}, {row['ephRate']:.4f} deg/day, {off}"}


def _motion_words(found: "Explanation") -> dict[str, str]:
    motion = found.motion
    if motion is None:
        return {"motion": "not linked"}
    if motion.tracklet is None:
        return {
            "motion": "at rest: seen again at its place" if motion.stationary else "neither at rest nor in a tracklet"
        }
    row = motion.tracklet
    told = {
        "tracklet": f"{row['trackletId']}, {row['nSources']} detections, {row['rate']:.4f} deg/day at position angle "
        f"{row['positionAngle']:.1f} deg, rms {row['rms']:.2f} arcsec, {row['chance']:.1g} by chance"
    }
    for one in motion.members:
        off = f"{one['alongOffset']:+.2f} arcsec along, {one['acrossOffset']:+.2f} across"
        told[f"of it {one['diaSourceId']}"] = f"MJD {one['midpointMjdTai']:.5f} TAI, {off}"
    return told


def quality(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    night: Annotated[
        str | None, typer.Argument(help="YYYYMMDD; by default every night in OUT, the earliest first.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML); default: nightstride.toml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Judge published nights by the limits of the settings and by the nights before them, and keep the verdicts.

    A run does that for its own nights; this is for nights of before, and for limits that have changed. Exit code 0: no
    night fails; 1: one does; 2: there is no such folder or night; 4: another
    run holds it.
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
        nights = chosen_nights(out, night)
        with patient_lease(out, 0, lambda text: typer.echo(text, err=True)):
            found = [assess(out, label, settings.quality, again=True) for label in nights]
    judged = {record.night: record.judged for record in found if record is not None}
    for label, bands in judged.items():
        for band in bands:
            typer.echo(f"{label} {band.instrument} {band.band}: {band.verdict.replace('_', ' ')}", err=as_json)
            for line in (*band.notes, *told(band)):
                typer.echo(f"{label} {band.band} {line}", err=as_json)
    if as_json:
        dumped = {label: [band.model_dump(mode="json") for band in bands] for label, bands in judged.items()}
        typer.echo(json.dumps({"nights": dumped}))
    raise typer.Exit(int(any(band.verdict == "fail" for bands in judged.values() for band in bands)))


def verify(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    night: Annotated[str | None, typer.Argument(help="YYYYMMDD; by default every night in OUT.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Check every published file against the ledger, and a data release against its manifest; nothing is changed.

    Exit code 0: all is well; 1: there are problems, each listed with its remedy; 2: there is no such output folder.
    """
    from flows.pipeline.graph import declared_tables
    from flows.results.release import with_manifest
    from flows.results.verify import verify_output as check
    from schemas.errors import Misconfigured

    try:
        result = with_manifest(out, check(out, declared_tables(), night))
    except Misconfigured as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if result.running:
        typer.echo(f"A run holds {out}: {result.running}. What it is writing is left out of account.", err=True)
    for problem in result.problems:
        typer.echo(str(problem), err=as_json)
    verdict = counted(len(result.problems), "problem") if result.problems else "all is well"
    named = {"exposure": result.exposures, "night": result.nights, "file": result.files, "tile store": result.tiles}
    counts = ", ".join(counted(count, name) for name, count in named.items())
    counts += f", {result.quarantined} quarantined" if result.quarantined else ""
    typer.echo(f"{counts}: {verdict}.", err=as_json)
    if as_json:
        typer.echo(json.dumps(result.summary()))
    raise typer.Exit(1 if result.problems else 0)


def models(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """List the models that searched what OUT has: nights, exposures by what came of them, detections, and the replaced.

    What a model made is made again, with the model of the settings, by `nightstride backfill --out OUT --searched-with
    MODEL`. Exit code 2: there is no such folder, or it cannot be read.
    """
    from flows.results.model_use import model_uses

    with refusals(as_json):
        uses = model_uses(out)
    for use in uses:
        _say(use, err=as_json)
    if not uses:
        typer.echo("No exposure was searched.", err=as_json)
    if as_json:
        typer.echo(json.dumps({"models": [{**vars(use), "nights": sorted(use.nights)} for use in uses]}))


def _say(use: "ModelUse", err: bool) -> None:
    """Print in two lines, which fit a terminal, what a model was used for."""
    nights = sorted(use.nights)
    when = f"night {nights[0] if nights else '-'}"
    if len(nights) > 1:
        when = f"{len(nights):,} nights, {nights[0]} to {nights[-1]}"
    counts = (f"{getattr(use, name):,} {name}" for name in ("quarantined", "failed", "replaced"))
    weights = f"{use.model}: {use.name} {use.version}, SHA-256 {use.sha256[:12]}" if use.name else f"model {use.model}"
    typer.echo(weights, err=err)
    typer.echo(f"  {when}: {use.exposures:,} exposures, {use.detections:,} detections, {', '.join(counts)}", err=err)


def report(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    night: Annotated[str | None, typer.Option(help="YYYYMMDD; by default every night in OUT.")] = None,
    truth: Annotated[
        list[Path] | None, typer.Option(help="Truth table (Parquet, CSV or ECSV); may be given more than once.")
    ] = None,
) -> None:
    """Make the night page again, from what OUT holds; with a truth table also completeness and false streaks.

    The path of each page is printed. Exit code 2: there is no such night in OUT, or it is a data release.
    """
    from flows.results.evaluation.published import require_common, searched_exposures
    from flows.results.evaluation.truth_table import read_truth
    from flows.results.page.night import chosen_nights
    from flows.results.page.page import write_report
    from flows.storage.layout import refuse_release

    with refusals():
        refuse_release(out)
        nights = chosen_nights(out, night)
        known = read_truth(truth) if truth else None
        if known is not None:
            require_common(known, searched_exposures(out), out)
        for label in nights:
            typer.echo(str(write_report(out, label, truth=known)))

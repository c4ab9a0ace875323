"""Commands that look at an output folder."""

import json
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import complete
from flows.cli.command import console, say, tell
from flows.cli.options import AsJson, Config, Night, NightBefore, Out, RunConfig, counted, either, refusals
from flows.cli.tables import show_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from flows.results.explain import Explanation
    from flows.results.model_use import ModelUse
    from schemas.quality import Gate


def status(
    out: Out,
    night_before: NightBefore = None,
    night: Night = None,
    as_json: AsJson = False,
) -> None:
    """Count the done, outdated, quarantined and failed exposures of each night, with their lag and models.

    Exit code 0: nothing is outdated, quarantined or failed; 1: something is; 2: there is no such folder or night,
    or it cannot be read.
    """
    from flows.results.status import read_status, show_status

    with refusals(as_json):
        found = read_status(out, either(night, night_before))
    show_status(found, console(stderr=as_json))
    if as_json:
        typer.echo(json.dumps(found.values()))
    raise typer.Exit(1 if any(one.troubles for one in found.nights) else 0)


def explain(
    out: Out,
    source_id: Annotated[
        int,
        typer.Argument(
            metavar="ID", autocompletion=complete.ids, help="diaSourceId of a published detection, or diaObjectId."
        ),
    ],
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Write the difference, science and template cutouts.")
    ] = None,
    config: RunConfig = None,
    as_json: AsJson = False,
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
        if picture is not None:
            _write_picture(out, found, picture)
    _show(found, err=as_json)
    if (shown := console(stderr=as_json)).is_terminal:
        _show_blocks(out, found, shown)
    if as_json:
        typer.echo(json.dumps(found.values()))
    raise typer.Exit(0 if found.source_state == "unchanged" else 1)


def _show(found: "Explanation", err: bool) -> None:
    from flows.results.explain import settings_changes

    record, row = found.record, found.detection
    lines = {
        "detection": f"{row['diaSourceId']}, x {row['x']:.2f}, y {row['y']:.2f}, S/N {row['snr']:.1f}, "
        f"reliability {row['reliability']:.3f}",
        **_sky_words(row),
        "flags": ", ".join(found.flags) or "none",
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
        changes = settings_changes(made.settings)
        told = {f"setting {name}": json.dumps(value) for name, value in changes.items()}
        rest = f"all {'others ' if told else ''}are the defaults of this version; --json has them"
        lines |= {**cards, "stages": stages, "code": made.code, **told, "settings": rest}
    if (history := found.history) is not None:
        count = counted(len(history.detections), "detection")
        lines["object"] = f"diaObjectId {history.diaObjectId}, {count} in {counted(len(history.nights), 'night')}"
    wide = max(map(len, lines)) + 2
    for name, text in lines.items():
        words = fill(text, 120, subsequent_indent=wide * " ") if name == "stages" else text
        say(f"{name:<{wide}}{words}", err=err)
    for one in found.history.detections if found.history is not None else ():
        flux = "no flux" if one["psfFlux"] is None else f"{one['psfFlux']:.0f} nJy"
        text = f"{one['night']}, MJD {one['midpointMjdTai']:.5f}, {one['band']}, {flux}, {one['separation']:.2f} arcsec"
        say(f"{'seen ' + str(one['diaSourceId']):<{wide}}{text}", err=err)


def _sky_words(row: "Mapping[str, Any]") -> dict[str, str]:
    """Return the place on the sky in degrees, and as catalogues and telescopes are asked for it."""
    ra, dec = row.get("ra"), row.get("dec")
    if ra is None or dec is None:
        return {"sky": "not known: the image has no WCS"}
    seconds, arc = round(ra % 360 * 240, 2) % 86400, round(abs(dec) * 3600, 1)
    hours = f"{int(seconds // 3600):02d}:{int(seconds % 3600 // 60):02d}:{seconds % 60:05.2f}"
    degrees = f"{'-' if dec < 0 else '+'}{int(arc // 3600):02d}:{int(arc % 3600 // 60):02d}:{arc % 60:04.1f}"
    return {"sky": f"RA {ra:.6f}, Dec {dec:+.6f} deg (ICRS); {hours} {degrees}"}


def _write_picture(out: Path, found: "Explanation", path: Path) -> None:
    import base64

    import numpy as np

    from flows.results.explain import cutout_levels
    from flows.results.page.picture import png
    from flows.storage.atomic import write_file
    from flows.storage.folder import writable_folder
    from schemas.errors import Misconfigured

    if (levels := cutout_levels(out, found, 400)) is None:
        problem = "cannot be drawn: the pixels of the exposure are not there."
        raise Misconfigured("no_tiles", str(path), problem, "run the night again, or leave --picture out.")
    writable_folder(path.absolute().parent, "--picture")
    enlarged = np.kron(levels, np.ones((max(1, 164 // levels.shape[0]),) * 2, np.uint8))
    content = base64.b64decode(png(enlarged).uri.partition(",")[2])
    write_file(path.absolute(), content, path.absolute().parent)


def _show_blocks(out: Path, found: "Explanation", shown: "Console") -> None:
    """Draw the cutouts with half blocks, two pixels above each other in a character."""
    from rich.text import Text

    from flows.results.explain import cutout_levels

    if (levels := cutout_levels(out, found, 25)) is None:
        return
    rows = [
        [f"rgb({one},{one},{one})" if one < 254 else "rgb(52,78,112)" for one in row] for row in levels[::-1].tolist()
    ]
    rows += [["default"] * len(rows[0])] * (len(rows) % 2)
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        shown.print(Text.assemble(*(("▀", f"{top} on {low}") for top, low in zip(upper, lower, strict=True))))


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
    out: Out,
    night_before: NightBefore = None,
    night: Night = None,
    config: Config = None,
    as_json: AsJson = False,
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
        nights = chosen_nights(out, either(night, night_before))
        with patient_lease(out, 0, tell):
            found = [assess(out, label, settings.quality, again=True) for label in nights]
    judged = {record.night: record.judged for record in found if record is not None}
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
    night_before: NightBefore = None,
    night: Night = None,
    as_json: AsJson = False,
) -> None:
    """Check every published file against the ledger, and a data release against its manifest; nothing is changed.

    Exit code 0: all is well; 1: there are problems, each listed with its remedy; 2: there is no such output folder.
    """
    from flows.pipeline.graph import declared_tables
    from flows.results.release import with_manifest
    from flows.results.verify import verify_output as check

    with refusals(as_json):
        result = with_manifest(out, check(out, declared_tables(), either(night, night_before)))
    if result.running:
        tell(f"A run holds {out}: {result.running}. What it is writing is left out of account.")
    for problem in result.problems:
        say(str(problem), err=as_json)
    verdict = counted(len(result.problems), "problem") if result.problems else "all is well"
    named = {"exposure": result.exposures, "night": result.nights, "file": result.files, "tile store": result.tiles}
    counts = ", ".join(counted(count, name) for name, count in named.items())
    counts += f", {result.quarantined} quarantined" if result.quarantined else ""
    say(f"{counts}: {verdict}.", err=as_json)
    if as_json:
        typer.echo(json.dumps(result.summary()))
    raise typer.Exit(1 if result.problems else 0)


def models(
    out: Out,
    as_json: AsJson = False,
) -> None:
    """List the models that searched what OUT has: nights, exposures by what came of them, detections, and the replaced.

    What a model made is made again, with the model of the settings, by `nightstride backfill --out OUT --searched-with
    MODEL`. Exit code 2: there is no such folder, or it cannot be read.
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
    night: Night = None,
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

"""Command `nightstride explain`: from a detection back to its pixels."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.output_folder import output_folder
from flows.commands.refusal import refusals

if TYPE_CHECKING:
    from flows.explain import Explanation


def explain(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    source_id: Annotated[int, typer.Argument(metavar="ID", help="diaSourceId of a published detection.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Say which pixels, models, settings and code a detection comes from.

    Exit code 0: the file still has the bytes that were searched; 1: it has others, or cannot be reached; 2: there is no
    such detection.
    """
    from flows.explain import explain as follow

    with refusals(as_json):
        found = follow(out, source_id)
    _show(found, err=as_json)
    if as_json:
        typer.echo(json.dumps(found.values()))
    raise typer.Exit(0 if found.source_state == "unchanged" else 1)


def _show(found: "Explanation", err: bool) -> None:
    from flows.settings_changes import settings_changes

    record, row = found.record, found.detection
    lines = {
        "detection": f"{row['diaSourceId']}, x {row['x']:.2f}, y {row['y']:.2f}, S/N {row['snr']:.1f}, "
        f"reliability {row['reliability']:.3f}",
        "exposure": f"night {record.night}, visit {record.visit}, detector {record.detector}",
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
    for name, text in lines.items():
        typer.echo(f"{name:<22}{text}", err=err)

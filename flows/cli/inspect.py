"""Command `nightstride inspect`: information in a file, assumptions, and settings for the rest."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.command import is_quiet
from flows.cli.options import AsJson, Config, refusals
from flows.runtime.words import counted, typed
from schemas.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

    from flows.results.camera_file import Varying
    from flows.results.inspection import Inspection, Quantity


_WIDTH = 120
"""Minimum width of tables, characters, so that notes are not cut off."""


def inspect(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Images, or where they are, as for run; of one camera.")
    ],
    write: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Write the settings of the camera, each with a comment.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show all that the search needs to know about a file, where it comes from, and what is ASSUMED.

    Files are read as in a run, but not searched. Exit code 0: all can be searched; 3: some cannot, with reason and
    remedy; 1: some cannot be read now; 2: bad usage or configuration.
    """
    from rich.console import Console

    from flows.inputs.sources import list_sources
    from flows.results.camera_file import Varying, settings_text, varying
    from flows.results.inspection import Inspection, inspect_source
    from flows.runtime.settings import load_settings
    from flows.storage.object_store import configure

    console, found = (
        Console(stderr=as_json, highlight=False, markup=False, emoji=False, soft_wrap=True, quiet=is_quiet()),
        list[Inspection](),
    )
    console.width = max(console.width, _WIDTH)
    with refusals(as_json):
        settings = load_settings(config)
        configure(settings.store)
        if write is not None:
            _require_new(write)
        for source in list_sources(files, settings):
            found.append(inspect_source(source, settings))
            _show(found[-1], console)
        apart = varying(found) if len(found) > 1 else Varying()
        _show_varying(apart, console)
        if write is not None:
            from flows.storage.atomic import write_file

            write_file(write.absolute(), settings_text(found).encode(), write.absolute().parent)
            after = f"nightstride run FILES --out OUT --config {typed(write)}"
            console.print(f"Written: {printable(str(write))}. Look for CHECK in it; then: {after}")
    if as_json:
        told = {"files": [one.values() for one in found], **apart._asdict(), "written": str(write) if write else None}
        typer.echo(json.dumps(told))
    raise typer.Exit(_exit_code(found))


def _require_new(path: Path) -> None:
    from flows.storage.folder import require_folder
    from schemas.errors import Misconfigured

    if path.exists():
        raise Misconfigured("file_exists", str(path), "it exists.", "name another file, or remove it first.")
    require_folder(path, "--write")


def _exit_code(found: "list[Inspection]") -> int:
    from schemas.errors import Retryable
    from schemas.summary import QUARANTINED

    if any(isinstance(one.error, Retryable) for one in found):
        return 1
    return QUARANTINED if any(one.error is not None for one in found) else 0


def _show(one: "Inspection", console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    from schemas.exposure import ASSUMPTIONS, TOLD_BY

    console.print(f"\n{printable(one.uri)}" + (f" ({one.form})" if one.form else ""), style="bold")
    if one.quantities:
        table = Table(box=None, pad_edge=False)
        for name in ("what", "value", "unit", "keyword", "note"):
            table.add_column(name, overflow="fold", no_wrap=name in ("what", "value"))
        for row in one.quantities:
            style = "bold yellow" if row.assumed else ""
            table.add_row(*(Text(text, style) for text in _cells(row)))
        console.print(table, soft_wrap=False)
    if one.extensions:
        words = (
            f"{ext.hdu} {ext.name or '-'} ({ext.kind}){f' = {ext.used}' if ext.used else ''}" for ext in one.extensions
        )
        console.print(f"extensions: {'; '.join(words)}")
    for unused in one.unused:
        console.print(f"not used: {unused.keyword} = {unused.value} ({unused.quantity}?): {unused.why}")
    for ext in one.extensions:
        if ext.likely:
            told = f'planes = {{ {ext.likely} = "{ext.name}" }} in [fits]'
            console.print(f"not used: extension {ext.name} ({ext.likely}?): if it is, set {told}")
    for flag in one.flags:
        cure = f" (settings: {TOLD_BY[flag]})" if flag in TOLD_BY and one.form == "generic" else ""
        console.print(f"flag {flag}: {ASSUMPTIONS.get(flag, 'see docs/use/input.md')}{cure}", style="bold yellow")
    if one.error is not None:
        console.print(f"CANNOT BE SEARCHED: {one.error}", style="bold red")


def _cells(row: "Quantity") -> tuple[str, ...]:
    from flows.results.inspection import ASSUMED

    value = "not known" if row.value is None else str(row.value)
    keyword = row.keyword or (ASSUMED if row.assumed else "")
    said = f"{keyword} = {row.said}" if row.said and row.said != value else keyword
    note = row.note
    if row.assumed and row.keyword:
        note = f"{ASSUMED}: {note}" if note else ASSUMED
    return row.name, value, row.unit, said, note


def _show_varying(apart: "Varying", console: "Console") -> None:
    for words, keys in (("detector to detector", apart.per_detector), ("visit to visit", apart.per_visit)):
        if keys:
            console.print(f"\n{counted(len(keys), 'keyword')} from {words}: {', '.join(keys)}")

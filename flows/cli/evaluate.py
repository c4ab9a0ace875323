"""Commands `nightstride evaluate`: comparison of results with the truth."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.command import Commands, console, tell
from flows.cli.options import AsJson, output_folder, refusals
from flows.cli.tables import show_figures
from schemas.errors import Misconfigured
from schemas.photometric_systems import SystemName

app = Commands(help="Compare results with the truth.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Compare results with the truth."""


@app.command("detect")
def detect(
    out: Annotated[
        Path | None, typer.Argument(metavar="OUT", parser=output_folder, help="Output folder or s3:// URL of a run.")
    ] = None,
    more_truth: Annotated[list[Path] | None, typer.Argument(metavar="TRUTH", help="Further truth tables.")] = None,
    truth: Annotated[
        list[Path] | None,
        typer.Option(help="Truth table: Parquet, CSV, ECSV or npz of the LLNL challenge; may be repeated."),
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for pictures.")] = None,
    stamps: Annotated[
        list[Path] | None,
        typer.Option(help="Instead of a night: folder or tarball of ZTF alert packets; may be repeated."),
    ] = None,
    inject_stamps: Annotated[
        bool, typer.Option("--inject-stamps", help="With --stamps: put a trail into each stamp, and count those found.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="Settings, for --stamps.")] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate the search: completeness and false detections compared to the truth and to the oracle matched filter."""
    with refusals(as_json):
        if inject_stamps and not stamps:
            raise Misconfigured("no_stamps", "--inject-stamps", "there are no stamps.", "give --stamps PATH, too.")
        if stamps:
            figures = _stamps(stamps, config, pictures, inject_stamps, as_json)
        else:
            figures = _night(out, [*(truth or ()), *(more_truth or ())], pictures, as_json)
    if as_json:
        typer.echo(json.dumps(figures, allow_nan=False))


@app.command("spectral-class")
def spectral_class(
    data: Annotated[
        Path, typer.Option(help="CSV, FITS or Parquet of SDSS with u, g, r, i, z, class and perhaps redshift.")
    ],
    system: Annotated[
        SystemName, typer.Option(help="Photometric system of the magnitudes; of others than sdss u may be missing.")
    ] = "sdss",
    redshift: Annotated[str, typer.Option(help="Model with redshift: shipped name or folder.")] = "redshift",
    photometry: Annotated[str, typer.Option(help="Model without: shipped name or folder.")] = "photometry",
    as_json: AsJson = False,
) -> None:
    """Evaluate the classification as star, galaxy or quasar on a labelled table, and compare with simple methods."""
    from flows.results.evaluation.spectral import evaluate_spectral, spectral_table

    with refusals(as_json):
        figures = evaluate_spectral(data, {"redshift": redshift, "photometry": photometry}, system)
    _warn_of_training(figures)
    _warn_of_depth(figures)
    if as_json:
        typer.echo(json.dumps(figures, allow_nan=False))
    else:
        _print([spectral_table(figures)])


def _warn_of_training(figures: dict[str, Any]) -> None:
    if names := figures["trained_on"]:
        typer.echo(
            f"WARNING: this table made {' and '.join(names)}, by four fifths of its rows: their figures are not a "
            "test. Give a table that no model has learnt from.",
            err=True,
        )


_MANY = 0.1
"""Share of faint rows from which they are worth a warning."""


def _warn_of_depth(figures: dict[str, Any]) -> None:
    faint = figures["faint_without_u"]
    if faint > _MANY * figures["rows"]:
        typer.echo(
            f"WARNING: {faint} of {figures['rows']} rows lack u and are fainter than nearly all that the model without "
            "redshift has learnt from, where SDSS took spectra of quasars above all: it takes most of them for "
            "quasars. --photometry colours does not look at the brightness.",
            err=True,
        )


@app.command("star-galaxy")
def star_galaxy(
    data: Annotated[
        Path,
        typer.Option(help='npz file: X (n, [planes,] height, width), y n times "star" or "galaxy"; or galstar.csv.'),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Shipped name, folder or URL; default: single_band (PSF as ZTF's in i), of galstar.csv multi_band."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model for stars and galaxies on labelled cutouts; compare with a locus cut and trees on moments."""
    from flows.results.evaluation.star_galaxy import evaluate_star_galaxy

    with refusals(as_json):
        figures = evaluate_star_galaxy(data, model)
    _tell(figures, as_json)


_DATA = Annotated[
    list[Path],
    typer.Option(
        help="Folder whose sub-folders are named by what is in them, or CSV of location, label; may be repeated."
    ),
]
_MODEL = Annotated[str, typer.Option(help="Shipped name, or folder.")]
_PICTURES = Annotated[Path | None, typer.Option(help="Folder for pictures.")]
_UNSEEN = Annotated[bool, typer.Option("--unseen", help="Leave out pictures that the model has learnt from.")]


def _of_pictures(task: str) -> Callable[..., None]:
    """Make the command that evaluates the model for one kind of pictures."""

    def command(
        data: _DATA,
        model: _MODEL = "default",
        unseen: _UNSEEN = False,
        pictures: _PICTURES = None,
        as_json: AsJson = False,
    ) -> None:
        _pictures(task, data, model, unseen, pictures, as_json)

    return command


for _task, _told in {
    "morphology": "Evaluate the model that tells elliptical, spiral, edge-on and merging galaxies on labelled ones.",
    "scene": "Evaluate the model that tells pictures of the solar system, of nebulae and of galaxies on labelled ones.",
    "cluster": "Evaluate the model that tells members of a cluster from other galaxies by pictures on labelled ones.",
}.items():
    app.command(_task, help=_told)(_of_pictures(_task))


@app.command("membership")
def membership(
    data: Annotated[
        Path,
        typer.Option(help="CSV, ECSV, FITS or Parquet of galaxies near clusters, or the table published by S-PLUS."),
    ],
    model: _MODEL = "default",
    unseen: Annotated[
        bool, typer.Option("--unseen", help="Leave out galaxies that the model has learnt from, by their place.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate the membership of galaxies in the cluster towards which they lie; compare with two simple rules."""
    from flows.results.evaluation.membership import evaluate_membership

    with refusals(as_json):
        figures = evaluate_membership(data, model, unseen=unseen)
    _tell(figures, as_json)


@app.command("anomaly")
def anomaly(
    data: _DATA,
    normal: Annotated[
        list[str] | None,
        typer.Option(help="Label of normal pictures; may be repeated. Default: real, normal, galaxies, morphologies."),
    ] = None,
    model: _MODEL = "default",
    unseen: _UNSEEN = False,
    pictures: _PICTURES = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate how well anomalous pictures of galaxies are distinguished from normal ones."""
    from flows.results.evaluation.anomaly import evaluate_anomaly

    with refusals(as_json):
        figures = evaluate_anomaly(data, normal or [], model, unseen=unseen, draw=pictures, say=tell)
    _tell(figures, as_json)


def _pictures(task: str, data: list[Path], model: str, unseen: bool, pictures: Path | None, as_json: bool) -> None:
    from flows.results.evaluation.picture_scores import evaluate_pictures

    with refusals(as_json):
        figures = evaluate_pictures(task, data, model, unseen=unseen, draw=pictures, say=tell)
    _tell(figures, as_json)


def _night(out: Path | None, truth: list[Path], pictures: Path | None, quiet: bool) -> dict[str, Any]:
    from flows.results.evaluation.evaluate import evaluate
    from flows.results.evaluation.published import nights_judged, read_image, searched_exposures
    from flows.results.evaluation.summary import night_tables, summarise
    from flows.results.evaluation.truth_table import read_truth

    if out is None or not truth:
        raise Misconfigured(
            "no_truth", "evaluate detect", "needs a run and its truth.", "give OUT and --truth FILE, or --stamps PATH."
        )
    known, keys = read_truth(truth), searched_exposures(out)
    nights = nights_judged(known, keys, out)
    evaluation = evaluate(read_image(out, key, known) for key in keys if key.night in nights)
    if others := sorted({key.night for key in keys} - nights):
        tell(f"Left out, as the truth holds none of their images: night{'s' * (len(others) > 1)} {', '.join(others)}.")
    missed = known.images - {(key.visit, key.detector) for key in keys}
    figures = summarise(evaluation) | {"images_with_truth_not_searched": len(missed), "nights_without_truth": others}
    if not quiet:
        _print(night_tables(figures))
    if pictures is not None:
        from flows.results.evaluation.pictures import draw

        _name(draw(evaluation, figures, pictures))
    return figures


def _stamps(paths: list[Path], config: Path | None, pictures: Path | None, inject: bool, quiet: bool) -> dict[str, Any]:
    from flows.inputs.packet_files import read_packets
    from flows.pipeline.packet_search import least_reliability
    from flows.results.evaluation.stamps import (
        score_injected,
        score_stamps,
        summarise_injected,
        summarise_stamps,
    )
    from flows.results.evaluation.summary import injected_table, stamp_tables
    from flows.runtime.settings import load_settings

    settings = load_settings(config)
    least = least_reliability(settings)
    stamps = tuple(stamp for path in paths for stamp in read_packets(path))
    figures = summarise_stamps(score_stamps(stamps, settings), least)
    tables = stamp_tables(figures)
    if inject:
        pixels = sum(stamp.pixels.size for stamp in stamps)
        injected = summarise_injected(score_injected(stamps, settings), pixels, least)
        figures, tables = figures | {"injected": injected}, [*tables, injected_table(injected)]
    if not quiet:
        _print(tables)
    if pictures is not None:
        from flows.results.evaluation.pictures import draw_stamps

        _name([draw_stamps(figures, pictures)])
    return figures


def _tell(figures: dict[str, Any], as_json: bool) -> None:
    """Print figures as tables, or as JSON."""
    if as_json:
        typer.echo(json.dumps(figures, allow_nan=False))
    else:
        show_figures(console(), figures)


def _print(tables: list[Any]) -> None:
    shown = console()
    for table in tables:
        shown.print(table)


def _name(written: list[Path]) -> None:
    for path in written:
        tell(str(path))

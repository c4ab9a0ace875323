"""Command `nightstride bench`: speed of the search on this machine."""

import json
import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli.command import Commands, console, tell
from flows.cli.options import AsJson, refusals

if TYPE_CHECKING:
    from flows.training.bench.search import SearchFigures


app = Commands(help="Measure how fast this machine searches.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure the speed of the search on this machine."""


@app.command("search")
def search(
    size: Annotated[
        tuple[int, int] | None, typer.Option(help="NY NX of the simulated image, px; default: 3080 3072.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; medians are reported.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; default: one per core.")] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="cuda: on the GPU as well; auto: if there is one.")
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Time the fused search, the plain one, torch's unfold and the arithmetic limit, in turns in one process.

    The image is a simulated ZTF exposure. All are checked to give the same result.
    """
    from flows.runtime.settings import load_settings
    from flows.training.bench.exposure import bench_exposure, use_threads
    from flows.training.bench.search import compare_search
    from kernels.search.detector import choose_device

    used = use_threads(threads or len(os.sched_getaffinity(0)))
    with refusals(as_json):
        load_settings(None, {})  # faults in the environment are reported as by other commands
        tell(f"{repeats} rounds of every way to search, one to compile; the plain way takes longest.")
        where = choose_device(device)
        figures = compare_search(bench_exposure(size), repeats, used, tell, where)
    if as_json:
        typer.echo(json.dumps(figures.as_json()))
    else:
        _show(figures)


def _show(figures: "SearchFigures") -> None:
    from rich.table import Table

    threads = f"{figures.threads} thread{'s' if figures.threads > 1 else ''}"
    table = Table(title=f"{figures.windows:,} windows, {threads}, median of {figures.repeats}")
    for heading in ("search", "s", "plain / this", "this / limit"):
        table.add_column(heading, justify="left" if heading == "search" else "right")
    for label, seconds, limit in _rows(figures):
        share = f"{seconds / limit:.2f}" if limit else ""
        table.add_row(label, f"{seconds:.3f}", f"{figures.plain_s / seconds:.1f}", share)
    shown = console()
    shown.print(table)
    shown.print(
        f"Probabilities: float32 differs from the plain way by {figures.max_dprob_f32:.1e} at most; "
        f"bfloat16 by {figures.p99_dprob_bf16:.1e} (99 %), {figures.max_dprob_bf16:.1e} at most.\n"
        f"{figures.hits} hits, {figures.detections} detections; the same in both precisions: "
        f"{'yes' if figures.same_detections else 'NO'}; behind the screen: "
        f"{'yes' if figures.same_hits_screened else 'NO'}."
        + ("" if figures.same_hits_device is None else f"\n{figures.device}: {_agreement(figures)}."),
        highlight=False,
    )


def _agreement(figures: "SearchFigures") -> str:
    same = "yes" if figures.same_hits_device else "NO"
    return f"probabilities differ by {figures.max_dprob_device:.1e} at most, the same hits: {same}"


def _rows(figures: "SearchFigures") -> list[tuple[str, float, float | None]]:
    on_device = [
        (f"{figures.device}, {kind}", seconds, limit)
        for kind, seconds, limit in (
            ("float32", figures.device_f32_s, figures.device_limit_f32_s),
            ("bfloat16", figures.device_bf16_s, figures.device_limit_bf16_s),
        )
        if seconds is not None
    ]
    return [
        ("plain way: loop, batches of 64", figures.plain_s, None),
        ("torch unfold, batches of 1,024", figures.unfold_s, None),
        ("fused, float32", figures.fused_f32_s, figures.gemm_limit_f32_s),
        ("fused, bfloat16", figures.fused_bf16_s, figures.gemm_limit_bf16_s),
        ("fused, float32 behind the screen", figures.screened_s, None),
        *on_device,
        ("limit, float32: matrix products alone", figures.gemm_limit_f32_s, None),
        ("limit, bfloat16", figures.gemm_limit_bf16_s, None),
    ]

"""Comparison of seven ways of the window stage on one 3080 x 3072 image: ``python -m benchmarks.speed.bench_windows``.

All use the weights of `basic_cnn` and the same rules for masked pixels, take turns in one process, and must give the
same probabilities. Beside them, in turn: the search of cells by `streak_net`, another network.
"""

from functools import partial

from scipy.special import logit

from benchmarks.speed.ways.dask_way import dask_logits
from benchmarks.speed.ways.numpy_way import numpy_logits
from benchmarks.speed.ways.skimage_way import skimage_logits
from benchmarks.support.page import IMAGES, machine, options, show, table
from flows.pipeline.models import load_model
from flows.results.evaluation.pictures import new_figure, save
from flows.training.bench.exposure import bench_exposure, shipped_net
from flows.training.bench.search import probability_error, search_variants
from flows.training.bench.ways import chain_flops, gemm_rates, interleaved
from kernels.image.search_image import Places, SearchImage

TOLERANCE = 1e-5
"""Maximum difference of a probability, except in bfloat16."""

LABELS = {
    "plain": "plain way: loop over windows, z-score in numpy, batches of 64",
    "numpy": "numpy `sliding_window_view`, batches of 1,024",
    "unfold": "torch `unfold`, batches of 1,024",
    "skimage": "scikit-image `view_as_windows`, batches of 1,024",
    "dask": "dask `map_overlap`, each chunk unfolded by torch",
    "fused_f32": "**ours, float32**",
    "fused_bf16": "**ours, bfloat16, hits scored again in float32**",
}

CELLS = {"cells_f32": "**`streak_net`, float32**", "cells_bf16": "**`streak_net`, bfloat16**"}


def ways(pixels, net, floor):
    """Return every way of searching, by name, in the order of the table."""
    others = {"numpy": numpy_logits, "skimage": skimage_logits, "dask": dask_logits}
    every = search_variants(pixels, net, floor) | {name: partial(way, pixels, net) for name, way in others.items()}
    return {name: every[name] for name in LABELS}


def cell_ways(exposure):
    """Search of every cell by `streak_net`, by name, in the order of the table."""
    plane, kinds = SearchImage.of(exposure.info, exposure.difference, exposure.pixels.usable), ("float32", "bfloat16")
    found = {}
    for name, precision in zip(CELLS, kinds, strict=True):
        detector = load_model("detect", "streak_net", precision=precision)
        step = detector.grid.stride
        rows, columns = detector.grid.tiling(exposure.info.shape, step).grid
        places = Places(0, 0, rows, columns, step)
        found[name] = partial(_odds, detector, plane, places)
    return found


def _odds(detector, plane, places):
    return detector.search(plane, places)[0]


def check(results):
    """Return the greatest difference in probability from the plain way, by name.

    Raises
    ------
    AssertionError
        Some way gives other probabilities.
    """
    errors = {name: float(probability_error(found, results["plain"]).max()) for name, found in results.items()}
    wrong = {name: error for name, error in errors.items() if error > TOLERANCE and name != "fused_bf16"}
    assert not wrong, f"probabilities differ from the plain way's: {wrong}"
    return errors


def draw(medians, limits):
    """Draw bars of seconds, logarithmic, with the arithmetic limits."""
    figure, (panel,) = new_figure()
    names = list(reversed(LABELS))
    seconds = [medians[name] for name in names]
    colours = ["#1f5fa8" if name.startswith("fused") else "#9a9a9a" for name in names]
    panel.barh([LABELS[name].replace("*", "").replace("`", "").split(",")[0].split(":")[0] +
                (", bfloat16" if name == "fused_bf16" else ", float32" if name == "fused_f32" else "")
                for name in names], seconds, color=colours)  # fmt: skip
    for place, value in enumerate(seconds):
        panel.text(value * 1.05, place, f"{value:.2f} s", va="center", fontsize=8)
    for (label, value), style in zip(limits.items(), ("--", ":"), strict=True):
        panel.axvline(value, color="#a83232", linestyle=style, linewidth=1, label=f"matrix products alone, {label}")
    panel.set(xscale="log", xlabel="seconds for 190,532 windows", xlim=(0.1, 3 * max(seconds)))
    panel.legend(loc="lower right", fontsize=8)
    return save(figure, IMAGES / "bench_windows.png")


def main():
    """Measure and print."""
    chosen = options(__doc__, repeats=5)
    net, card = shipped_net()
    exposure = bench_exposure()
    variants = ways(exposure.pixels, net, float(logit(card.threshold))) | cell_ways(exposure)
    for name in ("fused_f32", "fused_bf16", "dask", *CELLS):
        variants[name]()  # compiles, starts threads
    timed = interleaved(variants, chosen.repeats)
    errors, medians = check({name: timed.results[name] for name in LABELS}), timed.medians
    rates, flops = gemm_rates(net), chain_flops(net) * len(timed.results["plain"])
    limits = {"float32": flops / rates.f32, "bfloat16": flops / rates.bf16}
    rows = [
        (LABELS[name], f"{medians[name]:.2f}", f"{timed.ratio('plain', name):.1f}", f"{errors[name]:.0e}")
        for name in LABELS
    ]
    rows += [(CELLS[name], f"{medians[name]:.2f}", f"{timed.ratio('plain', name):.1f}", "") for name in CELLS]
    rows += [
        (f"limit: matrix products alone, {kind}", f"{limit:.2f}", f"{medians['plain'] / limit:.1f}", "")
        for kind, limit in limits.items()
    ]
    over = ", ".join(
        f"{medians[name] / limits[kind]:.2f} times the {kind} limit"
        for name, kind in (("fused_f32", "float32"), ("fused_bf16", "bfloat16"))
    )
    text = (
        f"One 3080 x 3072 px image, {len(timed.results['plain']):,} windows or {len(timed.results['cells_f32']):,} "
        f"cells; median of {chosen.repeats} rounds in which all take turns. {machine(chosen.threads)}.\n\n"
        + table(("way", "s", "plain way / this", "max. difference in probability"), rows)
        + f"\n\nOurs takes {over}. Rates of matrix products: float32 {rates.onednn_f32 / 1e9:.0f} GFLOP/s (oneDNN; "
        f"torch's default {rates.default_f32 / 1e9:.0f}), bfloat16 {rates.bf16 / 1e9:.0f}. bfloat16's difference is "
        "that of windows below the threshold; the others must agree to "
        f"{TOLERANCE:.0e}, or the benchmark fails.\n\n"
        "![Seconds of each way](../images/bench_windows.png)"
    )
    if chosen.draw:
        draw(medians, limits)
    show(text, weights=("detect/basic_cnn", "detect/streak_net"))


if __name__ == "__main__":
    main()

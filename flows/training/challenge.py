"""Training exposures from the LLNL challenge, in place of simulated ones like them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from flows.inputs.npz_llnl import is_truth
from flows.inputs.sources import list_sources
from flows.inputs.truth_llnl import read_llnl_truth
from flows.results.evaluation.published import oracle_snrs, with_measured_snr
from flows.results.evaluation.truth_table import truth_of
from flows.runtime.parallel import map_in_processes
from flows.runtime.settings import require_there
from flows.storage.digest import digest
from flows.storage.zarr_tiles import TileStore
from flows.training.examples import Example, Wanted, as_tiles
from schemas.errors import Misconfigured
from schemas.settings import Settings
from schemas.truth import TRUTH

LIKE = "llnl"
"""Preset of the simulated exposures that are replaced."""

CHALLENGE = "challenge"
"""Name of these exposures in plans and figures."""


def challenge_examples(raw: Path, work: Path, workers: int) -> list[Example]:
    """Cut the challenge's exposures into tiles, and measure the S/N that its truth lacks from their pixels.

    Parameters
    ----------
    raw
        Folder of ``asteroid_difference_images_<i>.npz`` and ``asteroid_injected_information_<i>.npz``.
    work
        Folder for tiles, which are reused if the files have not changed.
    workers
        Number of processes.

    Returns
    -------
    list
        Exposures with asteroids in their truth, by visit.

    Raises
    ------
    BadInput
        A file cannot be read.
    Misconfigured
        No exposure has a truth.
    """
    require_there(raw, "the folder of the challenge's files with --challenge.")
    files = sorted(path for path in raw.rglob("*.npz") if path.is_file())
    tables = [read_llnl_truth(str(path)) for path in files if is_truth(str(path))]
    truth = pa.concat_tables([TRUTH.schema.empty_table(), *tables])
    known = set(truth["visit"].to_pylist())
    state = {str(path.resolve()): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}
    sources = list_sources([str(raw)], Settings()) if known else ()
    tiled = as_tiles(work / f"{CHALLENGE}-{digest(state)[:12]}", sources, truth, workers, CHALLENGE)
    found = [example for example in tiled if len(example.truth)]
    if not found:
        raise Misconfigured(
            "no_challenge",
            str(raw),
            "holds no stack of the LLNL challenge with asteroids in its truth.",
            "name the folder of its asteroid_difference_images_<i>.npz and asteroid_injected_information_<i>.npz.",
        )
    return list(map_in_processes(_measured, found, workers))


def share_challenge(
    sets: Mapping[str, Sequence[Wanted]], examples: Sequence[Example], seed: int
) -> tuple[dict[str, tuple[Wanted, ...]], dict[str, list[Example]]]:
    """Replace simulated exposures like the challenge's by the challenge's own.

    Parameters
    ----------
    sets
        Wanted exposures of each set.
    examples
        Exposures of the challenge; each is used in only one set.
    seed
        Seed of the assignment.

    Returns
    -------
    wanted
        The same sets with `CHALLENGE` in place of exposures like the challenge's, as the last part.
    shares
        Exposures of the challenge for each set, in proportion to the replaced numbers.

    Raises
    ------
    Misconfigured
        There are fewer exposures than sets that need some.
    """
    weight = {name: sum(part.count for part in parts if part.preset == LIKE) for name, parts in sets.items()}
    asking = [name for name, count in weight.items() if count]
    if len(examples) < len(asking):
        raise Misconfigured(
            "few_exposures",
            "--challenge",
            f"{len(examples)} exposures cannot be shared among {len(asking)} sets ({', '.join(asking)}).",
            "give more stacks.",
        )
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    # Each set gets one exposure, and the rest are divided by weight.
    upto = np.cumsum([weight[name] for name in asking]) / max(sum(weight.values()), 1)
    ends = np.arange(1, len(asking) + 1) + np.rint(upto * (len(examples) - len(asking))).astype(int)
    shares: dict[str, list[Example]] = {name: [] for name in sets}
    for name, start, end in zip(asking, [0, *ends[:-1]], ends, strict=True):
        shares[name] = [examples[n] for n in sorted(order[start:end])]
    wanted = {
        name: (
            *(part for part in parts if part.preset != LIKE),
            *([Wanted(CHALLENGE, len(shares[name]))] if shares[name] else []),
        )
        for name, parts in sets.items()
    }
    return wanted, shares


def _measured(example: Example) -> Example:
    """Return an example with S/N and visibility of its streaks measured from the pixels."""
    store = TileStore.open(example.store)
    truth = truth_of(str(example.store), example.truth, with_snr=False)
    truth = with_measured_snr(truth, oracle_snrs(store, truth))
    table = example.truth
    for name, values in (("snr", truth.snr), ("visible", truth.visible)):
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), pa.array(values))
    return replace(example, truth=table)

"""Whole simulated night with its truth, in the file format of the survey."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from ctypes import CDLL
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows.simulation.camera import detector_count
from flows.simulation.conditions import Conditions, conditions_of
from flows.simulation.exposure import science_and_template, simulate_exposure
from flows.simulation.files import stack_visit, write_llnl, write_rubin, write_ztf
from flows.simulation.galaxies import galaxies_on
from flows.simulation.presets import Preset
from flows.simulation.star_colours import RUBIN_BANDS, star_colours
from flows.simulation.stars import stars_on
from flows.storage.folder import writable_folder
from flows.storage.writing import BEGINS_AGAIN, replacing, writing
from schemas.errors import Misconfigured, read_failure
from schemas.truth import TRUTH_OBJECT

Result = TypeVar("Result")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from malloc.h

TRUTH_FILE = "truth.parquet"
"""Sources on the images."""

OBJECTS = "truth_objects.parquet"
"""Stars and galaxies on the science images of nights in several bands."""


@dataclass(frozen=True)
class SimulatedNight:
    """Night to simulate, and its folder.

    Attributes
    ----------
    preset, seed
        Survey; seed, which determines every byte.
    visits, detectors
        Numbers of visits and detectors: visits 0..visits - 1 of detectors 0..detectors - 1.
    folder
        Output folder.
    science, template
        Whether to write the science and the template images too.
    form
        Format of the files: that of the survey, or of the LLNL challenge (see `write_llnl`).
    """

    preset: Preset
    seed: int
    visits: int
    detectors: int
    folder: Path
    science: bool = True
    template: bool = False
    form: Literal["fits", "npz"] = "fits"


@dataclass(frozen=True)
class Written:
    """Files of a simulated night: difference images, all files, truth table; numbers of images and streaks."""

    exposures: tuple[Path, ...]
    files: tuple[Path, ...]
    truth: Path
    images: int
    streaks: int


def simulate_night(
    night: SimulatedNight, workers: int = 1, progress: Callable[[int], None] = lambda done: None
) -> Written:
    """Simulate and write a night.

    Parameters
    ----------
    night
        Night to simulate.
    workers
        Number of processes; the files do not depend on it.
    progress
        Receives the number of exposures done.

    Raises
    ------
    Misconfigured
        Nothing to simulate, too many detectors for the camera, a folder that cannot be written or has another
        simulated night, or a missing package for subtraction.
    Retryable
        The disk is full.
    """
    if min(night.visits, night.detectors) < 1:
        raise Misconfigured(
            "nothing_to_simulate",
            "--visits, --detectors",
            f"{night.visits} visits of {night.detectors} detectors make no exposure.",
            "give at least 1 of each.",
        )
    if night.detectors > detector_count(night.preset):
        raise Misconfigured(
            "no_such_detector",
            "--detectors",
            f"{night.detectors} are more than the {detector_count(night.preset)} of the {night.preset.name} camera.",
            "ask for fewer.",
        )
    if night.preset.subtract == "sfft":
        from kernels.subtraction.sfft import require_sfft  # slow to import: SciPy's signals

        require_sfft()
    writable_folder(night.folder)
    cases = [(night, visit, detector) for visit in range(night.visits) for detector in range(night.detectors)]
    _require_same_night(night, cases)
    with writing(night.folder, BEGINS_AGAIN):
        return _simulated(night, cases, workers, progress)


def _simulated(night: SimulatedNight, cases: "list[Case]", workers: int, progress: Callable[[int], None]) -> Written:
    target = night.folder / TRUTH_FILE
    target.unlink(missing_ok=True)  # the folder's earlier night is being overwritten
    paths: list[tuple[Path, ...]] = []
    tables: list[pa.Table] = []
    for files, truth in _written(night, cases, workers):
        paths.append(files)
        tables.append(truth)
        progress(len(paths))
    table = pa.concat_tables(tables)
    if night.preset.field_bands:
        pq.write_table(night_objects(night.preset, night.seed, night.visits, night.detectors), night.folder / OBJECTS)
    with replacing(target) as staged:  # last: its presence marks a complete night
        pq.write_table(table, staged)
    streaks = sum(kind == "streak" for kind in table["kind"].to_pylist())
    everything = tuple(path for files in paths for path in files)
    return Written(tuple(files[0] for files in paths if files), everything, target, len(cases), streaks)


Case = tuple[SimulatedNight, int, int]


def _require_same_night(night: SimulatedNight, cases: list[Case]) -> None:
    """Refuse a folder with a truth table of other images: they would stay without their truth."""
    if not (path := night.folder / TRUTH_FILE).exists():
        return
    try:
        table = pq.read_table(path, columns=["visit", "detector"])
    except (OSError, pa.ArrowException) as error:
        problem = f"cannot be read as a table of a simulated night: {read_failure(error)}."
        raise Misconfigured("other_night", str(path), problem, "give another folder, or remove the file.") from error
    there = set(zip(table["visit"].to_pylist(), table["detector"].to_pylist(), strict=True))
    if night.form == "fits":
        ours = {(conditions_of(night.preset, night.seed, *at).visit, at[1]) for _, *at in cases}
    else:
        ours = {(stack_visit(place), 0) for place in range(len(cases))}
    if not there <= ours:
        raise Misconfigured(
            "other_night",
            "--out",
            f"{night.folder} holds another simulated night: its {path.name} tells of {len(there - ours)} images that "
            "are not of this one.",
            "give another folder, or remove that one.",
        )


def _written(night: SimulatedNight, cases: list[Case], workers: int) -> Iterator[tuple[tuple[Path, ...], pa.Table]]:
    if night.form == "fits":
        return _run(_write_fits, cases, workers)
    return write_llnl(_run(_pixels, cases, workers), len(cases), night.folder)


def _run(task: Callable[[Case], Result], cases: list[Case], workers: int) -> Iterator[Result]:
    if workers <= 1 or len(cases) == 1:
        yield from map(task, cases)
        return
    # Spawned rather than forked: the caller may hold threads and locks.
    with ProcessPoolExecutor(min(workers, len(cases)), get_context("spawn"), initializer=_keep_memory) as pool:
        yield from pool.map(task, cases)


def _keep_memory() -> None:
    """Keep memory of planes for the next ones, if the C library can: fetching it again page by page is slow."""
    libc = CDLL(None)
    if hasattr(libc, "mallopt") and libc.mallopt(_M_MMAP_THRESHOLD, 2**26):
        libc.mallopt(_M_TRIM_THRESHOLD, 2**27)


def _write_fits(case: Case) -> tuple[tuple[Path, ...], pa.Table]:
    night, visit, detector = case
    exposure = simulate_exposure(night.preset, night.seed, visit, detector)
    wanted = {"science": night.science, "template": night.template}
    planes = science_and_template(exposure) if any(wanted.values()) else {}
    planes = {name: pixels for name, pixels in planes.items() if wanted[name]}
    write = write_ztf if night.preset.layout == "ztf" else write_rubin
    return write(exposure, night.folder, planes), exposure.truth


def _pixels(case: Case) -> tuple[NDArray[np.float32], pa.Table]:
    night, visit, detector = case
    exposure = simulate_exposure(night.preset, night.seed, visit, detector)
    return exposure.difference, exposure.truth


def night_objects(preset: Preset, seed: int, visits: int, detectors: int) -> pa.Table:
    """Return a table with the schema `TRUTH_OBJECT`: stars and galaxies on the image of each field and detector.

    Parameters
    ----------
    preset, seed, visits, detectors
        As in `flows.simulation.night.SimulatedNight`; the preset must have ``field_bands``.
    """
    starts = range(0, visits, preset.visits_per_field)
    tables = [_field(conditions_of(preset, seed, start, one)) for start in starts for one in range(detectors)]
    return pa.concat_tables(tables)


def _field(first: Conditions) -> pa.Table:
    stars, galaxies = stars_on(first, first), galaxies_on(first, first)
    colours = star_colours(len(stars.x), first.field_stream("colours"))
    ra, dec = first.to_sky(stars.x, stars.y)
    here: dict[str, Any] = {
        "kind": "star",
        "ra": ra,
        "dec": dec,
        "halfLightRadius": 0.0,
        "axisRatio": 1.0,
        "positionAngle": 0.0,
    }
    magnitude = stars.magnitude - colours[first.band]
    here |= {"sersic": 0.0} | {f"{band}_mag": magnitude + colours[band] for band in RUBIN_BANDS}
    there: dict[str, Any] = {
        "kind": "galaxy",
        "ra": galaxies.ra,
        "dec": galaxies.dec,
        "halfLightRadius": galaxies.half_light,
    }
    there |= {"axisRatio": galaxies.axis_ratio, "positionAngle": galaxies.angle, "sersic": galaxies.sersic}
    there |= {f"{band}_mag": galaxies.magnitudes[band] for band in RUBIN_BANDS}
    ny, nx = first.preset.shape
    inside = [(one.x >= 0) & (one.x <= nx - 1) & (one.y >= 0) & (one.y <= ny - 1) for one in (stars, galaxies)]
    columns = {
        field.name: np.concatenate(
            [
                np.broadcast_to(part.get(field.name, first.detector), on.shape)[on]
                for part, on in zip((here, there), inside, strict=True)
            ]
        )
        for field in TRUTH_OBJECT.schema
    }
    return pa.table({name: values.astype(str) if name == "kind" else values for name, values in columns.items()}).cast(
        TRUTH_OBJECT.schema
    )

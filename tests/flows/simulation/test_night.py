import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.simulation import night as module
from flows.simulation.canvas import blank_canvas, source_row, stamp_footprint, truth_table, visible_share
from flows.simulation.conditions import conditions_of
from flows.simulation.exposure import science_and_template, simulate_exposure
from flows.simulation.night import SimulatedNight, _run, night_objects, simulate_night
from flows.simulation.presets import find_preset
from flows.simulation.psf import PsfStamp
from flows.simulation.stars import Stars
from schemas.errors import Misconfigured, Retryable
from schemas.pixels import MaskPlane
from schemas.truth import TRUTH, TRUTH_OBJECT
from tests.support.summary import summary


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(("preset", "form"), [("ztf", "fits"), ("rubin", "fits"), ("llnl", "npz")])
def test_same_seed_same_bytes_whoever_does_the_work(preset: str, form, tmp_path: Path) -> None:
    small = find_preset(preset, streaks=3, shape=(128, 150))
    runs = {}
    for name, seed, workers in (("one", 5, 1), ("two", 5, 2 if preset == "ztf" else 1), ("other", 6, 1)):
        night = SimulatedNight(
            small, seed, 2, 2, tmp_path / name, science=preset == "ztf", template=preset == "ztf", form=form
        )
        simulate_night(night, workers)
        runs[name] = digests(tmp_path / name)
    assert runs["one"] == runs["two"]
    assert not set(runs["one"].values()) & set(runs["other"].values())


@pytest.mark.parametrize(("science", "template"), [(True, False), (False, True), (False, False)])
def test_each_plane_is_written_when_asked_for(tmp_path: Path, science, template) -> None:
    night = SimulatedNight(
        find_preset("ztf", streaks=1, shape=(128, 150)), 1, 1, 1, tmp_path, science=science, template=template
    )
    simulate_night(night)
    for product, wanted in (("sciimg", science), ("refimg", template), ("scimrefdiffimg", True)):
        assert bool(list(tmp_path.glob(f"*_{product}.fits*"))) == wanted


def test_what_was_written_is_told(tmp_path: Path) -> None:
    seen: list[int] = []
    night = SimulatedNight(find_preset("ztf", streaks=4, shape=(128, 150)), 1, 3, 2, tmp_path)
    written = simulate_night(night, progress=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert len(written.exposures) == written.images == 6
    assert all(path.is_file() for path in (*written.files, written.truth))
    truth = pq.read_table(written.truth)
    TRUTH.check(truth)
    assert written.streaks == truth["kind"].to_pylist().count("streak") == 24
    assert len(set(truth["visit"].to_pylist())) == 3
    assert np.array_equal(np.unique(truth["detector"]), [0, 1])


@pytest.mark.parametrize(("visits", "detectors", "code"), [(0, 1, "nothing_to_simulate"), (1, 65, "no_such_detector")])
def test_a_night_that_cannot_be(visits: int, detectors: int, code: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        simulate_night(SimulatedNight(find_preset("ztf"), 1, visits, detectors, tmp_path / "out"))
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "sky").write_text("notes")
    night = SimulatedNight(find_preset("ztf", 1, (200, 200)), 1, 1, 1, tmp_path / "sky")
    with pytest.raises(Misconfigured, match=r"sky is a file. To fix, choose another --out"):
        simulate_night(night)


SMALL = find_preset("ztf", shape=(100, 120))


def test_visible_share_counts_usable_pixels_on_the_image() -> None:
    mask = np.zeros((20, 20), np.uint16)
    stamp = PsfStamp(np.full((10, 10), 0.01), 5, 15)  # half of it beyond the right border
    assert visible_share(mask, stamp_footprint(stamp, mask.shape)) == pytest.approx(0.5)
    mask[5:10] = MaskPlane.SAT
    assert visible_share(mask, stamp_footprint(stamp, mask.shape)) == pytest.approx(0.25)
    mask[:] = MaskPlane.DETECTED | MaskPlane.STREAK  # information only
    assert visible_share(mask, stamp_footprint(stamp, mask.shape)) == pytest.approx(0.5)


def test_a_source_beyond_the_image_is_not_visible() -> None:
    outside = PsfStamp(np.ones((3, 3)), -10, 50)
    assert visible_share(np.zeros((20, 20), np.uint16), stamp_footprint(outside, (20, 20))) == 0


def test_table_has_the_schema_also_without_rows() -> None:
    conditions = conditions_of(SMALL, 1, 0, 0)
    canvas = blank_canvas(SMALL.shape)
    TRUTH.check(truth_table(canvas))
    row = source_row("streak", "a", conditions, (50.0, 60.0), 100.0, 9.0, (12.0, 200.0))
    canvas.truth.append((row, stamp_footprint(conditions.psf.trail(50.0, 60.0, 12.0, 20.0), SMALL.shape)))
    table = truth_table(canvas)
    TRUTH.check(table)
    (row,) = table.to_pylist()
    assert row["angle_deg"] == pytest.approx(20)
    assert (row["visit"], row["detector"]) == (conditions.visit, 0)
    assert row["box_xmax"] - row["box_xmin"] > 12 * np.cos(np.deg2rad(20))


BANDS = ("g", "r")
PRESET = find_preset("ztf", 0, (300, 320), BANDS)


def test_what_it_says_is_on_the_science_images_of_all_bands():
    truth = night_objects(PRESET, 3, 2, 1)
    TRUTH_OBJECT.check(truth)
    assert set(truth["kind"].to_pylist()) == {"star", "galaxy"}
    kind = np.array(truth["kind"].to_pylist())
    assert not truth["halfLightRadius"].to_numpy()[kind == "star"].any()
    for visit, band in enumerate(BANDS):
        exposure = simulate_exposure(PRESET, 3, visit, 0)
        assert exposure.conditions.band == band
        image = science_and_template(exposure)["template"]  # the science image without what varies
        magnitude = truth[f"{band}_mag"].to_numpy()
        bright = (magnitude < 18) & (magnitude > 15)
        stars = (kind == "star")[bright]
        x, y = exposure.conditions.to_pixels(truth["ra"].to_numpy()[bright], truth["dec"].to_numpy()[bright])
        on = (x > 3) & (x < 316) & (y > 3) & (y < 296)
        light = image[np.rint(y[on]).astype(int), np.rint(x[on]).astype(int)] / exposure.conditions.noise.sigma
        seen = np.isfinite(light)
        assert (seen & stars[on]).sum() > 5
        assert (light[seen & stars[on]] > 10).all()
        assert (light[seen & ~stars[on]] > 1).all()


def test_each_field_and_detector_has_its_own():
    truth = night_objects(PRESET, 3, 7, 2)  # 6 visits of a field in 2 bands
    assert set(truth["detector"].to_pylist()) == {0, 1}
    assert len(truth) > 1.5 * len(night_objects(PRESET, 3, 6, 2))


def test_a_seed_stands_for_the_objects_of_its_night() -> None:
    truth = night_objects(find_preset("rubin", 0, (200, 260), ("u", "y")), 3, 7, 2)
    found = [summary(truth[name].to_numpy()) for name in truth.column_names if name != "kind"]
    np.testing.assert_allclose(
        found,
        [
            [41, 41, 0, 41, 1478],
            [60, 13736.6127, 0, 3316087.11, 371048.438],
            [60, 738.925148, 0, 13917.9878, 30584.5799],
            [60, 1582.40465, 0, 41826.7275, 48153.8135],
            [60, 1482.54017, 0, 36709.0657, 45294.4055],
            [60, 1433.99514, 0, 34356.3588, 43946.6848],
            [60, 1407.59918, 0, 33135.267, 43292.8931],
            [60, 1393.12694, 0, 32481.5437, 42926.2668],
            [60, 1385.26242, 0, 32129.6591, 42720.5188],
            [35, 28.3060388, 0, 42.2574823, 968.381753],
            [60, 46.5374832, 0, 39.6609062, 1362.91873],
            [35, 3075.94489, 0, 354378.036, 113210.204],
            [35, 74, 0, 230, 2682],
        ],
        rtol=1e-6,
    )


def test_an_object_is_told_of_if_its_centre_is_between_the_outermost_pixel_centres(monkeypatch) -> None:
    """The image has 320 columns and 300 rows."""
    x = np.array([0.0, -0.01, 319.0, 319.01, 5.0, 5.0, 5.0, 5.0, 310.0])
    y = np.array([0.0, 5.0, 299.0, 5.0, -0.01, 299.01, 299.0, 310.0, 5.0])
    monkeypatch.setattr(module, "stars_on", lambda *visits: Stars(x, y, np.arange(9.0), x))
    monkeypatch.setattr(module, "star_colours", lambda number, rng: {band: np.zeros(number) for band in "ugrizy"})
    truth = night_objects(PRESET, 3, 1, 1)
    stars = np.array(truth["kind"].to_pylist()) == "star"
    assert truth["g_mag"].to_numpy()[stars].tolist() == [0, 2, 6, 8]
    assert set(truth["axisRatio"].to_numpy()[stars]) == {1}
    assert not truth["positionAngle"].to_numpy()[stars].any()
    assert not truth["sersic"].to_numpy()[stars].any()


def test_as_many_detectors_as_the_camera_has_can_be_asked_for(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "detector_count", lambda preset: 1)
    night = SimulatedNight(find_preset("ztf", streaks=1, shape=(64, 70)), 1, 1, 1, tmp_path)
    assert (night.science, night.template, night.form) == (True, False, "fits")
    assert simulate_night(night).images == 1
    with pytest.raises(Misconfigured) as caught:
        simulate_night(SimulatedNight(find_preset("ztf"), 1, 1, 0, tmp_path))
    assert caught.value.code == "nothing_to_simulate"


class Pool:
    """Stands for the executor."""

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *args) -> None:
        pass

    map = staticmethod(map)


@pytest.mark.parametrize(
    ("workers", "count", "processes"),
    [(0, 3, []), (1, 3, []), (2, 1, []), (2, 2, [2]), (2, 3, [2]), (3, 2, [2]), (9, 4, [4])],
)
def test_processes_are_started_for_several_cases_and_no_more_than_those(monkeypatch, workers, count, processes) -> None:
    asked = []
    monkeypatch.setattr(module, "ProcessPoolExecutor", lambda workers, *_, **__: asked.append(workers) or Pool())
    cases = [(None, visit, 0) for visit in range(count)]
    assert list(_run(lambda case: case[1], cases, workers)) == list(range(count))
    assert asked == processes


@pytest.mark.parametrize(
    ("library", "told"), [(1, [(-3, 2**26), (-1, 2**27)]), (0, [(-3, 2**26)]), (None, [])], ids=["yes", "no", "other"]
)
def test_processes_keep_the_memory_of_planes_where_the_library_can(monkeypatch, library, told) -> None:
    """Told to trim late alone, it would never keep what a plane has left: the other threshold stays as it is then."""
    asked = []
    known = {} if library is None else {"mallopt": lambda *given: asked.append(given) or library}
    monkeypatch.setattr(module, "CDLL", lambda name: SimpleNamespace(**known))
    module._keep_memory()
    assert asked == told


def test_a_night_that_is_not_subtracted_imports_nothing_of_subtraction() -> None:
    code = "import sys, flows.simulation.night; print({'numba', 'scipy.signal', 'scipy.stats'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


@pytest.mark.parametrize("form", ["fits", "npz"])
def test_a_folder_with_another_night_is_left_alone(tmp_path: Path, form) -> None:
    small = find_preset("ztf", streaks=2, shape=(128, 150))
    night = SimulatedNight(small, 3, 2, 1, tmp_path, science=False, form=form)
    simulate_night(night)
    before = digests(tmp_path)
    simulate_night(night)
    assert digests(tmp_path) == before
    other = replace(night, seed=4) if form == "fits" else replace(night, visits=1)
    with pytest.raises(Misconfigured, match=r"holds another simulated night: its truth\.parquet tells of"):
        simulate_night(other)
    assert digests(tmp_path) == before
    simulate_night(replace(night, visits=3))  # the same, and one more


def test_images_that_are_overwritten_have_no_truth_until_all_are_there(tmp_path: Path, monkeypatch) -> None:
    night = SimulatedNight(find_preset("ztf", streaks=2, shape=(128, 150)), 3, 2, 1, tmp_path, science=False)
    simulate_night(night)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_written", lambda *_: iter([1 / 0]))
        with pytest.raises(ZeroDivisionError):
            simulate_night(replace(night, preset=replace(night.preset, streaks=5)))
    assert not (tmp_path / "truth.parquet").exists()
    (tmp_path / "truth.parquet").write_bytes(b"PAR1")
    with pytest.raises(Misconfigured, match=r"truth\.parquet: cannot be read as a table of a simulated night"):
        simulate_night(night)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch) -> None:
    def full(*_) -> None:
        raise OSError("Not enough space on disk: requested 9, available 2. 9 requested and 2 written")  # astropy's

    monkeypatch.setattr(module, "_write_fits", full)
    with pytest.raises(Retryable, match=f"{tmp_path}: could not be written: No space left on device") as error:
        simulate_night(SimulatedNight(find_preset("ztf", streaks=2, shape=(128, 150)), 3, 1, 1, tmp_path))
    assert error.value.code == "disk_full"

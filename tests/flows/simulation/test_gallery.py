from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from flows.simulation import gallery as module
from flows.simulation.canvas import Canvas, blank_canvas
from flows.simulation.defects import DISC_STEPS
from flows.simulation.exposure import SimulatedExposure, draw_layers, simulate_exposure
from flows.simulation.gallery import _show, features, gallery, gallery_cutout
from flows.simulation.presets import find_preset
from flows.simulation.stars import Stars
from schemas.pixels import MaskPlane


def test_cutout_reaches_beyond_the_image() -> None:
    image = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    assert gallery_cutout(image, 50.2, 40.0)[32, 32] == image[40, 50]
    corner = gallery_cutout(image, 0.0, 0.0)
    assert corner.shape == (64, 64)
    assert np.isnan(corner[:32]).all()
    assert corner[32, 32] == 0


def test_features_are_on_the_image_and_of_many_kinds() -> None:
    exposure = simulate_exposure(find_preset("ztf", shape=(1400, 1400)), 7, 0, 0)
    found = list(features(exposure, draw_layers(exposure.conditions, exposure.stars)))
    names = {name for name, _, _ in found}
    assert {"long trail", "variable", "star", "saturated star", "cosmic ray"} <= names
    ny, nx = exposure.difference.shape
    assert all(-100 < x < nx + 100 and -100 < y < ny + 100 for _, x, y in found)


@pytest.mark.slow
def test_picture_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EXPOSURES", 2)
    quarter = find_preset("ztf", shape=(1500, 1500))
    monkeypatch.setattr(module, "simulate_exposure", lambda preset, *which: simulate_exposure(quarter, *which))
    path = tmp_path / "images" / "quadrant.png"
    gallery("ztf", 7, path)
    pixels = imread(path)
    assert pixels.shape[0] > 400
    assert pixels.std() > 0.05
    assert path.stat().st_size < 400_000


SMALL = replace(find_preset("ztf", streaks=0, shape=(150, 250)), saturated_magnitude=0.0)


@pytest.fixture(scope="module")
def plain() -> SimulatedExposure:
    return simulate_exposure(SMALL, 1, 0, 0)


def places(
    plain: SimulatedExposure, rows: list[dict] | None = None, stars: Stars | None = None, canvas: Canvas | None = None
) -> dict[str, list[tuple[float, float]]]:
    """Return the places of an image with nothing but what is given on it, by what is there."""
    columns = [plain.truth.schema.field(name) for name in ("kind", "snr", "visible", "length_px", "x", "y")]
    truth = pa.Table.from_pylist(rows or [], schema=pa.schema(columns))
    exposure = replace(plain, truth=truth, stars=stars or Stars(*(np.array([one]) for one in (-9.0, -9.0, 99.0, 0.0))))
    found: dict[str, list[tuple[float, float]]] = {}
    for name, x, y in features(exposure, canvas or blank_canvas(SMALL.shape)):
        found.setdefault(name, []).append((x, y))
    return found


def source(kind: str, snr: float, x: float, length: float = 5.0, visible: float = 1.0) -> dict:
    return {"kind": kind, "snr": snr, "visible": visible, "length_px": length, "x": x, "y": 2 * x}


def test_trails_and_variables_are_shown_by_their_signal_to_noise(plain: SimulatedExposure) -> None:
    rows = [
        source("streak", 15.0, 1, 90.0), source("streak", 15.1, 2, 30.0), source("streak", 40.0, 3, 4.0),
        source("streak", 40.0, 4, 8.0), source("streak", 99.0, 5, 99.0, 0.98), source("streak", 99.0, 6, 1.0, 0.98),
        source("streak", 6.0, 7), source("streak", 9.0, 8), source("streak", 8.9, 9), source("point", 20.0, 10),
        source("point", 20.1, 11, visible=0.981), source("point", -20.0, 12), source("point", -20.1, 13),
        source("satellite", 3.0, 14, visible=0.1), source("point", 50.0, 15), source("streak", -30.0, 16),
    ]  # fmt: skip
    assert places(plain, rows) == {
        "long trail": [(2, 4)], "short trail": [(3, 6)], "faint trail": [(9, 18)], "variable": [(11, 22)],
        "fading": [(13, 26)], "satellite": [(14, 28)],
    }  # fmt: skip
    assert places(plain, [source("streak", 6.1, 7)]) == {"faint trail": [(7, 14)]}
    assert places(plain) == {}


def test_stars_are_shown_by_their_brightness_if_they_are_within_the_image(plain: SimulatedExposure) -> None:
    """Nearer than 0.4 mag to 2.5 and 0.3 mag below saturation and 0.5 and 2.5 above; saturation is at 0."""

    def shown(x: float, y: float, magnitude: float) -> dict[str, list[tuple[float, float]]]:
        others = np.array([-9.0, -9.0, 99.0, 0.0])
        return places(plain, stars=Stars(*np.stack([others, [x, y, magnitude, 0.0]], axis=1)))

    for name, magnitude in (("star", 2.5), ("bright star", 0.3), ("saturated star", -0.5), ("bleed", -2.5)):
        here = {name: [(100.5, 60.5)]}
        for away in (0.0, 0.39, -0.39):
            if name != "bright star" or away > -0.39:
                assert name in shown(100.5, 60.5, magnitude + away)
        assert shown(100.5, 60.5, magnitude) == here
        assert name not in shown(100.5, 60.5, magnitude + 0.41)
        assert name not in shown(100.5, 60.5, magnitude - 0.41)
    assert shown(100.0, 60.0, -0.9) == {}  # exactly 0.4 from -0.5
    for x, y, there in (
        (32.0, 60, False), (32.1, 60, True), (218.0, 60, False), (217.9, 60, True), (100, 32.0, False),
        (100, 32.1, True), (100, 118.0, False), (100, 117.9, True), (20, 20, False), (230, 130, False),
    ):  # fmt: skip
        assert bool(shown(x, y, 2.5)) == there
    assert shown(100.0, 60.0, -DISC_STEPS) == {}
    assert shown(100.0, 60.0, -DISC_STEPS - 0.01) == {"edge of a disc": [(160, 60)]}


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (1, None), (2, "cosmic ray"), (8, "cosmic ray"), (9, None), (14, None), (15, "cosmic ray track"),
        (60, "cosmic ray track"), (61, None), (99, None), (100, "hot column"), (140, "hot column"),
    ],
)  # fmt: skip
def test_sharp_features_are_shown_by_their_size(plain: SimulatedExposure, size: int, name: str | None) -> None:
    canvas = blank_canvas(SMALL.shape)
    canvas.sharp[3 : 3 + size, 40] = 5.0
    canvas.sharp[3 : 3 + size, 60] = -5.0
    assert places(plain, canvas=canvas) == ({name: [(40, 3 + (size - 1) / 2)]} if name else {})
    canvas.mask[:, 40] = MaskPlane.BAD
    assert places(plain, canvas=canvas) == {}


def test_pixels_that_touch_at_a_corner_are_one_feature_and_a_masked_one_is_shown_too(plain: SimulatedExposure) -> None:
    canvas = blank_canvas(SMALL.shape)
    canvas.sharp[[10, 11], [20, 21]] = 1.0
    canvas.mask[30, 50:52] = canvas.mask[31, 40] = MaskPlane.CR
    canvas.mask[5, 5] = MaskPlane.BAD
    assert places(plain, canvas=canvas) == {"cosmic ray": [(20.5, 10.5)], "masked cosmic ray": [(50, 30)]}


def test_pixels_are_shown_from_4_sigma_below_to_8_above_with_the_first_row_at_the_bottom() -> None:
    axes = Figure().subplots()
    _show(axes, np.zeros((4, 5), np.float32), 2.5, "name")
    (image,) = axes.images
    assert image.get_clim() == (-10, 20)
    assert image.origin == "lower"
    assert not axes.axison
    assert (axes.get_title(), axes.title.get_fontsize()) == ("name", 8)


def test_the_picture_has_an_image_of_the_first_detector_and_a_panel_for_each_kind(
    plain: SimulatedExposure, monkeypatch, tmp_path: Path
) -> None:
    """Six detectors are searched; each kind is shown from the first that has it."""
    asked, shown, saved = [], [], []
    monkeypatch.setattr(module, "simulate_exposure", lambda *which: asked.append(which) or plain)
    monkeypatch.setattr(module, "draw_layers", lambda *which: blank_canvas(SMALL.shape))
    monkeypatch.setattr(module, "features", lambda *which: [("all", 50.0, 60.0), (f"only {asked[-1][3]}", 70.0, 80.0)])
    monkeypatch.setattr(module, "_show", lambda axes, pixels, sigma, title: shown.append((axes, pixels.shape, title)))
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi, metadata: saved.append((figure, path, dpi)))
    path = tmp_path / "some" / "where" / "picture.png"
    for _ in range(2):
        gallery("ztf", 7, path)
    assert path.parent.is_dir()
    assert asked[:6] == [("ztf", 7, 0, detector) for detector in range(6)]
    assert len(asked) == 12
    names = ["all", *(f"only {detector}" for detector in range(6))]
    assert [(shape, title) for _, shape, title in shown[:8]] == [
        ((30, 50), "ztf, seed 7"), *(((64, 64), name) for name in names),
    ]  # fmt: skip
    assert len({axes for axes, _, _ in shown}) == 16
    figure, where, dpi = saved[0]
    assert where == path
    assert (figure.get_size_inches() * dpi).tolist() == [732, 444]
    panels = figure.axes[1:]
    assert [axes.axison for axes in panels] == [True] * 7 + [False] * 8  # what shows nothing has no frame
    assert panels[0].get_subplotspec().get_gridspec().get_geometry() == (5, 3)

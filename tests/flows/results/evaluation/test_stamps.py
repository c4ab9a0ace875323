from types import SimpleNamespace

import numpy as np
import pytest

from flows.inputs.ztf_packets import ZtfPacket
from flows.pipeline.packet_search import CENTRE, least_reliability
from flows.results.evaluation.stamps import (
    InjectedTrail,
    ScoredStamps,
    _draw_trail,
    group,
    score_injected,
    score_stamps,
    summarise_injected,
    summarise_stamps,
)
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import DetectedSegment
from kernels.trails.trail_model import trail_image
from schemas.exposure import PsfModel
from schemas.settings import DetectSettings, Settings
from tests.support.models import write_reliability, write_windows

PSF = moffat_mixture(2.3, 3.0)


def stamp_of(pixels, x=31.0, y=31.0, *, positive=True, known=True, rb=0.9, image=5, jd=2459000.5, science=None):
    """A packet whose alert lies at x, y of its stamp."""
    sky = np.full((63, 63), np.nan) if science is None else science
    pixels, sky = np.asarray(pixels, np.float32), np.asarray(sky, np.float32)
    distance = 0.0 if known else -999.0
    column, row = int(x + 0.5), int(y + 0.5)
    return ZtfPacket(1, image, pixels, sky, x, y, column, row, positive, jd, "g", known_distance=distance, rb=rb)


def noisy(seed, *sources):
    """63 x 63 noise with sources of (flux, x, y)."""
    pixels = np.random.default_rng(seed).normal(0, 5, (63, 63))
    for flux, x, y in sources:
        pixels += flux * trail_image((63, 63), x, y, 0.0, 0.0, PSF)
    return pixels


@pytest.fixture
def trained(tmp_path):
    """Settings with a network whose every window is a hit, and a verdict that is the S/N alone."""
    write_windows(tmp_path, threshold=1e-30)
    write_reliability(tmp_path, gain=4.0, offset=-4.0 * np.log1p(10.0), threshold=0.5)
    return Settings(detect=DetectSettings(model=str(tmp_path)))


def test_search_finds_what_shines_at_the_alert(trained):
    bright, faint, elsewhere, dark = score_stamps(
        [
            stamp_of(noisy(1, (1500, 31.4, 30.7))),
            stamp_of(noisy(2)),
            stamp_of(noisy(3, (1500, 45, 45))),
            stamp_of(noisy(4, (-1500, 31, 31))),
        ],
        trained,
    )
    assert bright.reliability > 0.9
    assert faint.reliability < 0.5
    assert elsewhere.candidates >= 1
    assert elsewhere.reliability < 0.5
    assert dark.reliability < 0.5
    assert least_reliability(trained) == 0.5


def test_a_stamp_cut_by_the_edge_is_searched_too(trained):
    right = noisy(1, (1500, 31, 31))[:, :45]
    left = noisy(1, (1500, 31, 31))[:, 20:]
    scored = score_stamps([stamp_of(right), stamp_of(left, x=11.0)], trained)
    assert [each.reliability > 0.9 for each in scored] == [True, True]


def test_a_stamp_without_pixels_does_not_pass(trained):
    blank, _ = score_stamps([stamp_of(np.full((63, 63), np.nan)), stamp_of(noisy(1))], trained)
    assert (blank.reliability, blank.candidates) == (-np.inf, 0)


def test_groups():
    pixels = np.zeros((3, 3))
    assert group(stamp_of(pixels)) == "known_asteroids"
    assert group(stamp_of(pixels, rb=0.1)) == "known_asteroids"
    assert group(stamp_of(pixels, known=False, rb=0.1)) == "low_rb"
    assert group(stamp_of(pixels, known=False, rb=0.5)) == "high_rb"
    assert group(stamp_of(pixels, positive=False)) == "fainter"


def test_counts():
    pixels = np.zeros((63, 63))
    known, low = stamp_of(pixels), stamp_of(pixels[:50], known=False, rb=0.1)
    scored = [ScoredStamps(known, r, 1) for r in (0.2, 0.6, 0.8, -np.inf)] + [
        ScoredStamps(low, r, 1) for r in (0.7, -np.inf)
    ]
    figures = summarise_stamps(scored, 0.6)
    assert (figures["stamps"], figures["truncated"]) == (6, 2)
    groups = figures["at_default"]["groups"]
    assert (groups["known_asteroids"]["found"], groups["known_asteroids"]["n"]) == (2, 4)
    assert (groups["low_rb"]["found"], groups["low_rb"]["n"]) == (1, 2)
    assert groups["fainter"]["completeness"] is None
    passed = [row["groups"]["known_asteroids"]["found"] for row in figures["thresholds"]]
    assert passed == sorted(passed, reverse=True)
    assert passed[0] == 3


def test_an_alert_is_searched_for_within_five_pixels(trained, monkeypatch):
    """Detections 5 px from the alert count, those further away do not."""
    from types import SimpleNamespace

    import pyarrow as pa

    from flows.results.evaluation import stamps as module

    seen = []

    def found(planes, exposure, settings):
        seen.append((planes, exposure))
        rows = pa.table({"x": [60.25, 55.25, 60.26], "y": [55.25, 50.25, 55.25], "reliability": [0.25, 0.5, 0.75]})
        return {module.DIA_SOURCE.name: SimpleNamespace(rows=rows)}

    monkeypatch.setattr(module, "search_stamp", found)
    (scored,) = score_stamps([stamp_of(noisy(1), x=31.25, y=31.25, jd=2459000.5)], trained)
    assert (scored.reliability, scored.candidates) == (0.5, 3)
    ((planes, exposure),) = seen
    assert set(planes) == {"difference", "mask", "science"}
    assert np.isfinite(planes["difference"]).all()
    assert exposure.midpoint_mjd_tai == pytest.approx(2459000.5 - 2400000.5 + (37 + 15) / 86400, abs=1e-9)
    assert (exposure.exposure_time_s, exposure.shape, exposure.night, exposure.detector) == (
        30,
        (111, 111),
        "20200530",
        0,
    )
    assert exposure.masked_fraction == pytest.approx(1 - 63**2 / 111**2)
    assert exposure.background == pytest.approx(np.median(noisy(1)), abs=0.5)
    assert exposure.noise == pytest.approx(5, abs=0.4)
    assert exposure.flags == ("no_wcs", "no_zero_point")
    far = [pa.table({"x": [70.0], "y": [55.0], "reliability": [0.9]})]
    monkeypatch.setattr(module, "search_stamp", lambda *_: {"dia_source": SimpleNamespace(rows=far[0])})
    assert score_stamps([stamp_of(noisy(1))], trained)[0].reliability == -np.inf


def test_thresholds_go_from_nothing_to_nearly_all():
    figures = summarise_stamps([ScoredStamps(stamp_of(np.zeros((63, 63))), 0.5, 1)], 0.5)
    levels = [row["min_reliability"] for row in figures["thresholds"]]
    assert levels == [0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    found = [row["groups"]["known_asteroids"]["found"] for row in figures["thresholds"]]
    assert found == [1] * 8 + [0] * 6
    assert figures["at_default"]["groups"]["known_asteroids"]["found"] == 1
    assert figures["low_rb"] == 0.5
    assert figures["auc_known_asteroids_against_low_rb"] is None


def test_a_threshold_is_compared_as_the_reliability_is_stored():
    """Reliabilities are float32: 0.3 as float32 is a little above 0.3, and passes."""
    scored = [ScoredStamps(stamp_of(np.zeros((63, 63))), float(np.float32(0.7)), 1)]
    row = next(row for row in summarise_stamps(scored, 0.7)["thresholds"] if row["min_reliability"] == 0.7)
    assert row["groups"]["known_asteroids"]["found"] == 1


def test_area_of_asteroids_against_doubtful_stamps():
    pixels = np.zeros((63, 63))
    known = [ScoredStamps(stamp_of(pixels), r, 1) for r in (0.9, 0.4)]
    doubtful = [ScoredStamps(stamp_of(pixels, known=False, rb=0.1), r, 1) for r in (0.5, 0.1)]
    other = [ScoredStamps(stamp_of(pixels, known=False, rb=0.5), 1.0, 1)]
    area = summarise_stamps([*known, *doubtful, *other], 0.5)["auc_known_asteroids_against_low_rb"]
    assert area["value"] == 0.75  # three of four pairs are in order
    assert area["interval"][0] < 0.75 < area["interval"][1]


def test_trails_are_put_in_beside_the_alert_at_their_signal_to_noise(trained):
    stamps = [stamp_of(noisy(seed, (1500, 31.0, 31.0)), science=noisy(seed + 50)) for seed in range(12)]
    trails = score_injected(stamps, trained, seed=3)
    assert trails == score_injected(stamps, trained, seed=3) != score_injected(stamps, trained, seed=4)
    assert len(trails) == 12
    for one in trails:
        assert 0 <= one.trail.length <= 40
        assert 5 <= one.trail.snr <= 30
        assert 0.5 <= one.visible <= 1
        nearest = one.trail.points(0.5) - CENTRE
        assert np.hypot(*nearest.T).min() > 5
        assert max(abs(one.trail.x - CENTRE), abs(one.trail.y - CENTRE)) <= 31.5
    bright = [one for one in trails if one.trail.snr >= 9]
    assert sum(one.reliability > 0.3 for one in bright) >= 0.6 * len(bright) > 2
    assert np.isfinite([value for one in trails for value in one.elsewhere]).all()


def test_a_stamp_without_room_for_a_trail_is_left_out(trained):
    narrow = stamp_of(noisy(1)[28:35, 28:35], x=3.0, y=3.0, science=noisy(5)[28:35, 28:35])
    blank = stamp_of(np.full((63, 63), np.nan))
    assert len(score_injected([narrow, blank, stamp_of(noisy(2))], trained)) == 1


def test_injected_trails_are_counted_in_bins_and_what_lies_elsewhere_is_false():
    def one(length, snr, reliability, *elsewhere, visible=1.0):
        return InjectedTrail(DetectedSegment(55.0, 30.0, length, 20.0, snr), visible, reliability, elsewhere)

    trails = [
        one(0.5, 6, 0.9),
        one(0.5, 8, 0.4, 0.8),
        one(5, 8, 0.9, 0.2),
        one(20, 20, 0.9, visible=0.95),
        one(20, 12, -np.inf, 0.6, visible=0.94),
    ]
    figures = summarise_injected(trails, 950_000, 0.5)
    assert [(row["lo"], row["found"], row["n"]) for row in figures["by_snr"]] == [
        (5, 1, 1),
        (7, 1, 2),
        (10, 1, 2),
        (7, 2, 4),
    ]
    assert [(row["found"], row["n"]) for row in figures["by_length"]] == [(0, 1), (1, 1), (1, 2)]
    assert [(row["found"], row["n"]) for row in figures["whole"]] == [(0, 1), (1, 1), (1, 1)]
    assert (figures["false"], figures["false_per_9_5_mpx"]) == (2, 20.0)
    low, high = figures["false_per_9_5_mpx_interval"]
    assert (low, high) == pytest.approx((2.42, 72.25), abs=0.01)  # Garwood: 0.2422 and 7.2247 for 2


def test_trails_that_are_put_in_lie_in_all_directions_alike():
    exposure, usable = SimpleNamespace(psf=PsfModel(fwhm_px=2.3)), np.ones((2 * int(CENTRE) + 1,) * 2, np.bool_)
    rng = np.random.default_rng(2)
    drawn = [_draw_trail(rng, usable, stamp_of(noisy(1)), exposure) for _ in range(900)]
    angles = np.array([one[0].angle for one in drawn if one is not None])
    assert len(angles) > 800
    assert (angles.min() >= 0, angles.max() < 180) == (True, True)
    assert (np.histogram(angles, 6, (0, 180))[0] > 90).all()

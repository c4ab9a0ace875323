import galsim
import numpy as np
import pyarrow as pa
import pytest

from benchmarks.detection import veto_images
from benchmarks.detection.veto_images import SIGMA, Picture, X, Y, asteroid, blank, ghost, sky
from kernels.image.noise import Noise
from kernels.measure.vetoes.evidence import (
    COUNTED,
    FLAGS,
    LEAST_EVIDENCE,
    REFUSING,
    Evidence,
    count_causes,
    ghost_evidence,
    is_line_artefact,
    refused,
    ridge_brightness,
    weigh,
)
from kernels.measure.vetoes.subtraction import lobes
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene
from schemas.dia_source import CAUSES, DetectionFlag
from schemas.dia_source import DetectionFlag as Flag
from schemas.summary import CauseCount


def weighed(picture, flux=3000.0):
    scene = picture.scene()
    return weigh(scene, picture.mask, picture.trail, flux, 0.0, lobes(scene, picture.trail, 0.0))


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("spike", DetectionFlag.SPIKE),
        ("bleed", DetectionFlag.BLEED),
        ("dipole", DetectionFlag.DIPOLE),
        ("cosmic_ray", DetectionFlag.COSMIC_RAY),
        ("hot_column", DetectionFlag.HOT_COLUMN),
        ("ghost", DetectionFlag.GHOST),
        ("edge", DetectionFlag.EDGE),
    ],
)
def test_each_cause_raises_its_flag_on_its_own_image(name, flag):
    assert weighed(getattr(veto_images, name)()).flags & flag


@pytest.mark.parametrize("length", [0.0, 8.0, 25.0, 50.0])
@pytest.mark.parametrize("angle", [0.0, 37.0, 90.0])
def test_an_asteroid_raises_none(length, angle):
    assert weighed(veto_images.asteroid(length=length, angle=angle, flux=3000.0)).flags == 0


def test_fields_are_the_causes_in_order():
    assert [name.replace("_", "") for name in Evidence._fields] == [name.lower() for name, _, _ in CAUSES]
    assert tuple(flag for _, flag, _ in CAUSES) == FLAGS


def test_a_flag_is_set_from_1_on():
    assert Evidence(0.99, 1.0, 0, 0, 0, 2.5, 0).flags == DetectionFlag.BLEED | DetectionFlag.GHOST


def test_artefacts_that_are_in_line_with_others_of_their_kind():
    for name, expected in (("spike", True), ("bleed", True), ("hot_column", True), ("asteroid", False)):
        picture = getattr(veto_images, name)()
        assert is_line_artefact(picture.scene(), picture.mask, picture.trail) is expected


def test_one_with_two_flags_counts_under_both_and_others_not_at_all():
    flags = np.array([Flag.SPIKE | Flag.BLEED, Flag.SPIKE, Flag.MASKED | Flag.SATELLITE, Flag.SPIKE, 0])
    counts = count_causes(flags, np.array([False, True, True, False, False]))
    assert counts["spike"] == CauseCount(refused=2, published=1)
    assert counts["bleed"] == CauseCount(refused=1)
    assert counts["satellite"] == CauseCount(published=1)
    assert counts["cosmic_ray"] == CauseCount()
    assert len(counts) == len(COUNTED)


def test_without_candidates_all_is_zero():
    assert set(count_causes(np.empty(0, np.int32), np.empty(0, bool)).values()) == {CauseCount()}


def table(rows):
    names = [f"{name}Evidence" for name, _, _ in CAUSES] + ["trailClass"]
    blank = dict.fromkeys(names[:-1], 0.0) | {"trailClass": ""}
    columns = {name: [(blank | row)[name] for row in rows] for name in names}
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def test_only_sure_evidence_for_certain_causes_refuses():
    rows = [{}, {"ghostEvidence": LEAST_EVIDENCE}, {"ghostEvidence": 1.4}, {"spikeEvidence": 2.0}, {"edgeEvidence": 2}]
    np.testing.assert_array_equal(refused(table(rows)), [False, True, False, False, False])


def test_satellites_are_never_refused():
    assert not refused(table([{"bleedEvidence": 2.0, "trailClass": "satellite"}])).any()


def test_causes_are_known():
    assert set(REFUSING) <= {name for name, _, _ in CAUSES}


def evidence(picture, flux):
    return ghost_evidence(picture.scene(), picture.trail, flux)


def test_a_chord_of_a_ring():
    assert evidence(ghost(), 40 * 2.3 * 14.0) >= 1


def test_a_smudge():
    pixels = sky() + 20 * np.exp(-0.5 * (np.square(X - 80) + np.square(Y - 80)) / 12**2)
    assert evidence(Picture(pixels, blank(), Segment(80.0, 80.0, 15.0, 30.0)), 1000.0) >= 1


@pytest.mark.parametrize("flux", [900.0, 4000.0, 50000.0])
@pytest.mark.parametrize("length", [0.0, 10.0, 40.0])
def test_an_asteroid_is_none(flux, length):
    assert evidence(asteroid(length=length, flux=flux), flux) < 1


def test_an_asteroid_brighter_than_the_ghost_it_lies_on_is_none():
    lit = ghost().pixels + asteroid(80.0, 80.5, 40.0, 0.0, 8000.0).pixels - sky()
    assert evidence(ghost()._replace(pixels=lit), 8000.0) < 1


def test_light_on_one_side_only_is_a_neighbour():
    pixels = asteroid(length=40.0, angle=0.0).pixels + np.where(Y > 84, 2 * SIGMA, 0)
    assert evidence(asteroid(length=40.0, angle=0.0)._replace(pixels=pixels), 4000.0) < 1


def test_nothing_is_known_where_all_is_masked_or_dark():
    picture = ghost()
    assert evidence(picture._replace(mask=np.full_like(picture.mask, 2)), 1000.0) == 0
    assert evidence(picture, -5.0) == 0


@pytest.mark.parametrize("length", [0.0, 8.0, 40.0])
def test_brightness_of_the_ridge_is_that_of_a_trail_drawn_by_galsim(length):
    source = galsim.Moffat(beta=3, fwhm=2.3)
    if length:
        source = galsim.Convolve(source, galsim.Box(width=length, height=1e-3))
    image = source.drawImage(nx=81, ny=31, scale=1.0).array
    assert ridge_brightness(moffat_mixture(2.3, 3.0), length) == pytest.approx(image[15, 40], rel=0.02)


def lit(trail, above, below, usable=True, fwhm=2.5, correlation=((1.0,),)):
    """Scene of one level on either side of a trail along x, without noise in its pixels."""
    pixels = np.where(trail.y < Y, above, below).astype(np.float32)
    seen = np.full(pixels.shape, True) & usable
    return Scene(pixels, seen, moffat_mixture(fwhm, 3.0), fwhm, Noise(10.0, np.array(correlation)), 2.0)


def sides(trail, fwhm):
    """Pixels 2 to 5 FWHM from a trail along x, above it and not."""
    beyond = np.maximum(np.abs(X - trail.x) - trail.length / 2, 0)
    apart = np.square(beyond) + np.square(Y - trail.y)
    ring = (apart >= (2 * fwhm) ** 2) & (apart <= (5 * fwhm) ** 2)
    return ring & (trail.y < Y), ring & (trail.y >= Y)


CHORD = Segment(80.0, 80.0, 20.0, 0.0)


@pytest.mark.parametrize(("above", "below", "level"), [(9, 16, 7), (16, 9, 7), (32, 99, 30), (99, 40, 30), (-5, 20, 0)])
def test_a_ghost_is_as_bright_as_its_darker_side_over_the_ridge(above, below, level):
    flux = 20 / ridge_brightness(moffat_mixture(2.5, 3.0), 20.0)  # of a ridge of 20
    found = ghost_evidence(lit(CHORD, above, below), CHORD, flux)  # the background is 2; 3 sigma are the most
    assert found == pytest.approx(min(level / 7, 2))


@pytest.mark.parametrize("correlation", [((1.0,),), ((0.2, 1.0, 0.3),), ((-0.3, 1.0, -0.2),)])
def test_a_faint_ghost_counts_by_the_noise_of_the_side_with_fewer_pixels(correlation):
    flux = 0.1 / ridge_brightness(moffat_mixture(2.5, 3.0), 20.0)
    for hidden in (Y > 88, Y < 72):
        above, below = sides(CHORD, 2.5)
        count = min((above & ~hidden).sum(), (below & ~hidden).sum())
        error = 10 * np.sqrt(max(np.sum(correlation), 1) / count)
        found = ghost_evidence(lit(CHORD, 3.0, 3.0, ~hidden, correlation=correlation), CHORD, flux)
        assert found == pytest.approx(min(1.0 / error / 4, 2))


@pytest.mark.parametrize("side", [0, 1])
def test_thirty_pixels_on_either_side_tell_of_a_ghost(side):
    ring = sides(CHORD, 2.5)[side]
    for count, known in ((30, True), (29, False)):
        usable = ~ring
        usable[tuple(np.argwhere(ring)[:count].T)] = True
        assert (ghost_evidence(lit(CHORD, 30.0, 30.0, usable), CHORD, 10.0) > 0) == known
    for flux in (0.0, -1.0):
        assert ghost_evidence(lit(CHORD, 30.0, 30.0), CHORD, flux) == 0


def test_a_ghost_is_seen_in_any_direction():
    upright = CHORD._replace(x=79.5, angle=90.0)  # between two columns
    flux = 20 / ridge_brightness(moffat_mixture(2.5, 3.0), 20.0)
    for left, right in ((9, 16), (16, 9)):
        scene = lit(CHORD, 0, 0)._replace(pixels=np.where(X < 80, left, right).astype(np.float32))
        assert ghost_evidence(scene, upright, flux) == pytest.approx(1)


@pytest.mark.parametrize("name", ["spike", "bleed", "hot_column"])
def test_one_cause_that_is_as_likely_as_not_makes_an_artefact_of_a_line(name, monkeypatch):
    picture = asteroid()
    for value, expected in ((1.0, True), (0.999, False)):
        for cause in ("spike", "bleed", "hot_column"):
            found = value if cause == name else 0.0
            monkeypatch.setattr(f"kernels.measure.vetoes.evidence.{cause}_evidence", lambda *_, found=found: found)
        assert is_line_artefact(picture.scene(), picture.mask, picture.trail) is expected


@pytest.mark.parametrize("name", REFUSING)
def test_each_of_the_certain_causes_refuses_from_one_and_a_half_on(name):
    rows = [{f"{name}Evidence": value, "trailClass": kind} for kind in ("", "satellite") for value in (1.5, 1.499)]
    assert refused(table(rows)).tolist() == [True, False, False, False]

import pytest

from benchmarks import veto_images
from kernels.shape import lobes
from kernels.vetoes.evidence import FLAGS, Evidence, is_line_artefact, weigh
from schemas.dia_source import CAUSES, DetectionFlag


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

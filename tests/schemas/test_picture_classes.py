import pytest

from schemas.picture_classes import MEMBERSHIPS, MORPHOLOGIES, PICTURE_TASKS, SCENES, memberships, morphologies, scenes


@pytest.mark.parametrize(
    ("label", "classes"),
    [
        ("spiral", "spiral"), ("Spirals", "spiral"), ("spiral_galaxy", "spiral"), ("barred-spiral", "spiral"),
        ("Spiral Galaxies", "spiral"), ("anticlockwise spirals", "spiral"), ("clockwise_spiral", "spiral"),
        ("CW", "spiral"), ("SBb", "spiral"), ("Sc2m", "spiral"),
        ("elliptical", "elliptical"), ("Ellipticals", "elliptical"), ("elliptical galaxies", "elliptical"),
        ("early-type", "elliptical"), ("smooth", "elliptical"), ("lenticular", "elliptical"), ("Er", "elliptical"),
        ("edge-on", "edge-on"), ("edge_on_disk", "edge-on"), ("EdgeOn", "edge-on"), ("Ser", "edge-on"),
        ("merger", "merger"), ("Mergers", "merger"), ("merging", "merger"), ("interacting galaxies", "merger"),
    ],
)  # fmt: skip
def test_what_people_call_a_galaxy(label, classes):
    assert morphologies(label) == {classes}


@pytest.mark.parametrize("label", ["non_spirals", "not spiral", "No Spirals", "non-spiral galaxies"])
def test_what_it_is_not_leaves_the_others(label):
    assert morphologies(label) == set(MORPHOLOGIES) - {"spiral"}


@pytest.mark.parametrize("label", ["", "irregular", "unknown", "S", "star", "A", "non cats", "7"])
def test_what_is_in_no_mapping_is_none(label):
    assert morphologies(label) is None


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("planets", "solar system"), ("Planet", "solar system"), ("solar_system", "solar system"),
        ("nebula", "nebula"), ("Nebulae", "nebula"), ("nebulas", "nebula"), ("planetary nebula", "nebula"),
        ("galaxy", "galaxy"), ("galaxies", "galaxy"),
    ],
)  # fmt: skip
def test_what_people_call_a_scene(label, name):
    assert scenes(label) == {name}


def test_every_class_is_called_by_its_own_name():
    for task, classes in (("morphology", MORPHOLOGIES), ("scene", SCENES), ("cluster", MEMBERSHIPS)):
        assert PICTURE_TASKS[task].classes == classes
        assert [PICTURE_TASKS[task].rule(one) for one in classes] == [{one} for one in classes]
    assert scenes("cats") is None


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Cluster or background LTG", "not member"),
        ("Likely background ETG or unresolved source", "not member"),
        ("Likely cluster or background edge-on disk galaxy", "not member"),
        ("Likely dE/ETG cluster candidate", "member"),
        ("Possible dE/ETG cluster candidate", "member"),
        ("Background galaxy with possibly weak substructure", "not member"),
        ("Likely merging system", None),
        ("non-member", "not member"),
        ("star", None),
    ],
)
def test_classes_of_the_catalogue_of_perseus_are_two(label, name):
    """Mapping of the published training; mergers are left out there."""
    assert memberships(label) == (name and {name})

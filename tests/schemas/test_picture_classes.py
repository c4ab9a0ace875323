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
        ("E", "elliptical"), ("E7", "elliptical"), ("SB0", "elliptical"), ("ETGs", "elliptical"), ("Sab", "spiral"),
        ("SABbc", "spiral"), ("FaceOn", "spiral"), ("BarredSpirals", "spiral"), ("anti-clockwise spirals", "spiral"),
        ("counterclockwise", "spiral"), ("LTG", "spiral"), ("edge\u2013on", "edge-on"), ("Edge-on discs", "edge-on"),
        ("merger", "merger"), ("Mergers", "merger"), ("galaxy_mergers", "merger"),
        ("merging", "merger"), ("interacting galaxies", "merger"),
    ],
)  # fmt: skip
def test_what_people_call_a_galaxy(label, classes):
    assert morphologies(label) == {classes}


GALAXY10 = {
    "Disturbed Galaxies": None, "Merging Galaxies": "merger", "Round Smooth Galaxies": "elliptical",
    "In-between Round Smooth Galaxies": "elliptical", "Cigar Shaped Smooth Galaxies": "elliptical",
    "Barred Spiral Galaxies": "spiral", "Unbarred Tight Spiral Galaxies": "spiral",
    "Unbarred Loose Spiral Galaxies": "spiral", "Edge-on Galaxies without Bulge": "edge-on",
    "Edge-on Galaxies with Bulge": "edge-on",
}  # fmt: skip
"""The classes of Galaxy10 DECaLS, as its documentation writes them (astroNN, Leung & Bovy)."""


@pytest.mark.parametrize("label", GALAXY10)
def test_classes_of_galaxy10_are_ours_but_for_disturbed_ones(label):
    expected = GALAXY10[label] and {GALAXY10[label]}
    assert morphologies(label) == morphologies(label.replace(" ", "_")) == expected


@pytest.mark.parametrize("label", ["non_spirals", "NonSpirals", "not spiral", "No Spirals", "non-spiral galaxies"])
def test_what_it_is_not_leaves_the_others(label):
    assert morphologies(label) == set(MORPHOLOGIES) - {"spiral"}


@pytest.mark.parametrize(
    "label", ["", "irregular", "Irr", "unknown", "S", "star", "A", "e", "E8", "SX0", "non cats", "7"]
)
def test_what_is_in_no_mapping_is_none(label):
    assert morphologies(label) is None


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("planets", "solar system"), ("Planet", "solar system"), ("solar_system", "solar system"),
        ("nebula", "nebula"), ("Nebulae", "nebula"), ("nebulas", "nebula"), ("planetary nebula", "nebula"),
        ("SolarSystem", "solar system"), ("dwarf planets", "solar system"), ("planetary_nebulae", "nebula"),
        ("PlanetaryNebula", "nebula"), ("supernova-remnants", "nebula"), ("dark nebulas", "nebula"),
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

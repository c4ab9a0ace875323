import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from flows.inputs.wcs_cards import (
    equinox_of_epoch,
    equinox_of_primary,
    pixel_scale_arcsec,
    same_grid,
    wcs_cards,
    world_of,
)
from schemas.errors import BadInput

SHAPE = (3080, 3072)
TAN = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRPIX1": 1051.5,
    "CRPIX2": -1509.5,
    "CRVAL1": 8.25,
    "CRVAL2": -0.23,
    "CD1_1": -2.8e-4,
    "CD1_2": 8.3e-7,
    "CD2_1": -8.4e-7,
    "CD2_2": -2.8e-4,
}
TPV = {
    **TAN,
    "CTYPE1": "RA---TPV",
    "CTYPE2": "DEC--TPV",
    "PV1_0": 1.8e-5,
    "PV1_1": 0.99999,
    "PV1_5": 2e-3,
    "PV2_1": 1.0001,
    "PV2_10": -2e-3,
}
SIP = {
    **TAN,
    "CTYPE1": "RA---TAN-SIP",
    "CTYPE2": "DEC--TAN-SIP",
    "A_ORDER": 2,
    "B_ORDER": 2,
    "A_2_0": 3e-7,
    "B_1_1": -2e-7,
}


def cards_of(keys, **more):
    return wcs_cards((fits.Header({**keys, **more}),), "x.fits", SHAPE)


@pytest.mark.parametrize("keys", [TAN, TPV, SIP], ids=["TAN", "TPV", "SIP"])
@given(x=st.floats(0, 3071), y=st.floats(0, 3079))
def test_the_sky_is_where_the_whole_header_puts_it(keys, x, y):
    cards = cards_of(keys, EXPTIME=30.0, OBJECT="field")
    assert "EXPTIME" not in cards
    ours = WCS(fits.Header.fromstring(cards, sep="\n")).all_pix2world([[x, y]], 0)
    np.testing.assert_allclose(ours, WCS(fits.Header(keys)).all_pix2world([[x, y]], 0), atol=1e-11)


def test_iraf_leftovers_beside_the_matrix_are_dropped():
    cards = cards_of(TAN, CROTA1=0, CDELT1=1.0, WAT0_001="system=image", EPOCH=2000)
    assert "CROTA" not in cards
    assert "WAT" not in cards
    assert pixel_scale_arcsec(cards) == pytest.approx(2.8e-4 * 3600, rel=1e-4)


def test_scale_and_rotation_do_in_place_of_a_matrix():
    keys = {key: value for key, value in TAN.items() if not key.startswith("CD")}
    cards = cards_of(keys, CDELT1=-1e-4, CDELT2=1e-4, CROTA2=30.0)
    assert pixel_scale_arcsec(cards) == pytest.approx(0.36)


def test_a_matrix_written_as_before_the_standard_is_that_of_the_standard():
    """Pan-STARRS writes PC001001 = -1 with two positive CDELT: without it the sky is mirrored."""
    keys = {key: value for key, value in TAN.items() if not key.startswith("CD")} | {"CDELT1": 7e-5, "CDELT2": 7e-5}
    turn = {"1": {"1": -0.8, "2": 0.6}, "2": {"1": 0.6, "2": 0.8}}
    cards, standard = (
        cards_of(keys, **{form.format(i, j): value for i, row in turn.items() for j, value in row.items()})
        for form in ("PC00{}00{}", "PC{}_{}")
    )
    assert same_grid(cards, standard, SHAPE, within=1e-6)
    assert not same_grid(cards, cards_of(keys), SHAPE)


@pytest.mark.parametrize(
    ("cards", "equinox"),
    [
        ({"EPOCH": 1950.0}, 1950),
        ({"EPOCH": 2024.3}, 2024.3),
        ({"EPOCH": 1975.0, "RADESYS": "FK5"}, 1975),
        ({"EPOCH": 2000.0}, None),  # as good as ICRS
        ({"EPOCH": 1950.0, "EQUINOX": 2000.0}, None),
        ({"EPOCH": 1950.0, "RADECSYS": "ICRS"}, None),
        ({"EPOCH": 2460000.5}, None),
        ({"EPOCH": "J2000"}, None),
        ({"EPOCH": 1950.0, "CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, None),  # which have no equinox
    ],
)
def test_where_nothing_else_tells_the_equinox_epoch_does(cards, equinox):
    """As it was before EQUINOX, and as astropy reads it: 1950 for 2000 is half a degree."""
    header = fits.Header({**TAN, **cards})
    assert equinox_of_epoch((fits.Header(), header)) == equinox
    ours = cards_of(TAN, **cards)
    if equinox is None:
        assert ours == cards_of({**TAN, **cards, "EPOCH": None})
    else:
        there, whole = (world.pixel_to_world(9, 9).icrs for world in (world_of(ours), WCS(header)))
        assert there.separation(whole).arcsec < 0.1


def test_the_distortion_of_iraf_is_not_passed_over():
    tnx = {**TAN, "CTYPE1": "RA---TNX", "CTYPE2": "DEC--TNX"}
    assert same_grid(cards_of(tnx), cards_of(TAN), SHAPE)  # without one it is TAN
    with pytest.raises(BadInput, match="'RA---TNX', IRAF's distortion") as caught:
        cards_of(
            tnx, WAT0_001="system=image", WAT1_001='wtype=tnx axtype=ra lngcor = "3. 4. 4. 2. -0.3 0.3 -0.3 0.3 1"'
        )
    assert caught.value.code == "singular_wcs"


def test_no_keyword_at_all_is_no_wcs():
    assert cards_of({"EXPTIME": 30.0}) is None


def test_the_primary_header_serves_where_the_image_has_none():
    assert wcs_cards((fits.Header({"GAIN": 1.0}), fits.Header(TAN)), "x.fits", SHAPE) == cards_of(TAN)


MATRIX = [key for key in TAN if key.startswith("CD")]


@pytest.mark.parametrize("key", ["RADESYS", "EQUINOX", "LATPOLE", "CUNIT1", "WCSAXES", "PV1_1"])
def test_a_card_that_may_be_missing_may_be_blank(key):
    assert cards_of(TAN, **{key: None}) == cards_of(TAN)


@pytest.mark.parametrize(
    ("key", "value"),
    [("CRVAL1", ""), ("CD1_1", ""), ("CRPIX2", "1E999"), ("EQUINOX", "1E999"), ("RADESYS", "=broken"), ("PV1_1", "=x")],
)
def test_a_card_that_says_where_the_sky_is_has_to_be_read(key, value):
    cards = {**{one.keyword: one.image for one in fits.Header(TAN).cards}, key: f"{key:8}= {value}"}
    header = fits.Header.fromstring("\n".join(cards.values()), sep="\n")
    with pytest.raises(BadInput, match=f"{key} (is inf|has no value that can be read)") as caught:
        wcs_cards((header,), "x.fits", SHAPE)
    assert caught.value.code == "invalid_keyword"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("CRVAL1", "150.25", 150.25),
        ("CRPIX2", "-100", -100.0),
        ("CD1_1", " -2.8D-4", -2.8e-4),
        ("A_2_0", "3e-7", 3e-7),
        ("EQUINOX", "J2000", 2000.0),
        ("EQUINOX", "B1950.0", 1950.0),
    ],
)
def test_a_number_that_is_written_as_text_counts(key, text, value):
    assert cards_of({**SIP, key: text}) == cards_of({**SIP, key: value})


@pytest.mark.parametrize(
    ("key", "text"), [("CRVAL1", "00:33:00.0"), ("CRPIX1", "nan"), ("PV1_1", "x"), ("EQUINOX", "apparent")]
)
def test_text_that_is_no_number_is_named(key, text):
    with pytest.raises(BadInput, match=f"{key} is '{text}', must be a number") as caught:
        cards_of({**TAN, key: text})
    assert caught.value.code == "invalid_keyword"


def test_a_card_with_two_values_is_refused():
    header = fits.Header([*TAN.items(), ("CRVAL1", 151.0)])
    with pytest.raises(BadInput, match=r"CRVAL1 is there 2 times with different values: 8\.25, 151\.0") as caught:
        wcs_cards((header,), "x.fits", SHAPE)
    assert caught.value.code == "invalid_keyword"


@pytest.mark.parametrize(
    ("primary", "inherit", "told", "apart"),
    [
        ({"EQUINOX": 1950.0, "RADESYS": "FK4"}, True, 1950, 2000),
        ({"EQUINOX": "J2026.9"}, True, 2026.9, 1000),
        ({"EQUINOX": 1950.0, "RADESYS": "FK4"}, False, 1950, 0),
        ({"EQUINOX": 2000.0, "RADESYS": "FK5"}, True, None, 0),
        ({}, True, None, 0),
    ],
)
def test_the_frame_of_the_primary_header_is_inherited_by_request_alone(primary, inherit, told, apart):
    own = fits.Header({"XTENSION": "IMAGE", "INHERIT": inherit, **TAN})
    headers = (own, fits.Header(primary))
    assert equinox_of_primary(headers) == told
    places = [world_of(cards).pixel_to_world(9, 9).icrs for cards in (wcs_cards(headers, "x", SHAPE), cards_of(TAN))]
    assert places[0].separation(places[1]).arcsec == pytest.approx(apart, rel=0.5, abs=0.1)
    own["EQUINOX"] = 2000.0
    assert equinox_of_primary(headers) is None
    assert wcs_cards(headers, "x", SHAPE) == cards_of(TAN, EQUINOX=2000.0)


def test_a_distortion_that_the_projection_does_not_name_is_computed_without_a_word(capsys):
    plain = {**SIP, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
    assert same_grid(cards_of(plain), cards_of(SIP), SHAPE, 1e-6)
    assert capsys.readouterr().out == ""


def test_a_pixel_with_one_side_alone_has_no_place():
    without = {key: value for key, value in TAN.items() if key not in MATRIX}
    with pytest.raises(BadInput, match="no keyword CDELT2") as caught:
        cards_of({**without, "CDELT1": -2e-4})
    assert caught.value.code == "missing_wcs"


def test_pixels_without_a_size_have_no_place():
    with pytest.raises(BadInput, match="no keyword CD1_1 or CDELT1") as caught:
        cards_of({key: value for key, value in TAN.items() if key not in MATRIX})
    assert caught.value.code == "missing_wcs"


@pytest.mark.parametrize("key", [*MATRIX, "CDELT1", "CDELT2"])
def test_the_size_of_pixels_alone_is_half_a_wcs(key):
    with pytest.raises(BadInput, match="no keyword CTYPE1, CTYPE2, CRVAL1, CRVAL2, CRPIX1, CRPIX2"):
        cards_of({key: 1e-4})


@pytest.mark.parametrize("places", ["11 22", "12 21"])
def test_what_a_matrix_does_not_name_is_zero(places):
    named = {f"CD{place[0]}_{place[1]}": 1e-4 for place in places.split()}
    keys = {key: value for key, value in TAN.items() if key not in MATRIX} | named
    assert pixel_scale_arcsec(cards_of(keys)) == pytest.approx(0.36)


@pytest.mark.parametrize(("width", "usable"), [(1.0, True), (1.1e-8, True), (0.9e-8, False), (0.0, False)])
def test_a_pixel_is_no_line(width, usable):
    """Its sides are 1e-4 degrees and ``width`` of that: determinant over squared norm is ``width``, as good as."""
    flat = {"CD1_1": -1e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": width * 1e-4}
    if usable:
        assert cards_of({**TAN, "CRPIX2": 1540.0, **flat})
    else:
        with pytest.raises(BadInput, match="cannot be inverted"):
            cards_of({**TAN, "CRPIX2": 1540.0, **flat})


def test_a_card_is_80_characters_and_nothing_follows_the_last():
    """FITS standard 4.0, 4.1.1."""
    lines = cards_of(TAN).split("\n")
    assert [len(line) for line in lines] == [80] * len(TAN)
    assert [line[:8].strip() for line in lines] == list(TAN)


@pytest.mark.parametrize("key", ["CTYPE1", "CTYPE2", "CRVAL1", "CRPIX2"])
def test_a_missing_keyword_is_named(key):
    with pytest.raises(BadInput, match=key) as caught:
        cards_of({one: value for one, value in TAN.items() if one != key})
    assert caught.value.code == "missing_wcs"


@pytest.mark.parametrize(
    "wrong",
    [
        {"CD1_1": 0.0, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.0},
        {"CD1_1": 1e-4, "CD1_2": 1e-4, "CD2_1": 1e-4, "CD2_2": 1e-4},
        {"CTYPE1": "XPIXEL", "CTYPE2": "YPIXEL"},
        {"CTYPE1": "RA---TAN", "CTYPE2": "RA---TAN"},
        {"CRVAL2": 200.0},
        {"CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN"},
        {"RADESYS": "GAPPT"},
        {"RADESYS": "J2000"},
        {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CD1_1": 0.1, "CD2_2": 0.1},  # the middle is beyond the horizon
    ],
)
def test_what_cannot_be_inverted_is_refused(wrong):
    with pytest.raises(BadInput) as caught:
        cards_of({**TAN, **wrong})
    assert caught.value.code == "singular_wcs"


@pytest.mark.parametrize(
    ("more", "most"),
    [({"CPDIS1": "LOOKUP"}, ("CPERR1", 0.2)), ({"D2IMDIS2": "Lookup"}, ("D2IMERR2", 0.2)), ({"CQDIS2": "TPD"}, None)],
)
def test_a_distortion_that_is_not_computed_is_named_unless_it_is_small(more, most):
    with pytest.raises(BadInput, match=f"{next(iter(more))} is .*, a distortion that is not computed") as caught:
        cards_of({**TAN, **more} | ({most[0]: most[1]} if most else {}))
    assert caught.value.code == "singular_wcs"
    if most:
        assert cards_of({**TAN, **more, most[0]: 0.05}) == cards_of(TAN)


def test_a_turn_of_the_first_axis_alone_is_refused():
    scaled = {key: value for key, value in TAN.items() if key not in MATRIX} | {"CDELT1": -1e-4, "CDELT2": 1e-4}
    with pytest.raises(BadInput, match=r"CROTA1 is 30\.0 and there is no CROTA2"):
        cards_of(scaled, CROTA1=30.0)
    assert cards_of(scaled, CROTA1=30.0, CROTA2=30.0)
    assert cards_of(TAN, CROTA1=30.0) == cards_of(TAN)


@pytest.mark.parametrize(("lacking", "there"), [("A_ORDER", "B_ORDER"), ("B_ORDER", "A_ORDER")])
def test_half_a_distortion_is_named(lacking, there):
    with pytest.raises(BadInput, match=f"{there} is there and {lacking} is not") as caught:
        cards_of({key: value for key, value in SIP.items() if key != lacking})
    assert caught.value.code == "singular_wcs"


def test_a_third_axis_is_left_out_of_the_cards():
    cards = cards_of({"WCSAXES": 3, **TAN, "CTYPE3": "FREQ", "CRVAL3": 1e9, "CRPIX3": 1.0, "CDELT3": 1.0})
    assert cards == cards_of(TAN)


def test_what_cannot_be_computed_is_told_by_its_keywords():
    with pytest.raises(
        BadInput, match=r"computed with CTYPE1 is 'RA---TAN', CTYPE2 is 'DEC--SIN',.* To fix, "
    ) as caught:
        cards_of({**TAN, "CTYPE2": "DEC--SIN"})
    assert caught.value.__cause__ is not None
    assert ".." not in str(caught.value)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize(
    ("shift", "same"), [(0.0, True), (0.3, True), (0.499, True), (0.501, False), (0.8, False), (300.0, False)]
)
def test_grids_are_compared_to_half_a_pixel(axis, shift, same):
    for moved in (shift, -shift):
        other = {**TPV, f"CRPIX{axis}": TPV[f"CRPIX{axis}"] + moved}
        assert same_grid(cards_of(TPV), cards_of(other), SHAPE) is same


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize(("turn", "same"), [(0.24, True), (0.26, False)])
def test_grids_are_the_same_in_each_corner(right, top, turn, same):
    """About the opposite corner they are sheared: this one moves by twice ``turn`` px along x, its neighbours by once.

    The shear goes over all 20 pixels of the width, and all 10 of the height.
    """
    x, y = (1, -1)[right], (1, -1)[top]
    square = dict(zip(MATRIX, (1e-4, 0.0, 0.0, 1e-4), strict=True))
    keys = {**TAN, **square, "CRPIX1": 21.0 if x > 0 else 1.0, "CRPIX2": 11.0 if y > 0 else 1.0}
    sheared = {**keys, "CD1_1": 1e-4 * (1 + turn / 20), "CD1_2": 1e-4 * x * y * turn / 10}
    assert same_grid(cards_of(keys), cards_of(sheared), (11, 21)) is same


def test_a_grid_on_the_other_side_of_the_sky_is_another():
    assert not same_grid(cards_of(TAN), cards_of({**TAN, "CRVAL1": 188.25}), SHAPE)

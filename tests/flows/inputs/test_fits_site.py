import pytest
from astropy.coordinates import EarthLocation
from astropy.io import fits

from flows.inputs.fits_header import Keywords
from flows.inputs.fits_site import site_of
from kernels.sky.observatories import OBSERVATORIES
from schemas.keyword_mapping import KeywordMapping

MIDNIGHT_HAWAII = 61101.43
"""MJD UTC of midnight at 155.5 deg west."""


def site(mjd=MIDNIGHT_HAWAII, mapping=None, comment="", **cards):
    header = fits.Header()
    for key, value in cards.items():
        header[key.replace("_", "-")] = (value, comment)
    return site_of(Keywords("x", (header,)), mapping or KeywordMapping(), mjd)


@pytest.mark.parametrize(
    ("cards", "longitude"),
    [
        ({"SITELONG": -155.47}, -155.47),
        ({"SITELONG": "-155:28:12"}, -155.47),
        ({"SITELONG": "155 28 12 W"}, -155.47),
        ({"SITELONG": 204.53}, -155.47),
        ({"OBSGEO_L": 204.53}, -155.47),
        ({"SITELONG": "W 155"}, -155.0),
        ({"SITELONG": -180}, -180.0),
        ({"SITELONG": 360, "OBSERVAT": "CFHT"}, 0.0),
        ({"GEOLON": 0}, 0.0),
        ({"OBSERVAT": "CFHT"}, -155.471),
        ({"OBSERVAT": "Mauna Kea"}, -155.472),
    ],
)
def test_the_header_tells_the_longitude(cards, longitude):
    found = site(**cards)
    assert found.longitude_deg == pytest.approx(longitude, abs=1e-6)
    assert found.origin.flag == ""


def test_a_place_in_metres_is_a_longitude():
    place = EarthLocation.from_geodetic(-155.47, 19.8, 4200)
    for mjd in (MIDNIGHT_HAWAII, MIDNIGHT_HAWAII + 0.5):  # at noon, too: its sign is sure
        found = site(mjd, OBSGEO_X=place.x.value, OBSGEO_Y=place.y.value, SITELONG=10.0)
        assert (found.longitude_deg, found.origin.flag) == (pytest.approx(-155.47, abs=1e-6), "")


def test_the_comment_tells_west():
    for mjd in (MIDNIGHT_HAWAII, MIDNIGHT_HAWAII + 0.5):
        found = site(mjd, LONGITUD="155:28:12", comment="degrees West of Greenwich")
        assert (found.longitude_deg, found.origin.flag) == (pytest.approx(-155.47), "")


def test_the_place_of_a_named_site_is_sure_by_day_too():
    found = site(MIDNIGHT_HAWAII + 0.5, OBSERVAT="CFHT")
    assert (found.longitude_deg, found.origin.flag) == (pytest.approx(-155.471), "")


@pytest.mark.parametrize(("hour", "longitude"), [(7.5, 90.0), (7.51, -90.0), (16.49, -90.0), (16.5, 90.0)])
def test_it_is_day_between_the_twilights_of_the_longest_nights(hour, longitude):
    """At 90 deg east local time is six hours ahead; at 90 deg west it is night whenever it is day there."""
    assert site(61101 + (hour - 6) / 24, SITELONG=90.0).longitude_deg == longitude


def test_a_sign_by_which_it_was_day_is_reversed_with_a_flag():
    found = site(mjd=61101.17, OBS_LONG=70.81, comment="[deg] Observatory east longitude")  # 04 h UTC in Chile
    assert (found.longitude_deg, found.origin.flag) == (-70.81, "assumed_site")


def test_a_sign_that_may_be_either_is_flagged_where_the_night_depends_on_it():
    assert site(mjd=61101.75, LONGITUD=149.07).origin.flag == ""  # by day, as west
    for keyword in ("LONGITUD", "SITELONG"):
        either = site(mjd=61101.5, **{keyword: 149.07})
        assert (either.longitude_deg, either.origin.flag) == (149.07, "assumed_site")
        assert site(**{keyword: 155.47}).origin.flag == "assumed_site"  # night in Hawaii and on the other side
        assert site(mjd=61101.5, comment="[deg] East positive", **{keyword: 149.07}).origin.flag == ""
    assert site(mjd=61101.5, GEOLON=149.07).origin.flag == ""
    assert site(mjd=61101.0, LONGITUD="20:48:40").origin.flag == ""


@pytest.mark.parametrize(
    "cards",
    [
        {}, {"SITELONG": "far"}, {"SITELONG": 500.0}, {"OBSERVAT": "my garden"}, {"OBSGEO_X": 0.0}, {"SITELONG": ""},
        {"SITELONG": "E"}, {"SITELONG": "1:2:3:4"}, {"SITELONG": "inf"}, {"SITELONG": "nan"}, {"SITELONG": "10:-5:0"},
        {"SITELONG": 360.1}, {"SITELONG": -180.1}, {"OBSGEO_X": 1e5, "OBSGEO_Y": 0.0}, {"OBSGEO_X": 6e6},
    ],
)  # fmt: skip
def test_without_it_greenwich_is_assumed_and_said(cards):
    found = site(**cards)
    assert (found.longitude_deg, found.origin.flag) == (0.0, "assumed_site")
    assert "fits.longitude_deg" in found.origin.note


def test_settings_go_first():
    assert site(mapping=KeywordMapping(longitude_deg=12.0), SITELONG=-155.0).longitude_deg == 12.0


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("AAO", "413"), ("CTIO", "807"), ("ESO", "809"), ("KPNO", "695"), ("La Silla", "809"), ("LaPalma", "950"),
        ("Lowell", "699"), ("McDonald", "711"), ("MMT", "696"), ("Mauna Kea", "568"), ("ORM", "950"), ("APO", "705"),
        ("Palomar", "675"), ("Paranal", "309"), ("SAAO", "K91"), ("Siding Spring", "413"), ("SSO", "413"),
        ("Keck", "568"), ("CFHT", "568"), ("Haleakala", "F51"),
    ],
)  # fmt: skip
def test_a_named_site_is_where_the_code_of_an_observatory_there_is(name, code):
    east = OBSERVATORIES[code][0]
    midnight = 61101.0 - ((east + 180) % 360 - 180) / 360
    apart = (site(midnight, OBSERVAT=name).longitude_deg - east + 180) % 360 - 180
    assert abs(apart) < 0.6  # La Palma has a telescope a third of a degree of longitude from another


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("aao", "413"), ("apo", "705"), ("cfht", "568"), ("ctio", "807"), ("eso", "809"), ("haleakala", "566"),
        ("keck", "568"), ("kpno", "695"), ("la silla", "809"), ("lapalma", "950"), ("lowell", "689"),
        ("mcdonald", "711"), ("mmt", "696"), ("mauna kea", "568"), ("orm", "950"), ("palomar", "675"),
        ("paranal", "309"), ("saao", "K91"), ("siding spring", "413"), ("sso", "413"),
    ],
)  # fmt: skip
def test_observatories_lie_where_the_minor_planet_center_has_them(name, code):
    """Telescopes of one mountain are less than a tenth of a degree apart; those of Lowell are on two."""
    east = (OBSERVATORIES[code][0] + 180) % 360 - 180
    assert site(OBSERVAT=name).longitude_deg == pytest.approx(east, abs=0.3 if name == "lowell" else 0.1)


def test_where_it_is_day_with_either_sign_the_header_is_followed_and_flagged():
    found = site(mjd=61101.5, SITELONG=3.0)  # noon at Greenwich
    assert (found.longitude_deg, found.origin.flag) == (3.0, "assumed_site")
    assert found.origin.note == "the image was taken by day"

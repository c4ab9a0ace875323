"""Known objects from a service, against one on this machine that answers as SkyBoT does."""

from contextlib import contextmanager
from threading import Event
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Angle
from astropy.time import Time
from pydantic import ValidationError

from flows.inputs import sky_resolver
from flows.inputs.sky_resolver import ATTEMPTS, WAITS_S, SkyResolver
from flows.pipeline.models import file_digests, file_paths, setting_files
from kernels.orbits.ephemeris import observe
from kernels.sky.observatories import OBSERVATORIES, observer_at
from kernels.sky.positions import unit_vectors
from schemas.errors import Misconfigured, Retryable
from schemas.settings import PredictKnownSettings, Settings
from schemas.stage import Context
from stages.predict_known import STAGE as PREDICT
from tests.stages.test_known_objects import SHAPE, WHEN, around
from tests.support.http import Handler, serving
from tests.support.orbits import asteroids

COLUMNS = (
    "Num | Name | RA(h) | DE(deg) | Class | Mv | Err(arcsec) | d(arcsec) | dRA(arcsec/h) | dDEC(arcsec/h) | Dg(ua) | "
    "Dh(ua) | Phase(deg) | SunElong(deg) | x(au) | y(au) | z(au) | vx(au/d) | vy(au/d) | vz(au/d) | Ref. Epoch(JD)"
)
CERES = (
    "1 | Ceres | 23 59 45.7861 | -00 00 50.055 | MB>Middle | 8.9 | 0.010 | 219.0 | 71.5717 | 26.581 | 2.5 | 2.9 | "
    "15.28 | 118.93"
)
OTHER = (
    "– | 2008 GA35 | 00 00 29.6581 | +12 02 17.517 | MB>Inner | 23.6 | 70.445 | 465.6 | -46.3179 | -21.347 | 3.0 | 2.6 "
    "| 18.47 | 59.08"
)
REST = " | 1.78 | 0.77 | 0.33 | -0.006 | 0.011 | 0.004 | 2451200"
NOBODY = "# Flag: 0\n# Ticket: 1548711633538\n# No solar system object was found in the requested FOV\n"


def answer(*rows):
    heading = f"# Flag: {len(rows)}\n# Ticket: 1548711633538\n# {COLUMNS}\n"
    return heading + "".join(f" {row}{REST}\n" for row in rows)


@contextmanager
def service(*answers):
    """Serve answers one after the other, the last again and again: text, (status, headers), or an event to wait for."""
    left, asked = list(answers), []

    class Service(Handler):
        def get(self):
            asked.append({name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()})
            given = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(given, Event):
                given.wait(20)
                return
            status, headers = given if isinstance(given, tuple) else (200, {})
            self.answer(status, b"" if isinstance(given, tuple) else given.encode(), **headers)

    with serving(Service) as url:
        try:
            yield f"{url}/conesearch.php", asked
        finally:
            for one in answers:
                if isinstance(one, Event):
                    one.set()


def ask(url, *, code="I41", faintest=np.inf, waits=None, timeout_s=5.0):
    observer = observer_at(61000.25, OBSERVATORIES[code])
    (toward,) = unit_vectors(np.array([10.5]), np.array([-3.25]))
    resolver = SkyResolver(url, timeout_s, (lambda _: None) if waits is None else waits.append)
    return resolver.in_field(observer, code, toward, 0.75, faintest)


def test_objects_are_read_and_asked_for_by_place_and_time():
    with service(answer(CERES, OTHER)) as (url, asked):
        found = ask(url)
    assert found.names == ["(1) Ceres", "2008 GA35"]
    places = Angle(["23h59m45.7861s", "0h0m29.6581s"]), Angle(["-0d0m50.055s", "12d2m17.517s"])
    assert found.seen.ra == pytest.approx(places[0].to_value(u.deg), abs=1e-9)
    assert found.seen.dec == pytest.approx(places[1].to_value(u.deg), abs=1e-9)
    assert found.seen.rate == pytest.approx(np.hypot([71.5717, 46.3179], [26.581, 21.347]) / 150)
    assert found.seen.angle == pytest.approx([69.625, 245.255], abs=1e-3)
    assert found.seen.magnitude.tolist() == [8.9, 23.6]
    assert (found.seen.distance.tolist(), found.seen.sun_distance.tolist()) == ([2.5, 3.0], [2.9, 2.6])
    assert (found.seen.phase.tolist(), found.seen.elongation.tolist()) == ([15.28, 18.47], [118.93, 59.08])
    assert found.uncertainty.tolist() == [0.01, 70.445]
    (one,) = asked
    assert (float(one["-ra"]), float(one["-dec"]), float(one["-rd"])) == pytest.approx((10.5, -3.25, 0.75))
    assert float(one["-ep"]) == pytest.approx(Time(61000.25, format="mjd", scale="tai").utc.jd, abs=2e-8)
    assert (one["-loc"], one["-mime"], one["-refsys"], one["-filter"]) == ("I41", "text", "EQJ2000", "120")


def test_from_the_centre_of_the_earth_places_are_less_certain():
    with service(answer(CERES)) as (url, asked):
        found = ask(url, code="500")
    assert asked[0]["-loc"] == "500"
    assert found.uncertainty == pytest.approx([0.01 + 8.794 / 2.5])


def test_faint_objects_are_left_out_and_those_of_unknown_magnitude_are_not():
    unknown = OTHER.replace("23.6", "-").replace("2008 GA35", "2008 GA36")
    with service(answer(CERES, OTHER, unknown)) as (url, _):
        assert ask(url, faintest=21.0).names == ["(1) Ceres", "2008 GA36"]


def test_an_object_may_stand_at_the_pole():
    with service(answer(CERES.replace("-00 00 50.055", "-90 00 00.000"))) as (url, _):
        assert ask(url).seen.dec.tolist() == [-90.0]


def test_a_field_without_objects_has_none():
    with service(NOBODY) as (url, _):
        assert ask(url).names == []


DAMAGED = {
    "a page": "<html><body>Maintenance</body></html>\n",
    "empty": "",
    "an error": "# Flag: -1\n# Ticket: 1\n# Error: the epoch is out of range\n",
    "cut in a row": answer(CERES, OTHER)[:-60],
    "cut after a row": answer(CERES).rstrip("\n"),
    "no rows": answer(CERES).split(" 1 | Ceres")[0],
    "no column": answer(CERES).replace("Err(arcsec)", "Error"),
    "no number": answer(CERES.replace("71.5717", "fast")),
    "no place": answer(CERES.replace("23 59 45.7861", "23 59")),
    "no such minute": answer(CERES.replace("23 59 45.7861", "23 60 45.7861")),
    "no such second": answer(CERES.replace("23 59 45.7861", "23 59 60.0000")),
    "no distance": answer(CERES.replace("| 2.5 |", "| 0.0 |")),
    "no such place": answer(CERES.replace("-00 00 50.055", "-97 00 50.055")),
    "not finite": answer(CERES.replace("| 2.5 |", "| nan |")),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_an_answer_that_makes_no_sense_is_asked_for_again_and_told(content):
    with service(content) as (url, asked), pytest.raises(Retryable, match="gave an answer that") as caught:
        ask(url)
    assert caught.value.code == "resolver_answer"
    assert len(asked) == ATTEMPTS
    with service(content, answer(CERES)) as (url, asked):
        assert ask(url).names == ["(1) Ceres"]
    assert len(asked) == 2


def test_a_service_with_a_limit_is_waited_for_as_long_as_it_says():
    waits = []
    with service((429, {"Retry-After": "7"}), (503, {}), (429, {"Retry-After": "9999"}), NOBODY) as (url, _):
        assert ask(url, waits=waits).names == []
    assert waits == [7.0, WAITS_S[1], 120.0]


def test_a_service_that_is_busy_every_time_is_given_up():
    with service((429, {"Retry-After": "1"})) as (url, asked), pytest.raises(Retryable, match="answered 429") as caught:
        ask(url)
    assert (caught.value.code, len(asked)) == ("resolver_down", ATTEMPTS)


def test_a_service_that_does_not_answer_in_time_or_at_all_is_down():
    with service(Event()) as (url, asked), pytest.raises(Retryable, match="does not answer"):
        ask(url, timeout_s=0.2)
    assert len(asked) == ATTEMPTS
    with pytest.raises(Retryable, match="does not answer") as caught:
        ask(url)
    assert caught.value.code == "resolver_down"


def test_what_is_refused_is_not_asked_for_again():
    with service((404, {})) as (url, asked), pytest.raises(Misconfigured, match=r"predict_known\.resolver") as caught:
        ask(url)
    assert (caught.value.code, len(asked)) == ("resolver_refuses", 1)


def test_it_stands_in_for_a_file_of_orbits():
    """The stage has the same rows, whoever says where the objects are."""
    orbits = asteroids(5, 61000.0)
    seen = observe(orbits, observer_at(WHEN, OBSERVATORIES["I41"]))
    ra, dec = Angle(seen.ra[0] * u.deg), Angle(seen.dec[0] * u.deg)
    speed, way = seen.rate[0] * 150, np.radians(seen.angle[0])
    name = orbits.designation[0].decode()
    row = (
        f"– | {name} | {ra.to_string(u.hourangle, sep=' ', precision=4)} | "
        f"{dec.to_string(sep=' ', precision=3, alwayssign=True)} | MB | {seen.magnitude[0]:.1f} | 0.2 | 5 | "
        f"{speed * np.sin(way):.4f} | {speed * np.cos(way):.4f} | {seen.distance[0]:.9f} | "
        f"{seen.sun_distance[0]:.9f} | {seen.phase[0]:.2f} | {seen.elongation[0]:.2f}"
    )
    with service(answer(row)) as (url, asked):
        settings = Settings(predict_known={"resolver": url})
        (catalogue,) = setting_files((PREDICT,), settings).values()
        inputs = {"mask": np.zeros(SHAPE, np.uint16), "orbits": catalogue}
        exposure = around(seen.ra[0], seen.dec[0])
        (found,) = PREDICT(inputs, Context(exposure=exposure, settings=settings.predict_known)).rows.to_pylist()
    assert (found["designation"], found["usable"]) == (name, True)
    assert (found["x"], found["y"]) == pytest.approx((249.5, 299.5), abs=0.01)
    assert found["ephRate"] == pytest.approx(seen.rate[0], rel=1e-4)
    assert found["ephRateAngle"] == pytest.approx(seen.angle[0], abs=0.01)
    assert asked[0]["-loc"] == "I41"
    assert float(asked[0]["-rd"]) == pytest.approx(1.01 * np.hypot(250, 300) / 3600 + 0.02, rel=1e-4)  # half a trail


def test_settings_name_one_source_of_objects_at_most():
    url = "https://ssp.imcce.fr/webservices/skybot/api/conesearch.php"
    with pytest.raises(ValidationError, match="must not both be given"):
        PredictKnownSettings(orbits="MPCORB.DAT", resolver=url)
    for bad in ("ftp://host/x", "https://me:secret@host/x", "https://host/x?key=1", "skybot"):
        with pytest.raises(ValidationError, match="without user, password and query"):
            PredictKnownSettings(resolver=bad)
    assert PredictKnownSettings().resolver is None
    one, other = (Settings(predict_known={"resolver": place}) for place in (url, f"{url}2"))
    assert file_paths((PREDICT,), one) == {"orbits": url}
    assert file_digests((PREDICT,), one) != file_digests((PREDICT,), other)
    assert file_paths((PREDICT,), Settings()) == {}


def test_an_answer_may_be_so_long_and_no_longer(monkeypatch):
    text = answer(CERES)
    with service(text) as (url, _):
        monkeypatch.setattr(sky_resolver, "MOST_BYTES", len(text.encode()))
        assert ask(url).names == ["(1) Ceres"]
        monkeypatch.setattr(sky_resolver, "MOST_BYTES", len(text.encode()) - 1)
        with pytest.raises(Retryable, match="has more than") as caught:
            ask(url)
    assert caught.value.code == "resolver_answer"

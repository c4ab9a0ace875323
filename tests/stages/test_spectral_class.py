from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from flows.pipeline.models import load_model
from kernels.objects.class_model import POINT_SHARE
from kernels.objects.sky_prior import UNMEASURED, sky_shares
from schemas.class_table import CLASSES, SPECTRAL_CLASS, STAR_GALAXY, TYPE_COLUMNS, UNKNOWN, class_columns, class_table
from schemas.dataset import DatasetError
from schemas.errors import BadInput
from schemas.objects import BANDS, OBJECT
from schemas.settings import SpectralClassSettings
from schemas.stage import Context
from stages.spectral_class import STAGE
from tests.support.filled import filled

SUN = {"u": 17.93, "g": 16.5, "r": 16.05, "i": 15.93, "z": 15.9}
RED_GALAXY = {"u": 19.4, "g": 17.6, "r": 16.7, "i": 16.3, "z": 16.0}
QUASAR = {"u": 18.6, "g": 18.4, "r": 18.3, "i": 18.1, "z": 18.1}


@pytest.fixture(scope="module")
def context():
    models = {
        "superclass": load_model("superclass", "colours"),
        "star_subclass": load_model("star_subclass", "ugriz"),
    }
    return Context(models=models, settings=SpectralClassSettings(photometric_system="sdss"))


PLACE = {"ra": 150.0, "dec": 35.0}


def shares(r):
    return sky_shares(*(np.full(len(r), axis) for axis in PLACE.values()), np.array(r))


def at_the_sky(points, r):
    """Probabilities of a point source, by Bayes' rule from odds."""
    sky, points = shares(r), np.array(points)
    odds = points / (1 - points) * (1 - POINT_SHARE) / POINT_SHARE * (1 - sky[:, 1]) / sky[:, 1]
    return odds / (1 + odds)


def objects(*magnitudes, error=0.02):
    columns = PLACE | {"objectId": range(len(magnitudes))}
    for band in BANDS:
        given = [one.get(band) for one in magnitudes]
        columns |= {f"{band}_apMag": given, f"{band}_apMagErr": [None if one is None else error for one in given]}
    return filled(OBJECT.schema, len(magnitudes), **columns)


def image_verdicts(*points, outlier=0.3, first=0):
    point = np.array(points, float)
    ids, outliers = first + np.arange(len(points)), np.full(len(points), outlier)
    columns = class_columns(CLASSES, ids, np.stack([point, 1 - point], axis=1), outliers, "image 1")
    return class_table(STAR_GALAXY, columns)


def run(context, *magnitudes, image=None, **how):
    inputs = {"object": objects(*magnitudes, **how)}
    return STAGE(inputs if image is None else inputs | {"star_galaxy": image}, context).rows


@pytest.mark.parametrize("n", [0, 1, 5])
def test_one_row_per_object_in_their_order(context, n):
    table = run(context, *[SUN] * n)
    SPECTRAL_CLASS.check(table)
    assert table["objectId"].to_pylist() == list(range(n))
    assert set(table["modelVersion"].to_pylist()) <= {"colours 1"}
    assert set(table["typeModelVersion"].to_pylist()) <= {"ugriz 1"}


def test_a_star_a_galaxy_and_a_quasar(context):
    table = run(context, SUN, RED_GALAXY, QUASAR)
    assert table["classLabel"].to_pylist() == ["star", "galaxy", "quasar"]
    assert table["typeLabel"].to_pylist() == ["G", None, None]
    assert table["nBands"].to_pylist() == [5, 5, 5]
    shares = np.array([table[name].to_pylist()[0] for name in TYPE_COLUMNS.values()])
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    assert table["typeScore"].to_pylist()[0] == pytest.approx(shares.max())
    assert table["pTypeG"].to_pylist()[1] is None


def test_without_u_the_image_has_to_say_whether_it_is_a_point(context):
    lacking = [{band: value for band, value in one.items() if band != "u"} for one in (SUN, RED_GALAXY, SUN)]
    table = run(context, *lacking)
    assert table["classLabel"].to_pylist() == [UNKNOWN] * 3
    assert table["pStar"].null_count == 3
    table = run(context, *lacking, image=image_verdicts(0.98, 0.02, 0.02))
    assert table["classLabel"].to_pylist() == ["star", "galaxy", "galaxy"]
    point = at_the_sky([0.98, 0.02, 0.02], [one["r"] for one in lacking])
    np.testing.assert_allclose(table["pGalaxy"].to_numpy(), 1 - point, atol=1e-6)
    assert table["nBands"].to_pylist() == [4, 4, 4]
    assert table["typeLabel"].to_pylist() == ["G", None, None]
    assert set(table["modelVersion"].to_pylist()) == {"colours 1, image 1"}


def test_an_image_that_cannot_be_judged_does_not_count(context):
    table = run(context, SUN, RED_GALAXY, image=image_verdicts(0.02, 0.98, outlier=1.5))
    assert table["classLabel"].to_pylist() == ["star", "galaxy"]  # by their colours
    assert set(table["modelVersion"].to_pylist()) == {"colours 1"}


def test_without_a_colour_the_image_decides_alone(context):
    seen, r = (0.98, 0.02, 0.98), [17.0, 18.4, UNMEASURED]
    table = run(context, {"r": 17.0}, {"g": 19.0}, {}, image=image_verdicts(*seen))
    assert table["classLabel"].to_pylist() == ["star", "galaxy", "star"]
    sky = shares(r)
    expected = at_the_sky(seen, r) * sky[:, 2] / (sky[:, 0] + sky[:, 2])
    np.testing.assert_allclose(table["pQuasar"].to_numpy(), expected, rtol=1e-5)
    assert table["typeLabel"].to_pylist() == [UNKNOWN, None, UNKNOWN]  # a star, but of what kind colours would say
    assert table["nBands"].to_pylist() == [1, 1, 0]
    assert set(table["modelVersion"].to_pylist()) == {"image 1"}


def test_the_same_look_is_a_star_where_the_sky_is_bright_with_stars_and_a_galaxy_where_it_is_not(context):
    table = run(context, {"r": 14.5}, {"r": 21.5}, image=image_verdicts(0.3, 0.3))
    assert table["classLabel"].to_pylist() == ["star", "galaxy"]


def test_verdicts_on_other_objects_are_refused(context):
    with pytest.raises(DatasetError, match="rows of object, in their order"):
        run(context, SUN, SUN, image=image_verdicts(0.9, 0.9, first=5))


def test_unknown_where_there_is_no_colour_or_no_such_thing(context):
    strange = {"u": 15.0, "g": 20.0, "r": 15.0, "i": 20.0, "z": 15.0}
    table = run(context, {"r": 17.0}, {}, strange)
    assert table["classLabel"].to_pylist() == [UNKNOWN] * 3
    assert table["pStar"].to_pylist()[:2] == [None, None]
    assert table["outlierScore"].to_pylist()[2] > 1
    assert table["typeLabel"].to_pylist() == [None] * 3


def test_magnitudes_that_are_noise_do_not_count(context):
    table = run(context, SUN, error=0.5)
    assert table["classLabel"].to_pylist() == [UNKNOWN]
    assert table["nBands"].to_pylist() == [0]


def test_a_verdict_does_not_depend_on_its_company(context):
    alone = run(context, QUASAR)
    among = run(context, SUN, QUASAR, RED_GALAXY)
    assert alone["pQuasar"].to_pylist()[0] == among["pQuasar"].to_pylist()[1]


class Exposures:
    """Night of exposures of which instrument and band are known."""

    def __init__(self, *named):
        self._infos = [SimpleNamespace(instrument=instrument, band=band) for instrument, band in named]

    def exposures(self):
        return self._infos


def of_night(context, *named):
    return replace(context, settings=SpectralClassSettings(), pixels=Exposures(*named))


# Of the Sun by Tonry et al. (2012), table 6, solved by hand from g_SDSS - r_SDSS = 0.45.
SUN_PS1 = {"g": 16.4291, "r": 16.0485, "i": 15.9294, "z": 15.9036}


def test_magnitudes_are_taken_from_the_system_of_the_instrument(context):
    image = image_verdicts(0.98)
    night = of_night(context, ("GPC1", "g"), ("GPC1", "r"))
    table = run(night, SUN_PS1, image=image)
    same = run(context, {band: SUN[band] for band in "griz"}, image=image)
    assert table["photometricSystem"].to_pylist() == ["ps1"]
    assert table["typeLabel"].to_pylist() == ["G"]
    assert table["pTypeG"].to_pylist() == pytest.approx(same["pTypeG"].to_pylist(), abs=0.05)
    stated = replace(context, settings=SpectralClassSettings(photometric_system="ps1"))
    assert run(stated, SUN_PS1, image=image) == table


@pytest.mark.parametrize("named", [[], [("ACME", "g")], [("DECam", "g"), ("ZTF/MOSAIC", "r")]])
def test_of_no_known_system_colours_are_unknown_but_one_band_needs_none(context, named):
    table = run(of_night(context, *named), SUN, {"r": 17.0}, image=image_verdicts(0.98, 0.02))
    assert table["classLabel"].to_pylist() == [UNKNOWN, "galaxy"]
    assert table["unknownReason"].to_pylist() == ["system", None]
    assert table["photometricSystem"].null_count == 2
    assert table["nBands"].to_pylist() == [5, 1]
    assert table["pStar"].to_pylist()[0] is None


def test_bands_that_are_not_of_ugriz_do_not_name_the_system(context):
    table = run(of_night(context, ("LSSTCam", "y"), ("SDSS", "g")), SUN)
    assert table["photometricSystem"].to_pylist() == ["sdss"]


def test_exposures_that_are_gone_are_missed_only_where_nothing_is_stated(context):
    class Gone:
        def exposures(self):
            raise BadInput("no_tiles", "1-0.zarr", "is missing.", "run again.")

    with pytest.raises(BadInput, match=r"state spectral_class\.photometric_system"):
        run(replace(context, settings=SpectralClassSettings(), pixels=Gone()), SUN)
    assert run(replace(context, pixels=Gone()), SUN)["classLabel"].to_pylist() == ["star"]


def test_each_unknown_says_why(context):
    red = {"g": 20.0, "r": 17.0, "i": 15.0}
    bandless = {"g": 17.0, "r": 16.5}
    strange = {"u": 15.0, "g": 20.0, "r": 15.0, "i": 20.0, "z": 15.0}
    image = image_verdicts(0.98, 0.98)
    decam = replace(context, settings=SpectralClassSettings(photometric_system="decam"))
    assert run(decam, red, bandless, image=image)["unknownReason"].to_pylist() == ["colour_range", "colour_term"]
    table = run(context, SUN, strange, {"r": 17.0}, {band: SUN[band] for band in "griz"})
    assert table["unknownReason"].to_pylist() == [None, "outlier", "no_colour", "no_image"]
    assert table["classLabel"].to_pylist() == ["star", UNKNOWN, UNKNOWN, UNKNOWN]
    table = run(context, {"r": 17.0}, image=image_verdicts(0.98))
    assert (table["classLabel"].to_pylist(), table["typeLabel"].to_pylist()) == (["star"], [UNKNOWN])
    assert table["unknownReason"].to_pylist() == ["no_colour"]

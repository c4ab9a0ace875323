import math

import numpy as np
import pytest

from kernels.image.science_image import science_image
from kernels.objects.source_shapes import Shapes
from schemas.errors import BadInput, Misconfigured
from schemas.objects import SourceFlag
from schemas.pixels import MaskPlane
from schemas.settings import FindSourcesSettings
from schemas.stage import Context
from stages import find_sources
from stages.find_sources import STAGE, _flags
from tests.support.science_night import SHAPE, ZERO_POINT, exposure, science, sky_grid

RA, DEC = sky_grid()
PLACES = [(a, d, 2e4 * 0.9**n, 4.0 * (n % 2)) for n, (a, d) in enumerate(zip(RA, DEC, strict=True))]


def found(info, pixels, mask=None, **settings):
    mask = np.zeros(SHAPE, np.uint16) if mask is None else mask
    return STAGE({"science": pixels, "mask": mask}, Context(info, settings=FindSourcesSettings(**settings))).rows


@pytest.fixture(scope="module")
def info():
    return exposure(7, "r", rotation=25.0)


@pytest.fixture(scope="module")
def pixels(info):
    return science(info, PLACES, 1)


def test_every_bright_source_has_its_place_on_the_sky_and_its_flux(info, pixels):
    table = found(info, pixels, min_snr=9)
    assert len(table) == len(PLACES)
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    nearest = [int(np.argmin(np.hypot((ra - a) * np.cos(np.radians(d)), dec - d))) for a, d, *_ in PLACES]
    assert len(set(nearest)) == len(PLACES)
    offset = np.hypot((ra[nearest] - RA) * np.cos(np.radians(20)), dec[nearest] - DEC) * 3600
    assert offset.max() < 0.4
    njy = 10 ** ((31.4 - ZERO_POINT) / 2.5)
    flux = table["psfFlux"].to_numpy()[nearest][::2] / njy  # of the point sources
    np.testing.assert_allclose(flux, [place[2] for place in PLACES][::2], rtol=0.06)
    snr, error = table["snr"].to_numpy(), table["psfFluxErr"].to_numpy()
    assert (snr >= 9).all()
    np.testing.assert_allclose(error * snr, table["psfFlux"].to_numpy(), rtol=1e-5)  # of one unit
    sizes = table["halfLightRadius"].to_numpy()[nearest]
    assert sizes[::2].max() < sizes[1::2].min()


def test_what_is_too_faint_at_first_would_not_be_bright_enough_in_the_end(info, pixels, monkeypatch):
    rng = np.random.default_rng(4)
    faint = pixels + rng.normal(0, 3 * float(np.std(pixels[:40, :40])), SHAPE).astype(np.float32)
    some = found(info, faint)
    monkeypatch.setattr(find_sources, "_NEARLY", 0.0)
    every = found(info, faint)
    assert len(every) > 10
    assert some.select(["x", "y", "snr"]).equals(every.select(["x", "y", "snr"]))


def test_flags_say_what_is_wrong_with_a_source(info, pixels):
    mask = np.zeros(SHAPE, np.uint16)
    table = found(info, pixels)
    rows = np.argsort(-table["snr"].to_numpy())[:3]
    places = [(round(table["y"][int(n)].as_py()), round(table["x"][int(n)].as_py())) for n in rows]
    mask[places[0]] |= MaskPlane.SAT
    mask[places[1][0], places[1][1] + 1] |= MaskPlane.BAD
    mask[places[2]] |= MaskPlane.NO_DATA  # of the difference image
    again = found(info, pixels, mask)
    x, y, flags = (again[name].to_numpy() for name in ("x", "y", "flags"))

    def flag_at(place):
        return SourceFlag(int(flags[np.argmin(np.hypot(y - place[0], x - place[1]))]))

    assert SourceFlag.SATURATED in flag_at(places[0])
    assert SourceFlag.MASKED in flag_at(places[1])
    assert flag_at(places[2]) == SourceFlag(0)


def test_a_source_in_the_outermost_row_or_column_is_at_the_edge(info, pixels):
    ny, nx = SHAPE
    boxes = {
        (1, ny - 2, 1, nx - 2): False,  # first and last row, first and last column
        (0, 9, 50, 60): True,
        (40, 50, 0, 9): True,
        (ny - 9, ny - 1, 50, 60): True,
        (40, 50, nx - 9, nx - 1): True,
        (ny - 9, ny - 2, nx - 9, nx - 2): False,
        (1, 9, 1, 9): False,
        (nx - 1 - (nx - ny), ny - 1, 1, 9): True,
        (1, 9, ny - 9, ny - 1): False,  # the last row's number is not an edge among the columns
    }
    none, unset = np.zeros(len(boxes)), np.zeros(len(boxes), bool)
    shapes = Shapes(none, none, none, none, none, none, np.array(list(boxes)), unset, unset)
    mask = np.zeros(SHAPE, np.uint16)
    image = science_image(pixels, mask, FindSourcesSettings().mesh)
    flags = _flags(image, mask, shapes, none + 1, info)
    assert [SourceFlag.EDGE in SourceFlag(int(flag)) for flag in flags] == list(boxes.values())
    assert all(_flags(image, mask, shapes._replace(truncated=~unset), none + 1, info) == SourceFlag.EDGE)


def test_without_wcs_or_zero_point_those_columns_are_null(info, pixels):
    table = found(info.model_copy(update={"wcs_header": None, "zero_point": None}), pixels)
    assert len(table)
    for name in ("ra", "dec", "positionAngle", "pixelScale", "posErr", "psfFlux", "psfFluxErr"):
        assert table[name].null_count == len(table)
    assert (table["flags"].to_numpy() & (SourceFlag.NO_WCS | SourceFlag.NO_ZERO_POINT) == 48).all()
    assert table["snr"].null_count == 0


def test_an_image_without_a_value_has_no_source(info):
    assert len(found(info, np.full(SHAPE, np.nan, np.float32))) == 0


def test_says_what_it_cannot_use(info, pixels):
    with pytest.raises(BadInput, match="no celestial WCS"):
        found(info.model_copy(update={"wcs_header": "CTYPE1  = 'FREQ'"}), pixels)
    with pytest.raises(Misconfigured, match="works on one exposure"):
        found(None, pixels)


def test_each_flag_of_a_source_stands_alone(info, pixels):
    mask = np.zeros(SHAPE, np.uint16)
    mask[30, 40] = MaskPlane.SAT
    mask[31, 70] = MaskPlane.BAD
    boxes = np.array([[20, 30, 30, 40], [30, 40, 40, 50], [20, 29, 30, 40], [31, 40, 30, 50], [20, 40, 60, 80]])
    none, unset = np.zeros(5), np.zeros(5, bool)
    shapes = Shapes(none, none, none, none, none, none, boxes, unset, unset)
    image = science_image(pixels, mask, FindSourcesSettings().mesh)

    def flags(seen=1.0, shapes=shapes, **changed):
        return [
            SourceFlag(int(one)) for one in _flags(image, mask, shapes, none + seen, info.model_copy(update=changed))
        ]

    nothing, saturated = SourceFlag(0), SourceFlag.SATURATED
    assert flags() == [saturated, saturated, nothing, nothing, nothing]
    assert flags(0.98)[2:] == [nothing] * 3  # with 2 % of its light on other pixels a source is whole
    assert flags(0.979)[2:] == [SourceFlag.MASKED] * 3
    assert flags(shapes=shapes._replace(blended=~unset))[2:] == [SourceFlag.BLENDED] * 3
    assert flags(wcs_header=None)[2:] == [SourceFlag.NO_WCS] * 3
    assert flags(zero_point=None)[2:] == [SourceFlag.NO_ZERO_POINT] * 3


def test_a_place_is_as_uncertain_as_its_noise_and_its_phase_make_it(info, pixels):
    table = found(info, pixels)
    for row in table.to_pylist():  # 1.1 FWHM over the S/N, and 0.05 px, of 1 arcsec each
        assert row["posErr"] == pytest.approx(math.hypot(1.1 * info.psf.fwhm_px / row["snr"], 0.05), rel=1e-4)
    assert (table["y"].to_numpy()[1:] >= table["y"].to_numpy()[:-1]).all()

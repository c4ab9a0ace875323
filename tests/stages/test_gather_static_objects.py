"""Lasting objects: what is known of them by a night, against numpy object by object."""

import numpy as np
import pyarrow as pa
import pytest

from kernels.sky.positions import unit_vectors
from schemas.errors import BadInput
from schemas.objects import OBJECT
from schemas.stage import Context
from schemas.static_object import FLUXES, STATIC_ASSOCIATION
from stages.gather_static_objects import STAGE
from tests.support.static import objects

ARCSEC = 1 / 3600
DAYS = (0, 1, 40, 41, 90)
NIGHTS = ("20260101", "20260102", "20260210", "20260211", "20260401")


def seen(static, night, ra, dec, weight=100.0, **fluxes):
    """Row of an object on the n-th night."""
    vector = unit_vectors(np.array([ra]), np.array([dec]))[0]
    (identity,) = objects([ra], [dec])["objectId"].to_pylist()
    return {
        "staticObjectId": static, "objectId": identity, "night": NIGHTS[night], "mjd": 61000.0 + DAYS[night],
        **dict(zip("xyz", vector.tolist(), strict=True)), "weight": weight,
        **dict.fromkeys(FLUXES), **fluxes,
    }  # fmt: skip


def gathered(rows, last=4):
    """What is known of the objects of the last night, by their lasting ids."""
    table = pa.Table.from_pylist(rows, schema=STATIC_ASSOCIATION.schema)
    own = [one for one in rows if one["night"] == NIGHTS[last]]
    ra = [np.degrees(np.arctan2(one["y"], one["x"])) for one in own]
    made = objects(ra, [np.degrees(np.arcsin(one["z"])) for one in own])
    made = made.set_column(0, OBJECT.schema.field(0), pa.array([one["objectId"] for one in own])).sort_by("objectId")
    found = STAGE({STATIC_ASSOCIATION.name: table, OBJECT.name: made}, Context()).rows
    assert found["objectId"].equals(made["objectId"])
    return {one["staticObjectId"]: one for one in found.to_pylist()}


def test_statistics_are_those_of_the_nights_with_a_flux():
    flux, error = np.array([100.0, 120.0, 90.0, 105.0]), np.array([5.0, 10.0, 4.0, 5.0])
    rows = [
        seen(7, n, 10.0, 0.0, r_psfFlux=float(flux[n]), r_psfFluxErr=float(error[n]), g_psfFlux=3.0) for n in range(4)
    ]
    rows += [seen(7, 4, 10.0, 0.25 * ARCSEC), seen(3, 4, 11.0, 0.0, r_psfFlux=1.0, r_psfFluxErr=2.0)]
    found = gathered(rows)
    one = found[7]
    mean = np.average(flux, weights=error**-2.0)
    assert (one["nNights"], one["firstNight"], one["lastNight"], one["separation"]) == (
        5,
        NIGHTS[0],
        NIGHTS[4],
        pytest.approx(0.25),
    )
    assert (one["r_psfFluxNdata"], one["g_psfFluxNdata"], one["g_psfFluxMean"]) == (4, 0, None)
    assert one["r_psfFluxMean"] == pytest.approx(mean)
    assert one["r_psfFluxChi2"] == pytest.approx((((flux - mean) / error) ** 2).sum())
    assert one["r_psfFluxSigma"] == pytest.approx(flux.std(ddof=1))
    assert (one["r_psfFluxMin"], one["r_psfFluxMax"]) == (90, 120)
    assert (found[3]["nNights"], found[3]["r_psfFluxNdata"], found[3]["r_psfFluxSigma"]) == (1, 1, None)


def test_places_are_the_mean_by_the_errors():
    rows = [seen(7, 0, 10.0, 0.0, weight=300.0), seen(7, 4, 10.0, 0.4 * ARCSEC, weight=100.0)]
    one = gathered(rows)[7]
    assert one["meanDec"] == pytest.approx(0.1 * ARCSEC)
    assert one["meanPosErr"] == pytest.approx(0.05)
    assert one["meanMjd"] == pytest.approx(61000 + 90 / 4)
    assert one["pmDec"] is None  # of two nights


def test_a_star_that_moves_has_its_motion():
    rows = [seen(7, n, 10.0, 2.0 * ARCSEC * DAYS[n] / 365.25) for n in range(5)]
    one = gathered(rows)[7]
    assert one["pmDec"] == pytest.approx(2000, abs=0.1)
    assert one["pmRa"] == pytest.approx(0, abs=0.1)
    assert one["pmDecErr"] == pytest.approx(100 * 365.25 / np.std(DAYS) / np.sqrt(5), rel=1e-4)
    few = [seen(7, n, 10.0, 0.0) for n in (0, 1)] + [seen(7, 2, 10.0, 0.0)]
    assert gathered(few, 2)[7]["pmDec"] is not None
    near = [{**seen(7, n, 10.0, 0.0), "mjd": 61000.0 + n} for n in range(3)]
    assert gathered(near, 2)[7]["pmDec"] is None  # of three days


def test_an_object_that_is_not_associated_is_refused():
    table = pa.Table.from_pylist([seen(7, 4, 10.0, 0.0)], schema=STATIC_ASSOCIATION.schema)
    with pytest.raises(BadInput, match="is not in the store of the association"):
        STAGE({STATIC_ASSOCIATION.name: table, OBJECT.name: objects([10.0, 11.0], [0.0, 0.0])}, Context())


def test_of_no_objects_nothing_is_known():
    given = {STATIC_ASSOCIATION.name: STATIC_ASSOCIATION.empty(), OBJECT.name: OBJECT.empty()}
    assert len(STAGE(given, Context()).rows) == 0

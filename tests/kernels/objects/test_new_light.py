"""Objects of the science images that are new sources themselves, and stars that are not."""

import numpy as np
import pyarrow as pa
import pytest

from kernels.objects.new_light import ALL_NEW, OBJECT_COLUMNS, all_is_new
from schemas.objects import BANDS, OBJECT, SourceFlag


def objects(*rows):
    """Objects of (objectId, flags, band -> (exposures, flux))."""
    nothing = {name: None if name.endswith("Flux") else 0 for name in OBJECT_COLUMNS}
    made = [
        nothing
        | {"objectId": one, "flags": int(flags)}
        | {f"{band}_nExposures": count for band, (count, _) in bands.items()}
        | {f"{band}_psfFlux": flux for band, (_, flux) in bands.items()}
        for one, flags, bands in rows
    ]
    return pa.Table.from_pylist(made, schema=OBJECT.only(OBJECT_COLUMNS).schema)


def judged(table, *rows):
    """What is said of detections, (source, objectId, band, flux) each."""
    source, on, band, flux = zip(*rows, strict=True)
    return all_is_new(table, np.array(source), np.array(on), band, np.array(flux, float)).tolist()


@pytest.mark.parametrize("band", BANDS)
def test_a_star_is_new_that_is_seven_times_as_bright_as_before_or_was_not_there(band):
    """Of reference flux R and new flux f the science image has R + f."""
    rng = np.random.default_rng(11)
    before, factor = rng.uniform(0, 1e5, 300), 1 + 10 ** rng.uniform(-2, 3, 300)
    before[:20] = 0
    new = np.where(before > 0, (factor - 1) * before, 5e3)
    table = objects(*((n, 0, {band: (1, r + f)}) for n, (r, f) in enumerate(zip(before, new, strict=True))))
    said = judged(table, *((n, n, band, f) for n, f in enumerate(new)))
    sure = (before == 0) | (abs(factor - 1 / (1 - ALL_NEW)) > 1e-3)
    np.testing.assert_array_equal(np.array(said)[sure], ((before == 0) | (factor > 6.667))[sure])
    assert 60 < sum(said) < 240


def alone(table, rows, row):
    """The same of one detection, by the words of the documentation."""
    source, on, _, _ = rows[row]
    (known,) = [one for one in table.to_pylist() if one["objectId"] == on] or [None]
    mine = [one for one in rows if one[:2] == (source, on)]
    if known is None or known["flags"] & SourceFlag.SATURATED or any(not flux > 0 for *_, flux in mine):
        return False
    for band in {one[2] for one in mine}:
        fluxes = [flux for *_, of, flux in mine if of == band]
        whole = known.get(f"{band}_psfFlux")
        if whole is None or not whole > 0 or np.mean(fluxes) < ALL_NEW * whole:
            return False
        if len(fluxes) < known[f"{band}_nExposures"] / 2:
            return False
    return True


def test_detections_of_a_source_are_judged_together_in_each_band():
    rng, said = np.random.default_rng(3), []
    for _ in range(300):
        table = objects(*(
            (one, rng.choice([0, 0, 0, SourceFlag.BLENDED, SourceFlag.SATURATED]), {
                band: (int(rng.integers(1, 4)), rng.choice([None, -50.0, 100.0, 100.0, 100.0, 100.0])) for band in "gr"
            })
            for one in rng.permutation(3).tolist()
        ))  # fmt: skip
        rows = [
            (int(rng.integers(2)), int(rng.integers(4)), str(rng.choice(["g", "r", "r", "r", "w"], p=[0.2, 0.26, 0.26,
             0.26, 0.02])), float(rng.choice([-90, np.nan, 50, 80, 90, 100, 120], p=[0.03, 0.02, *[0.19] * 5])))
            for _ in range(rng.integers(1, 8))
        ]  # fmt: skip
        found = judged(table, *rows)
        assert found == [alone(table, rows, row) for row in range(len(rows))]
        said += found
    assert 100 < sum(said) < 0.7 * len(said)


def test_light_of_few_exposures_says_nothing_of_their_mean():
    """A star of 100 that doubles on one of ten exposures: the mean is 110, of which 100 is new, and 100 was there."""
    assert judged(objects((1, 0, {"r": (10, 110.0)})), (5, 1, "r", 100.0)) == [False]
    assert judged(objects((1, 0, {"r": (2, 110.0)})), (5, 1, "r", 100.0)) == [True]


def test_without_detections_or_objects_nothing_is_said():
    none = np.zeros(0, np.int64)
    assert all_is_new(objects((1, 0, {})), none, none, [], np.zeros(0)).tolist() == []
    assert judged(objects(), (1, 1, "r", 100.0)) == [False]


@pytest.mark.parametrize(("flux", "new"), [(85.0, True), (84.9, False)])
def test_the_share_of_light_that_is_new_may_be_the_least(flux, new):
    assert judged(objects((1, 0, {"r": (1, 100.0)})), (5, 1, "r", flux)) == [new]


def test_nothing_is_new_where_there_is_no_light():
    assert judged(objects((1, 0, {"r": (1, 0.0)})), (5, 1, "r", 100.0)) == [False]
    assert judged(objects((1, 0, {"r": (2, 100.0)})), (5, 1, "r", 0.0), (5, 1, "r", 200.0)) == [False, False]
    assert judged(objects((1, 0, {"r": (2, 100.0)})), (5, 1, "r", 1.0), (5, 1, "r", 200.0)) == [True, True]

import numpy as np
import pytest

from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.injection import INJECTION, MOST, injection_ids


def test_its_rows_are_not_of_the_sky_and_look_like_no_detection():
    assert INJECTION.synthetic
    assert not DIA_SOURCE.synthetic
    assert "diaSourceId" not in INJECTION.schema.names
    assert not INJECTION.schema.equals(DIA_SOURCE.schema)


@pytest.mark.parametrize(("visit", "detector"), [(0, 0), (99429086, 59), (2**42 - 1, 2**9 - 1)])
def test_no_id_could_be_that_of_a_detection(visit, detector):
    ids = injection_ids(visit, detector, MOST)
    assert ids.dtype == np.int64
    assert (ids < 0).all()
    assert len(np.unique(ids)) == MOST
    # Turned round, an id tells where it belongs, as a diaSourceId does.
    turned = -1 - ids
    assert set(turned >> 21) == {visit}
    assert set((turned >> 12) & 511) == {detector}
    assert list(turned & 4095) == list(range(MOST))


def test_more_than_an_exposure_holds_are_refused():
    with pytest.raises(Misconfigured, match=r"4097 streaks in exposure 7-3, which holds 4096 at most"):
        injection_ids(7, 3, MOST + 1)


def test_what_was_measured_is_null_where_nothing_was():
    nullable = {field.name for field in INJECTION.schema if field.nullable}
    assert nullable == {
        "flux", "magAB", "reliability", "measuredSnr", "fluxRatio", "xOffset", "yOffset", "lengthOffset", "angleOffset",
    }  # fmt: skip


def test_as_many_as_twelve_bits_hold_are_taken():
    assert MOST == 2**12
    assert injection_ids(0, 0, 3).tolist() == [-1, -2, -3]
    assert injection_ids(1, 2, 1).tolist() == [-1 - 2**21 - 2 * 2**12]

import pytest

from flows.adapters.fits_generic import GENERIC
from flows.adapters.fits_rubin import RUBIN
from flows.adapters.fits_ztf import ZTF


@pytest.mark.parametrize(("form", "required"), [(ZTF, True), (RUBIN, True), (GENERIC, False)])
def test_archives_promise_astrometry_and_strangers_do_not(form, required):
    assert form.wcs_required is required


def test_formats_are_values():
    assert {ZTF, RUBIN, GENERIC} == {GENERIC, ZTF, RUBIN}
    assert {form.name for form in (ZTF, RUBIN, GENERIC)} == {"ZTF", "Rubin", "generic"}

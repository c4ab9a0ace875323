import pytest

import nightstride as ns
from schemas import exposure


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"alpha": 1.5, "beta": 3}, "PsfModel: fwhm_px: Field required. To fix, give it"),
        ({"fwhm_px": 2.2, "alpha": 1.5}, "PsfModel: alpha: .*To fix, choose one of fwhm_px, beta"),
        ({"fwhm_px": -1}, "PsfModel: fwhm_px: Input should be greater than 0. To fix, correct it"),
    ],
)
def test_what_is_no_psf_is_refused_in_our_words(fields, says):
    with pytest.raises(ns.Misconfigured, match=says) as error:
        ns.PsfModel(**fields)
    assert error.value.code == "bad_psf"


def test_it_is_stored_like_any_other():
    given = ns.PsfModel(fwhm_px=2.2, beta=4)
    assert isinstance(given, exposure.PsfModel)
    assert repr(given).startswith("PsfModel(fwhm_px=2.2, beta=4.0")
    assert given.model_dump() == exposure.PsfModel(fwhm_px=2.2, beta=4).model_dump()

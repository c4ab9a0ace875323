import numpy as np
import pytest

from nightstride.arguments import identity_of, path_of, whole_number
from schemas.errors import Misconfigured


@pytest.mark.parametrize("value", [41, 41.0, "41", np.int16(41), np.float64(41)])
def test_what_is_whole_is_a_whole_number(value):
    assert whole_number(value, "size") == 41


@pytest.mark.parametrize("value", ["a", "4.5", "1_0", True, 5.5, None, [1], np.nan, np.inf, 66814000.7])
def test_what_is_not_whole_is_refused_by_its_name(value):
    with pytest.raises(Misconfigured, match=r"^size: is .*, must be a whole number\. To fix") as error:
        whole_number(value, "size")
    assert error.value.code == "bad_number"


def test_a_number_may_have_a_least():
    assert whole_number(0, "rows", 0) == 0
    assert whole_number(-1, "rows") == -1
    with pytest.raises(Misconfigured, match="rows: is -1, must be a whole number, 0 or more"):
        whole_number(-1, "rows", 0)


def test_an_id_is_no_float():
    assert identity_of(str(2**62 + 1)) == identity_of(np.int64(2**62 + 1)) == 2**62 + 1
    for value in (2.0**53, None, "a", [1]):
        with pytest.raises(Misconfigured, match="is no id"):
            identity_of(value)


def test_a_path_is_a_text_or_a_path(tmp_path):
    assert path_of(str(tmp_path), "path") == path_of(tmp_path, "path") == tmp_path
    with pytest.raises(Misconfigured, match="path: is None, no path"):
        path_of(None, "path")

import pytest

from flows.adapters.content_limit import LARGEST, require_allowed
from schemas.errors import BadInput


def test_the_limit_itself_is_allowed_and_a_byte_more_is_not():
    require_allowed(LARGEST, "x.fits", "HDU 1")
    with pytest.raises(BadInput, match=r"x\.fits: HDU 1 unpacks to 4\.0 GiB or more, the limit is 4 GiB") as caught:
        require_allowed(LARGEST + 1, "x.fits", "HDU 1")
    assert caught.value.code == "too_large"

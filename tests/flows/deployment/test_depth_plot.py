from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from flows.deployment.depth_plot import depth_plot
from schemas.recovery import Limit, RecoveredShare, Recovery


def night(*shares):
    return Recovery(
        night="20250121", exposures=1, hidden=0, n=sum(one.n for one in shares),
        recovered=sum(one.recovered for one in shares),
        by_snr=shares, by_length=shares, snr=Limit(n=0, reason="too few"),
    )  # fmt: skip


def picture(url):
    head, _, content = url.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(BytesIO(b64decode(content))).convert("L"), float)


NONE = RecoveredShare(lo=4, hi=7, n=0, recovered=0, interval=(0, 1))
HALF = RecoveredShare(lo=7, hi=None, n=10, recovered=5, interval=(0.19, 0.81))
ALL = RecoveredShare(lo=7, hi=None, n=10, recovered=10, interval=(0.69, 1.0))


def test_it_is_a_picture_that_shows_the_shares():
    half, everything = picture(depth_plot(night(NONE, HALF))), picture(depth_plot(night(NONE, ALL)))
    assert half.shape == (360, 900)
    assert half.min() < 100
    assert np.abs(half - everything).max() > 100
    assert depth_plot(night(NONE, HALF)) == depth_plot(night(NONE, HALF))


@pytest.mark.parametrize("shares", [(NONE,), (NONE, NONE)])
def test_of_nothing_it_is_empty(shares):
    assert picture(depth_plot(night(*shares))).shape == (360, 900)

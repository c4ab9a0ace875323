import os
from hashlib import sha256
from pathlib import Path

import pytest

from flows.adapters.sources import Source
from flows.source_stat import stat_of
from flows.source_state import source_state
from schemas.settings import Settings

SETTINGS = Settings()


@pytest.fixture
def image(write_ztf):
    return write_ztf()


def digest(*paths):
    total = sha256()
    for path in paths:
        total.update(Path(path).read_bytes())
    return total.hexdigest()


def test_the_same_bytes_are_unchanged(image):
    assert source_state(image, digest(image), SETTINGS) == "unchanged"
    assert source_state(image, "other", SETTINGS) == "changed"


def test_what_was_searched_alone_may_have_company_now(image):
    alone = digest(image)
    mask = image.replace("scimrefdiffimg.fits.fz", "mskimg.fits")
    Path(mask).write_bytes(b"x")
    assert source_state(image, alone, SETTINGS) == "unchanged"
    assert source_state(image, digest(image, mask), SETTINGS) == "unchanged"


def test_an_unchanged_stat_is_believed_and_another_looked_into(image):
    stat = stat_of(Source(image))
    assert source_state(image, "other", SETTINGS, stat) == "unchanged"
    os.utime(image, (1, 1))
    assert source_state(image, "other", SETTINGS, stat) == "changed"
    assert source_state(image, digest(image), SETTINGS, stat) == "unchanged"


def test_what_is_gone_is_unreachable(tmp_path):
    assert source_state(str(tmp_path / "gone.fits"), "s", SETTINGS) == "unreachable"

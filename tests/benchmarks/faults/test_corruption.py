from random import Random

import pytest

from benchmarks.faults.corruption import KINDS, another_visit, corrupt
from flows.inputs.prepare import prepare
from flows.inputs.source import Source
from schemas.errors import BadInput
from schemas.settings import Settings

pytest_plugins = ("tests.support.night_fixture",)


@pytest.fixture
def original(raw_night):
    return min(raw_night.glob("*scimrefdiffimg*"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_corrupt_file_is_refused_wherever_the_damage_is(kind, original, tmp_path):
    for number in range(1, 4):
        path = corrupt(kind, original, tmp_path, number, Random(number))
        with pytest.raises(BadInput):
            prepare(Source(str(path)), Settings())


def test_a_copy_that_is_not_corrupt_is_another_visit(original, tmp_path):
    another_visit(original, tmp_path / "copy.fits.fz", 3)
    first, second = (prepare(Source(str(path)), Settings())[0] for path in (original, tmp_path / "copy.fits.fz"))
    assert second.visit == first.visit + 3

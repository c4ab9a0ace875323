import numpy as np
import pytest

from flows.pipeline.models import load_model
from schemas.class_table import STAR_GALAXY, UNKNOWN
from schemas.dataset import DatasetError
from schemas.errors import BadInput, Misconfigured
from schemas.objects import OBJECT
from schemas.stage import Context
from stages.star_galaxy import STAGE
from tests.support.filled import filled
from tests.support.star_galaxy import cutouts, write_small


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_small(folder)
    return Context(models={"star_galaxy": load_model("star_galaxy", str(folder))})


def objects(n):
    return filled(OBJECT.schema, n, objectId=np.arange(n) + 1)


@pytest.mark.parametrize("n", [0, 1, 40])
def test_one_verdict_per_object_in_order(context, n):
    verdicts = STAGE({"object": objects(n), "cutouts": cutouts(1, 30).cutouts[:n]}, context).rows
    STAR_GALAXY.check(verdicts)
    assert verdicts["objectId"].to_pylist() == list(range(1, n + 1))
    assert set(verdicts["modelVersion"].to_pylist()) <= {"multi_band-7"}


def test_says_unknown_where_there_is_no_band(context):
    given = cutouts(1, 30).cutouts[:3].copy()
    given[1] = np.nan
    rows = STAGE({"object": objects(3), "cutouts": given}, context).rows.to_pylist()
    assert rows[1]["classLabel"] == UNKNOWN
    assert rows[1]["pStar"] is None
    assert rows[0]["pStar"] + rows[0]["pGalaxy"] == pytest.approx(1)


def test_refuses_cutouts_of_other_objects(context):
    with pytest.raises(DatasetError, match="got 2 objects and 3 cutouts"):
        STAGE({"object": objects(2), "cutouts": cutouts(1, 30).cutouts[:3]}, context)


def test_refuses_an_odd_number_of_planes(context):
    with pytest.raises(BadInput, match="have 5 planes"):
        STAGE({"object": objects(3), "cutouts": cutouts(1, 30).cutouts[:3, :5].copy()}, context)


def test_refuses_a_model_that_would_take_psfs_for_images():
    model = load_model("star_galaxy", "single_band")
    with pytest.raises(Misconfigured, match=r"single_band.*half of those of a night are PSFs.*multi_band"):
        STAGE({"object": objects(3), "cutouts": cutouts(1, 30).cutouts[:3]}, Context(models={"star_galaxy": model}))

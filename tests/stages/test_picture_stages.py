import numpy as np
import pyarrow as pa
import pytest

from schemas.class_table import CLASSES, STAR_GALAXY, class_columns, class_table
from schemas.dataset import DatasetError
from schemas.galaxy_pictures import GALAXY, PICTURE_SIDE
from schemas.picture_classes import MORPHOLOGIES
from schemas.settings import AnomalySettings, MorphologySettings
from schemas.stage import Context
from stages.anomaly import STAGE as ANOMALY_STAGE
from stages.morphology import STAGE

IS_GALAXY = np.array([True, True, True, False, False])
CHOSEN = np.array([10, 11, 14])  # the last of them is not a galaxy by its label, but probable enough
HAS_PICTURE = np.array([True, False, True])


def galaxies(ids=CHOSEN):
    columns = [pa.array(ids) if field.name == "objectId" else pa.array([1.0] * len(ids)) for field in GALAXY.schema]
    return pa.table([one.cast(field.type) for one, field in zip(columns, GALAXY.schema, strict=True)], GALAXY.schema)


def classes():
    probability = np.stack([~IS_GALAXY, IS_GALAXY], 1).astype(float)
    return class_table(STAR_GALAXY, class_columns(CLASSES, 10 + np.arange(5), probability, np.zeros(5), "test 1"))


def pictures():
    drawn = np.random.default_rng(1).integers(1, 256, (3, PICTURE_SIDE, PICTURE_SIDE, 3)).astype(np.uint8)
    return drawn * HAS_PICTURE[:, None, None, None]


class Fixed:
    """Model that says what the first pixel of a picture tells it to."""

    version = "fixed 1"

    def __call__(self, given, whole):
        assert whole
        first = np.array([one[0, 0, 0] for one in given], int)
        return np.eye(4, dtype=np.float32)[first % 4].reshape(-1, 4)


def classified(given=CHOSEN, of=slice(None)):
    context = Context(models={"morphology": Fixed()}, settings=MorphologySettings())
    inputs = {"star_galaxy": classes(), "galaxy": galaxies(given), "galaxy_picture": pictures()[of]}
    return STAGE(inputs, context).rows


def test_galaxies_have_a_row_each_and_those_with_a_picture_a_class():
    found = classified()
    said = [MORPHOLOGIES[pictures()[n, 0, 0, 0] % 4] for n in (0, 2)]
    assert found["objectId"].to_pylist() == [10, 11, 12, 14]
    assert found["classLabel"].to_pylist() == [said[0], "unknown", "unresolved", said[1]]
    assert found["classScore"].to_pylist() == [1.0, None, None, 1.0]
    assert set(found["modelVersion"].to_pylist()) == {"fixed 1"}
    assert "pEdgeOn" in found.column_names
    assert "outlierScore" not in found.column_names


def test_without_resolved_galaxies_all_are_unresolved():
    found = classified(CHOSEN[:0], slice(0, 0))
    assert found["objectId"].to_pylist() == [10, 11, 12]
    assert set(found["classLabel"].to_pylist()) == {"unresolved"}


class Brightness:
    """Model whose score is the mean of a picture."""

    version = "brightness 1"

    def __call__(self, given, whole):
        assert whole
        return np.array([one.mean() for one in given], np.float32)

    def verdicts(self, scores):
        return np.where(scores > 127, 1.0, 0.0).astype(np.float32)


def test_what_has_a_picture_has_a_score():
    context = Context(models={"anomaly": Brightness()}, settings=AnomalySettings())
    found = ANOMALY_STAGE({"galaxy": galaxies(), "galaxy_picture": pictures()}, context).rows
    means = pictures()[HAS_PICTURE].mean((1, 2, 3))
    assert found["objectId"].to_pylist() == [10, 14]
    assert found["anomalyScore"].to_numpy() == pytest.approx(means, rel=1e-5)
    assert found["anomalyVerdict"].to_pylist() == (means > 127).astype(float).tolist()


@pytest.mark.parametrize(("stage", "settings"), [(STAGE, MorphologySettings()), (ANOMALY_STAGE, AnomalySettings())])
def test_rows_that_do_not_fit_are_refused(stage, settings):
    context = Context(models={"morphology": Fixed(), "anomaly": Brightness()}, settings=settings)
    inputs = {"star_galaxy": classes(), "galaxy": galaxies(CHOSEN[:2]), "galaxy_picture": pictures()}
    with pytest.raises(DatasetError, match="per galaxy"):
        stage({one.name: inputs[one.name] for one in stage.needs}, context)

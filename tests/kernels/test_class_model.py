import numpy as np
import pytest
from scipy.special import softmax

from kernels.class_model import Calibration, ClassModel, calibrated, class_model
from kernels.class_trees import ClassTrees
from schemas.model_card import ModelCard

CARD = ModelCard(
    stage="superclass", name="toy", version="3", sha256="", input={"features": ["g-r", "r"]}, classes=("a", "b", "c"),
    training={}, metrics={}, threshold=1.0, false_alarm_rate="",
)  # fmt: skip
ARRAYS = {
    "root": np.array([[0, 3, 4]], np.int32),
    "feature": np.array([0, -1, -1, -1, -1], np.int16),
    "limit": np.array([0.5, 0, 0, 0, 0], np.float32),
    "missing_left": np.zeros(5, np.uint8),
    "left": np.array([1, 0, 0, 0, 0], np.int32),
    "right": np.array([2, 0, 0, 0, 0], np.int32),
    "value": np.array([0, -3, 3, 1, 0], np.float32),
    "base": np.zeros(3),
    "slope": np.ones(6),
    "offset": np.zeros((6, 3)),
    "novelty_limit": np.full(6, 0.5),
    "reference": np.array([[0.2, 17.0]] * 3, np.float32),
    "scale": np.ones(2, np.float32),
    "centroid": np.array([[0.9, 17], [0.1, 17], [0.1, 20]], np.float32),
}


def magnitudes(**bands):
    return {band: np.array(values, np.float32) for band, values in bands.items()}


@pytest.fixture
def model():
    return class_model(CARD, ARRAYS)


def test_is_made_of_the_arrays_of_its_file(model):
    assert isinstance(model, ClassModel)
    assert isinstance(model.trees, ClassTrees)
    assert model.version == "toy 3"
    assert model.features == ("g-r", "r")


def test_judges_by_trees_and_calibration(model):
    probability, outlier = model(magnitudes(g=[17.2, 18.0], r=[17.0, 17.0]))
    np.testing.assert_allclose(probability, softmax([[-3, 1, 0], [3, 1, 0]], axis=1), rtol=1e-6)
    np.testing.assert_allclose(outlier, [0, np.sqrt(0.8**2 / 2) / 0.5], atol=1e-5)
    assert model.by_nearest_colour(magnitudes(g=[17.1, 17.9], r=[17.0, 17.0])).argmax(1).tolist() == [1, 0]


def test_one_band_says_nothing(model):
    probability, outlier = model(magnitudes(g=[np.nan, 17.0], r=[17.0, 17.0]))
    assert np.isnan(probability[0]).all()
    assert np.isnan(outlier[0])
    assert np.isfinite(probability[1]).all()


def test_calibration_depends_on_the_number_of_bands():
    logits = np.array([[2.0, 0.0], [2.0, 0.0]])
    offset = np.zeros((6, 2))
    offset[3] = [0, 2.0]
    slope = np.ones(6)
    slope[2] = 0.5
    found = calibrated(logits, np.array([2, 3]), Calibration(slope, offset, np.ones(6)))
    np.testing.assert_allclose(found, [softmax([1.0, 0.0]), [0.5, 0.5]])

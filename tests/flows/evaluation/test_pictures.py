import numpy as np
import pytest
from PIL import Image

from flows.evaluation.evaluate import Evaluation
from flows.evaluation.pictures import draw
from flows.evaluation.summary import summarise


def evaluation(n, oracle):
    rng = np.random.default_rng(1)
    snr = rng.uniform(3, 50, n)
    errors = {name: rng.normal(0, 1, n) for name in ("dx", "dy", "length_error", "angle_error")}
    return Evaluation(
        images=4,
        snr=snr,
        length=rng.uniform(0, 60, n),
        score=np.where(snr > 10, rng.uniform(0.2, 1, n), -np.inf),
        oracle_snr=snr if oracle else np.full(n, np.nan),
        oracle_area_px=9e6,
        false_score=rng.uniform(0, 0.5, 6),
        false_snr=np.full(6, 7.0),
        uncounted=0,
        **errors,
    )


@pytest.mark.parametrize(("n", "oracle"), [(300, True), (300, False), (0, False)])
def test_draws_four_pictures(tmp_path, n, oracle):
    found = evaluation(n, oracle)
    written = draw(found, summarise(found), tmp_path / "new")
    names = ["completeness_by_snr.png", "completeness_by_length.png", "false_per_image.png", "residuals.png"]
    assert [path.name for path in written] == names
    for path in written:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 400
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_same_evaluation_gives_the_same_bytes(tmp_path):
    found = evaluation(100, True)
    first, second = (draw(found, summarise(found), tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_oracle_is_drawn(tmp_path):
    pictures = [
        draw(found, summarise(found), tmp_path / str(oracle))[0].read_bytes()
        for oracle in (True, False)
        for found in [evaluation(300, oracle)]
    ]
    assert pictures[0] != pictures[1]

import numpy as np
from PIL import Image

from benchmarks.pictures.anomalies import compare, draw


def test_every_model_is_compared_on_each_normal_class(tmp_path):
    rng, rows = np.random.default_rng(3), {}
    y, x = np.mgrid[:64, :64] - 31.5
    for label, ratio in (("whole", 0.9), ("thin", 0.2)):
        (tmp_path / label).mkdir()
        for n in range(30):
            light = 200 * np.exp(-np.hypot(x, y / ratio) / 6) + rng.normal(10, 3, (64, 64))
            Image.fromarray(np.clip(light, 0, 255).astype(np.uint8)).save(tmp_path / label / f"{n}.png")
    rows["whole"] = compare(tmp_path, "whole", 64, 2, 1)
    assert rows["whole"].pop("n") == 6 + 30
    assert list(rows["whole"]) == [
        "nearest codes",
        "isolation forest on moments",
        "rest of 9 principal components",
        "Deep SVDD, one-class",
        "error of the autoencoder",
        "Deep SVDD, soft-boundary",
    ]
    assert all(0 <= one["auc"] <= 1 for one in rows["whole"].values())
    assert rows["whole"]["nearest codes"]["auc"] > 0.9
    draw(rows, tmp_path / "areas.png")
    assert (tmp_path / "areas.png").stat().st_size > 5000

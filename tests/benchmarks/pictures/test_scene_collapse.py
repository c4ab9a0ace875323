import numpy as np
from PIL import Image

from benchmarks.pictures.scene_collapse import Row, draw, fit, read


def test_a_rate_that_is_too_high_gives_one_class_and_a_lower_one_learns(tmp_path):
    rng = np.random.default_rng(1)
    for label, level in (("planets", 30), ("nebula", 120), ("galaxies", 210)):
        (tmp_path / label).mkdir()
        for n in range(16):
            Image.fromarray(rng.integers(level - 25, level + 25, (20, 24, 3)).astype(np.uint8)).save(
                tmp_path / label / f"{n}.png"
            )
    pictures, code, digests = read(tmp_path, 16)
    assert (pictures.shape, len(set(digests))) == ((48, 3, 16, 16), 48)
    parts, lines = (np.arange(0, 48, 2), np.arange(1, 48, 2)), []
    rows = [
        fit(Row(name, "adam", rate, 8, norm=norm), pictures, code, parts, 25, lines.append)
        for name, rate, norm in (("high", 0.3, False), ("low", 2e-3, True))
    ]
    assert rows[0]["verdicts of one class"] == 1.0
    assert rows[0]["accuracy"] < 0.5
    assert rows[1]["accuracy"] > 0.9
    assert rows[1]["losses"][-1] < rows[1]["losses"][0]
    assert len(lines) == 50
    draw(rows, tmp_path / "losses.png")
    assert (tmp_path / "losses.png").stat().st_size > 5000

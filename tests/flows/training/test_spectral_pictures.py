import numpy as np
from matplotlib.image import imread

from flows.simulation.star_colours import star_table
from flows.training.spectral_compare import compare
from flows.training.spectral_pictures import draw_comparison, draw_regression, importances, principal_components
from flows.training.spectral_sample import Sample
from schemas.archive_columns import FEATURE_SETS

CLASSES = ("A", "G", "M")
FEATURES = FEATURE_SETS["n5"]


def stars(count=300):
    columns, code = star_table(count, 1, CLASSES, faint=17.0)
    return Sample(columns, code, CLASSES, np.arange(count))


def test_components_hold_all_variance_in_falling_order():
    places, shares, rows = principal_components(stars().matrix(FEATURES), 1)
    assert places.shape == (300, 2)
    assert len(rows) == 300
    assert shares.sum() == np.float64(1) or abs(shares.sum() - 1) < 1e-6
    assert (np.diff(shares) <= 0).all()


def test_what_decides_is_important_and_noise_is_not():
    rows = stars()
    columns = dict(rows.columns) | {"noise": np.random.default_rng(1).normal(0, 1, 300).astype(np.float32)}
    mean, _ = importances(Sample(columns, rows.code, CLASSES, rows.group), ("g-r", "noise"), "none", 1)
    assert mean[0] > 0.4
    assert abs(mean[1]) < 0.05


def test_pictures_show_something(tmp_path):
    rows = stars()
    found = compare(rows, FEATURES, "none", 1, lambda _: None, ("majority", "tree"))
    shares = draw_comparison(rows, FEATURES, found, (np.arange(5.0), np.ones(5)), tmp_path / "a.png", 1)
    assert len(shares) == 5
    kelvin = np.linspace(3000, 30000, 50)
    draw_regression(kelvin, 5040 / kelvin, np.array([1.0, 0.0]), ("B-V", "R"), tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert imread(tmp_path / name)[..., :3].std() > 0.02

import numpy as np

from benchmarks.speed.bench_codecs import CODECS, NOISE, PIPELINES, compare, image
from schemas.settings import TileSettings


def test_every_case_is_measured_and_gives_back_its_pixels():
    cases = list(compare((300, 310), 2, TileSettings(tile=112, chunk=28)))
    assert len(cases) == 3 * len(CODECS) * len(PIPELINES)
    assert all(0 < time < np.inf for case in cases for time in (case.write, case.read, case.cutout))
    ratio = {(case.data, case.codec, case.pipeline): case.ratio for case in cases}
    assert ratio["quantised", "zstd", "zarrs"] > ratio["difference", "zstd", "zarrs"] > 1
    assert ratio["difference", "none", "zarrs"] < 1  # checksums and padding cost something


def test_noise_is_correlated_as_in_resampled_images():
    noise = image((600, 600))
    quiet = np.abs(noise) < 5 * NOISE
    clean = np.where(quiet, noise, 0)
    neighbours = (clean[:, 1:] * clean[:, :-1]).mean() / (clean**2).mean()
    assert 0.15 < neighbours < 0.5

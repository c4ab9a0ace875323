import numpy as np

from benchmarks.catalogues.spectral_rows import FEATURES, SHARES, write_rows
from flows.training.spectral_sample import archive_sample


def test_rows_are_read_as_those_of_the_archive(tmp_path):
    path = tmp_path / "rows.csv"
    write_rows(path, 3000, 1)
    sample = archive_sample(path, "superclass", FEATURES)
    assert len(sample.code) == 3000
    np.testing.assert_allclose(
        np.bincount(sample.code) / 3000, [SHARES["STAR"], SHARES["GALAXY"], SHARES["QSO"]], atol=0.04
    )
    assert sample.notes["duplicates"] == 0
    assert 0 < sample.notes["values_missing"]["u"] < 30

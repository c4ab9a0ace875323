import numpy as np
import pyarrow as pa
import pytest

from kernels.verdict import feature_matrix
from schemas.dia_source import CAUSES, DIA_SOURCE, DetectionFlag
from schemas.reliability import FEATURES, RESIDUALS, STATIC


def rows(**columns):
    count = len(next(iter(columns.values())))
    filled = {}
    for field in DIA_SOURCE.schema:
        filler = "" if pa.types.is_string(field.type) else None if field.nullable else 0
        filled[field.name] = columns.get(field.name, [filler] * count)
    return pa.table(filled, schema=DIA_SOURCE.schema)


def residuals(count):
    return np.arange(count * len(RESIDUALS), dtype=np.float32).reshape(count, len(RESIDUALS)) - 5


def static(count):
    return np.linspace(0, 3, count * len(STATIC), dtype=np.float32).reshape(count, len(STATIC))


def test_columns_are_what_the_schema_says():
    evidence = {f"{name}Evidence": [0.25 * n, 0.0] for n, (name, _, _) in enumerate(CAUSES)}
    table = rows(
        logitSum=[np.e - 1, -3.0], logitPeak=[4.0, -1.0], nHits=[9, 0], snr=[12.0, -2.0], trailLengthPx=[4.0, 0.0],
        trailChi2=[300.0, None], psfChi2=[900.0, None], trailNdata=[200, 0], sharpness=[1.0, None],
        negativeFraction=[0.25, None], maskedFraction=[0.1, 0.0],
        flags=[int(DetectionFlag.NEAR_BRIGHT_STAR), int(DetectionFlag.DIPOLE | DetectionFlag.FIT_FAILED)], **evidence,
    )  # fmt: skip
    matrix = feature_matrix(table, 2.0, residuals(2), static(2))
    assert matrix.dtype == np.float32
    trail, point = np.sqrt(300 - 260) / 12, np.sqrt(900 - 260) / 12
    causes = [0.25 * n for n in range(len(CAUSES))]
    expected = [1, 4, np.log(10), np.log(13), np.log(3), trail, point, np.log(2), 0.25, 0.1, 1, 0, 0]
    np.testing.assert_allclose(matrix[0], [*expected, *causes, np.log(2), *residuals(2)[0], *static(2)[0]], rtol=1e-6)
    faint = [0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    np.testing.assert_allclose(
        matrix[1], [*faint, *[0] * len(CAUSES), np.log(2), *residuals(2)[1], *static(2)[1]], rtol=1e-6
    )


def test_misfit_is_the_same_for_a_brighter_source_and_bounded():
    chi2 = 400 + 60 + (0.3 * np.array([50.0, 500.0])) ** 2
    table = rows(snr=[50.0, 500.0, 5.0], trailChi2=[*chi2, 1e6], trailNdata=[200, 200, 200])
    misfit = feature_matrix(table, 2.0, residuals(3), static(3))[:, FEATURES.index("trail_misfit")]
    assert misfit[0] == pytest.approx(np.sqrt(chi2[0] - 260) / 50)
    assert misfit[1] == pytest.approx(0.3, rel=0.01)
    assert misfit[2] == 3.0


def test_no_candidates_give_an_empty_matrix():
    assert feature_matrix(DIA_SOURCE.empty(), 2.0, residuals(0), static(0)).shape == (0, len(FEATURES))

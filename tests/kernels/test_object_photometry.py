import numpy as np
import pyarrow as pa

from kernels.object_photometry import WORST, object_photometry


def test_takes_magnitudes_with_a_small_enough_error():
    table = pa.table(
        {
            "g_apMag": pa.array([20.0, 21.0, None], pa.float32()),
            "g_apMagErr": pa.array([0.1, WORST + 0.01, None], pa.float32()),
        }
    )
    columns = object_photometry(table)
    np.testing.assert_array_equal(columns["g"], np.array([20.0, np.nan, np.nan], np.float32))
    assert set(columns) == set("ugriz")
    assert np.isnan(columns["u"]).all()

import numpy as np
import pyarrow as pa

from kernels.psf_stars import LEAST_SNR, psf_stars
from schemas.source import SOURCE
from tests.stages.science_night import exposure

INFO = exposure(7, "r")


def sources(**changed):
    """Six sources of the exposure, by default all bright and without a flag."""
    values = {
        "visit": 7,
        "detector": 0,
        "snr": LEAST_SNR,
        "flags": 0,
        "x": np.arange(6.0),
        "y": np.arange(6.0),
    } | changed
    columns = {}
    for field in SOURCE.schema:
        nothing = "r" if pa.types.is_string(field.type) else None if field.nullable else 0
        given = values.get(field.name)
        columns[field.name] = pa.array([nothing] * 6 if given is None else np.broadcast_to(given, 6), field.type)
    return pa.table(columns, schema=SOURCE.schema)


def test_bright_sources_of_the_exposure_without_a_flag_count():
    assert psf_stars(sources(), INFO)[0].tolist() == list(range(6))
    assert psf_stars(sources(visit=[7, 7, 8, 7, 8, 7]), INFO)[0].tolist() == [0, 1, 3, 5]
    assert psf_stars(sources(detector=[0, 1, 0, 0, 0, 1]), INFO)[0].tolist() == [0, 2, 3, 4]
    assert psf_stars(sources(flags=[0, 8, 0, 2, 1, 0]), INFO)[0].tolist() == [0, 2, 5]
    assert psf_stars(sources(snr=[31, 29.9, 31, 31, 5, 31]), INFO)[0].tolist() == [0, 2, 3, 5]
    assert len(psf_stars(SOURCE.empty(), INFO)[0]) == 0


def test_the_brightest_come_first_and_equals_by_their_place():
    x, y = psf_stars(sources(snr=[40, 90, 40, 50, 40, 60], y=[3, 0, 1, 0, 1, 0]), INFO)
    assert x.tolist() == [1, 5, 3, 2, 4, 0]
    assert y.tolist() == [0, 0, 0, 1, 1, 3]

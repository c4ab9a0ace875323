import pyarrow as pa

from benchmarks.detection.bright_stars import counted
from schemas.exposure import PsfModel
from tests.flows.results.page.conftest import make_info
from tests.support.truth import truth_table


def test_false_detections_around_stars_are_told_from_asteroids_there():
    info = make_info((1000, 900), psf=PsfModel(fwhm_px=2.5))
    sources = pa.table({"x": [500.0], "y": [500.0], "snr": [1000.0]})  # rings from 5 to 30 px
    x, y = [510.0, 520.0, 100.0, 300.0], [500.0, 500.0, 100.0, 300.0]
    rows = pa.table({"x": x, "y": y, "reliability": [0.9, 0.8, 0.9, 0.7]})
    truth = truth_table([("streak", x[n], y[n], 3.0, 20.0, 10.0, 1.0) for n in (0, 2)])
    found = counted(rows, sources, info, truth)
    assert (found.inside, found.false_inside, found.false) == (2, 1, 2)
    assert 0 < found.expected < 0.02
    assert counted(rows, sources.slice(0, 0), info, truth) is None

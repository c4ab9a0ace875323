import numpy as np
import pyarrow as pa

from kernels.vetoes.refusal import LEAST_EVIDENCE, REFUSING, refused
from schemas.dia_source import CAUSES


def table(rows):
    names = [f"{name}Evidence" for name, _, _ in CAUSES] + ["trailClass"]
    blank = dict.fromkeys(names[:-1], 0.0) | {"trailClass": ""}
    columns = {name: [(blank | row)[name] for row in rows] for name in names}
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def test_only_sure_evidence_for_certain_causes_refuses():
    rows = [{}, {"ghostEvidence": LEAST_EVIDENCE}, {"ghostEvidence": 1.4}, {"spikeEvidence": 2.0}, {"edgeEvidence": 2}]
    np.testing.assert_array_equal(refused(table(rows)), [False, True, False, False, False])


def test_satellites_are_never_refused():
    assert not refused(table([{"bleedEvidence": 2.0, "trailClass": "satellite"}])).any()


def test_causes_are_known():
    assert set(REFUSING) <= {name for name, _, _ in CAUSES}

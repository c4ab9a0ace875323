"""Files as faulty disks, transfers and header tools leave them: each is used, or refused with a reason."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.guard.file_mutations import mutated, used_or_refused
from flows.inputs.source import Source


@pytest.mark.parametrize("form", ["plain", "compressed", "sibling"])
def test_a_mutated_file_is_used_or_refused(write_ztf, sky, form):
    """Of 100 of each form nothing leaves the typed errors, whatever was changed; `make acceptance` reads thousands."""
    good = write_ztf(compressed=form == "compressed")
    spoilt = write_ztf(np.abs(sky) + 100, compressed=False, product="sciimg") if form == "sibling" else good
    source = Source(good, (("science", spoilt),) if form == "sibling" else ())
    original = Path(spoilt).read_bytes()
    verdicts = []
    for seed in range(100):
        Path(spoilt).write_bytes(mutated(original, spoilt, f"{form} {seed}"))
        verdicts.append(used_or_refused(source))
    assert verdicts.count("used") > 10
    assert len(set(verdicts)) > 3

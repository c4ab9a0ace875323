import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from flows.report.detection import COLUMNS
from flows.report.night import Exposure
from flows.report.panel import panel, share_cutouts


@given(st.lists(st.integers(0, 60), max_size=30), st.integers(0, 30), st.integers(0, 400))
def test_cutouts_are_shared_fairly_and_all_used(wanted, each, total):
    shares = share_cutouts(wanted, each, total)
    limits = [min(want, each) for want in wanted]
    assert sum(shares) == min(total, sum(limits))
    assert all(share <= limit for share, limit in zip(shares, limits, strict=True))
    # Who has less than another, by more than one, has all that it wants.
    assert all(
        share >= max(shares, default=0) - 1 or share == limit for share, limit in zip(shares, limits, strict=True)
    )


def exposure(kit, tmp_path, n):
    info = kit.info()
    rows = kit.rows(info, n, 4)
    record = kit.publish(tmp_path, info, rows, 4)
    table = kit.table(rows).select(COLUMNS)
    return info, Exposure(record, table)


def test_the_most_reliable_get_a_cutout(kit, tmp_path):
    info, taken = exposure(kit, tmp_path, 9)
    drawn = panel(taken, info, *kit.pixels(info.shape, 4), 5)
    best = sorted(taken.sources["reliability"].to_pylist(), reverse=True)[:5]
    assert [cutout.mark.detection.reliability for cutout in drawn.cutouts] == best
    assert drawn.shown == {cutout.mark.detection.id for cutout in drawn.cutouts}
    assert len(drawn.overview.marks) == 9
    assert drawn.left_out == 4
    assert drawn.caption.endswith("Cutouts: the 5 most reliable; 4 are left out.")
    assert (drawn.title, drawn.subtitle) == ("Visit 101, detector 3", "r · 2026-11-03 07:12:49 UTC")


def test_an_exposure_without_detections(kit, tmp_path):
    info, taken = exposure(kit, tmp_path, 0)
    assert isinstance(taken.sources, pa.Table)
    drawn = panel(taken, info, *kit.pixels(info.shape, 4), 5)
    assert (drawn.cutouts, drawn.left_out, drawn.overview.marks) == ((), 0, ())
    assert drawn.caption == "380 × 420 px, full resolution; 0 detections marked."

import io

from rich.console import Console

from flows.status import NightStatus, Status
from flows.status_table import MOST, show_status
from schemas.ledger import Percentiles, WatchRecord
from schemas.summary import ExposureCounts, Trouble


def shown(status):
    console = Console(file=io.StringIO(), width=200)
    show_status(status, console)
    return console.file.getvalue()


def test_a_night_is_a_row_with_its_troubles_below():
    troubles = tuple(Trouble(uri=f"{number}", code="deadline", message=f"late {number}") for number in range(MOST + 2))
    lag = Percentiles(n=3, p50=31.24, p99=600)
    night = NightStatus("20260101", {"done": 7, "failed": 22}, 1234, lag, {"detect: net 1": 7}, troubles)
    text = shown(Status((night,), None, None))
    row = next(line for line in text.splitlines() if "20260101" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == [
        "20260101", "7", "0", "0", "22", "1,234", "31.2 s / 10.0 min",
    ]  # fmt: skip
    assert "20260101 detect: net 1: 7 exposures" in text
    assert f"late {MOST - 1}" in text
    assert f"late {MOST}\n" not in text
    assert "2 more, see --json" in text


def test_a_stream_is_told_in_a_line():
    counts = ExposureCounts(seen=5, done=3, skipped=1, quarantined=1, failed=0)
    watch = WatchRecord(
        state="running", source="in", host="h", pid=1, since="then", updated_at="now", on_the_way=2, waiting=9,
        exposures=counts, lag_s=Percentiles(n=3, p50=90000.0, p99=9e5), turnaround_s=Percentiles(n=3, p50=1.0, p99=2.0),
    )  # fmt: skip
    text = shown(Status((), None, watch))
    assert "watch of in: running at now; 2 on the way, 9 waiting; 3 done, 1 skipped, 1 quarantined, 0 failed" in text
    assert "from shutter close 25.0 h / 10.4 d, from arrival 1.0 s / 2.0 s" in text


def test_the_lag_of_an_archive_is_not_told():
    def row(p50, p99):
        night = NightStatus("20260101", {"done": 9}, 1, Percentiles(n=9, p50=p50, p99=p99), {}, ())
        return next(line for line in shown(Status((night,), None, None)).splitlines() if "20260101" in line)

    assert "│ archive " in row(8 * 86400.0, 9 * 86400.0)
    assert "│ 6.0 d / 2000.0 d " in row(6 * 86400.0, 2000 * 86400.0)  # one straggler does not hide how late a night was
    counts = ExposureCounts(seen=5, done=5, skipped=0, quarantined=0, failed=0)
    watch = WatchRecord(
        state="running", source="in", host="h", pid=1, since="then", updated_at="now", on_the_way=0, waiting=0,
        exposures=counts, lag_s=Percentiles(n=3, p50=1e8, p99=1e8), turnaround_s=Percentiles(n=3, p50=1.0, p99=2.0),
    )  # fmt: skip
    assert "from shutter close archive, from arrival 1.0 s / 2.0 s" in shown(Status((), None, watch))

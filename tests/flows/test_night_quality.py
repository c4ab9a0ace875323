from flows.night_quality import with_quality
from schemas.settings import Settings
from schemas.summary import RunSummary
from tests.flows.report.conftest import NIGHT, make_info, make_rows, make_summary, publish

LIMITS = {"all": {"seeing": [0, 1]}}


def judged(out, **settings) -> RunSummary:
    info = make_info((60, 70))
    publish(out, info, make_rows(info, 4, 1), 1)
    return with_quality(make_summary(1, 0), NIGHT, out, Settings(quality=settings))


def test_a_failed_gate_is_told_and_fails_nothing(tmp_path):
    summary = judged(tmp_path, limits=LIMITS)
    assert summary.quality[NIGHT][0].verdict == "fail"
    assert (summary.quality_failed, summary.exit_code) == ((), 0)


def test_it_fails_the_night_where_the_settings_say_so(tmp_path):
    summary = judged(tmp_path, limits=LIMITS, fail_night=True)
    assert summary.exit_code == 1
    assert f"night {NIGHT}, ZTF r: fail seeing" in summary.quality_failed[0].message
    assert judged(tmp_path, fail_night=True).exit_code == 0


def test_what_cannot_be_judged_is_a_warning(tmp_path):
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "quality").write_text("a file where the folder should be")
    summary = judged(tmp_path)
    assert summary.exit_code == 0
    assert summary.warnings[0].startswith(f"quality of night {NIGHT} not judged: ")

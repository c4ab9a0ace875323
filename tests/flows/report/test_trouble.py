from flows.report.night import read_night
from flows.report.trouble import Trouble, troubles
from schemas.summary import Trouble as Failure


def test_failures_come_before_the_quarantine(kit, tmp_path):
    kit.quarantine(tmp_path)
    failure = Failure(uri="s3://bucket/x/late.fits.fz", code="deadline", message="the visit was out of time.")
    summary = kit.summary(2, 1).model_copy(update={"failed": (failure,)})
    assert troubles(read_night(tmp_path, kit.NIGHT, summary)) == (
        Trouble("failed", "late.fits.fz", "deadline", "the visit was out of time.", ""),
        Trouble(
            "quarantined",
            "bad.fits.fz",
            "missing_keyword",
            "bad.fits.fz: MAGZP: is <missing> & needed.",
            "add the keyword.",
        ),
    )


def test_no_trouble(kit, tmp_path):
    assert troubles(read_night(tmp_path, kit.NIGHT, None)) == ()

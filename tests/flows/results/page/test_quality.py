from flows.results.page.page import write_report
from flows.results.page.quality import quality_of
from flows.results.quality.assess import assess
from flows.storage.ledger import Ledger
from schemas.exposure import PsfModel
from schemas.quality import BandQuality, Drift, QualityRecord, QualitySettings


def history(kit, out, count=20):
    for day in range(1, count + 1):
        info = kit.info((60, 70), 100 + day, night=f"202610{day:02d}", psf=PsfModel(fwhm_px=2.2 + 0.05 * (day % 5)))
        kit.publish(out, info, kit.rows(info, 6, day), day)
        assess(out, info.night, QualitySettings())
    info = kit.info((60, 70), 300, psf=PsfModel(fwhm_px=4.0))
    kit.publish(out, info, kit.rows(info, 6, 1), 1)
    assess(out, kit.NIGHT, QualitySettings(limits={"all": {"zero_point": (25, 27)}}))


def test_the_page_shows_verdicts_and_history(kit, tmp_path):
    history(kit, tmp_path)
    (band,) = quality_of(tmp_path, kit.NIGHT)
    assert (band.name, band.verdict) == ("ZTF, r", "fail")
    seeing = band.gates[0]
    assert seeing.cells[0].startswith("FWHM of the PSF")
    assert (seeing.cells[1], seeing.cells[4], seeing.style) == ("4 arcsec", "20", "verdict-fail")
    assert next(line for line in band.gates if line.cells[0].startswith("Zero point")).cells[2] == "≥ 25, ≤ 27"
    assert band.charts[0][1].count("<circle") == 21
    html = write_report(tmp_path, kit.NIGHT).read_text()
    assert 'id="quality"' in html
    assert "look at focus" in html


def test_a_night_that_was_not_judged_has_no_such_part(kit, tmp_path):
    kit.night(tmp_path, visits=1)
    assert quality_of(tmp_path, kit.NIGHT) == ()
    assert 'id="quality"' not in write_report(tmp_path, kit.NIGHT).read_text()


def test_charts_begin_with_the_second_night(kit, tmp_path):
    history(kit, tmp_path, 1)
    (first,) = quality_of(tmp_path, "20261001")
    assert first.gates
    assert first.charts == ()
    assert "<figcaption>Zero point" not in write_report(tmp_path, "20261001").read_text()
    (second,) = quality_of(tmp_path, kit.NIGHT)
    assert dict(second.charts)["Zero point"].count("<circle") == 2


def test_distributions_are_said_to_drift_where_that_is_a_warning(kit, tmp_path):
    drifts = (
        Drift(feature="snr", verdict="warn", n=1200, psi=0.4321, distance=0.25, p=0.004, usual=0.06, remedy="look."),
        Drift(feature="trailLength", verdict="pass", n=7, psi=0.012, distance=0.1, p=1.0, usual=0.2),
        Drift(feature="reliability", verdict="no_history", n=7),
    )
    judged = BandQuality(instrument="ZTF", band="r", verdict="warn", gates=(), drifts=drifts, reference=())
    Ledger(tmp_path).put_quality(
        QualityRecord(night=kit.NIGHT, digest="", rules="", measured=(), judged=(judged,), software="1")
    )
    (band,) = quality_of(tmp_path, kit.NIGHT)
    drifting, steady = band.drifts  # the third was compared with nothing
    assert (drifting.verdict, drifting.style, drifting.remedy) == ("drift", "verdict-warn", "look.")
    assert drifting.cells[0] == "snr"
    assert drifting.cells[2:] == ("0.432", "0.250", "0.060", "0.004")
    assert (steady.verdict, steady.style, steady.cells[:2]) == ("as before", "verdict-pass", ("trailLength", "7"))

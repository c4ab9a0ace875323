from flows.results.page.page import write_report
from flows.results.page.quality import quality_of
from flows.results.quality.assess import assess
from flows.storage.ledger import Ledger
from schemas.exposure import PsfModel
from schemas.quality import BandQuality, Drift, Gate, QualityRecord, QualitySettings


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


def put_judged(out, kit, gates, night=None, **given):
    judged = BandQuality(instrument="ZTF", band="r", verdict="pass", gates=gates, drifts=(), reference=(), **given)
    record = QualityRecord(night=night or kit.NIGHT, digest="", rules="", measured=(), judged=(judged,), software="1")
    Ledger(out).put_quality(record)


def test_values_are_told_with_their_units_and_limits(kit, tmp_path):
    gates = (
        Gate(
            metric="seeing", verdict="pass", value=2.34567, unit="arcsec", limits=(None, 4.0), median=2.2, nights=1200
        ),
        Gate(metric="snr_of_half", verdict="warn", value=7.5, unit="", limits=(1.0, None), median=6.0, sigma=0.123),
        Gate(metric="depth", verdict="warn", value=None, unit="mag"),
    )
    put_judged(tmp_path, kit, gates, notes=("so it is",))
    (band,) = quality_of(tmp_path, kit.NIGHT)
    assert [line.cells[1:] for line in band.gates] == [
        ("2.346 arcsec", "≤ 4", "2.2 ± 0", "1,200"), ("7.5", "≥ 1", "6 ± 0.12", "0"), ("–", "–", "–", "0"),
    ]  # fmt: skip
    assert [line.style for line in band.gates] == ["verdict-pass", "verdict-warn", "verdict-warn"]
    assert (band.style, band.notes) == ("verdict-pass", ("so it is",))


def test_charts_go_back_a_limited_number_of_nights_in_the_same_unit(kit, tmp_path, monkeypatch):
    monkeypatch.setattr("flows.results.page.quality.NIGHTS", 3)
    for day in range(1, 6):
        gate = Gate(metric="noise", verdict="pass", value=float(day), unit="adu" if day != 4 else "nJy")
        put_judged(tmp_path, kit, (gate,), f"2026110{day}")
    for night, seen in (("20261105", ["20261103", "20261105"]), ("20261103", ["20261101", "20261102", "20261103"])):
        (band,) = quality_of(tmp_path, night)
        ((name, svg),) = band.charts
        assert name == "Noise of a pixel"
        assert f'aria-label="Noise of a pixel over {len(seen)} nights"' in svg
        assert [f"<title>{label}:" in svg for label in seen] == [True] * len(seen)
        assert svg.count("<circle") == len(seen)
    assert quality_of(tmp_path, "20261104")[0].charts == ()


def test_what_has_no_value_has_no_chart_and_sixty_nights_are_the_most(kit, tmp_path):
    from flows.results.page.quality import NIGHTS

    for day in (1, 2):
        put_judged(tmp_path, kit, (Gate(metric="depth", verdict="warn", value=None, unit="mag"),), f"2026110{day}")
    assert quality_of(tmp_path, "20261102")[0].charts == ()
    assert NIGHTS == 60

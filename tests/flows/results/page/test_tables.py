import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.results.page.night import read_night
from flows.results.page.page import write_report
from flows.results.page.tables import (
    HEADINGS,
    LENGTH_EDGES,
    NIGHTS,
    SNR_EDGES,
    CauseRow,
    TroubleRow,
    assumed_notes,
    cause_rows,
    cause_words,
    counts,
    exposure_row,
    figures,
    headline,
    lead,
    length_histogram,
    quality_of,
    refused_words,
    snr_histogram,
    timing,
    troubles,
)
from flows.results.quality.assess import assess
from flows.results.quality.measure import depth
from flows.storage.ledger import Ledger
from kernels.measure.vetoes.evidence import count_causes
from schemas.exposure import PsfModel
from schemas.ledger import QuarantineRecord
from schemas.quality import BandQuality, Drift, Gate, QualityRecord, QualitySettings
from schemas.summary import CauseCount, ExposureCounts
from schemas.summary import Trouble as Failure

COUNTS = {
    "spike": CauseCount(refused=1200, published=1),
    "bleed": CauseCount(),
    "cosmic_ray": CauseCount(refused=3),
    "satellite": CauseCount(published=2),
}


def test_night_sums_its_exposures_and_leaves_out_what_did_not_occur(kit, tmp_path):
    kit.night(tmp_path, visits=3)
    night = read_night(tmp_path, kit.NIGHT, None)
    exposures = tuple(
        replace(one, record=one.record.model_copy(update={"causes": COUNTS})) for one in night.exposures[:2]
    )
    assert cause_rows(replace(night, exposures=exposures)) == (
        CauseRow("diffraction spike", "2,400", "2"),
        CauseRow("cosmic ray", "6", "0"),
        CauseRow("satellite", "0", "4"),
    )


def test_a_line_names_what_was_refused():
    assert refused_words(COUNTS) == "diffraction spike 1,200, cosmic ray 3"
    assert refused_words({}) == "–"


def test_every_cause_that_is_counted_has_words():
    import numpy as np

    for name in count_causes(np.zeros(0, int), np.zeros(0, bool)):
        assert cause_words(name)
    assert cause_words("a_later_cause") == "a later cause"


def test_failures_come_before_the_quarantine(kit, tmp_path):
    kit.quarantine(tmp_path)
    failure = Failure(uri="s3://bucket/x/late.fits.fz", code="deadline", message="the visit was out of time.")
    summary = kit.summary(2, 1).model_copy(update={"failed": (failure,)})
    assert troubles(read_night(tmp_path, kit.NIGHT, summary)) == (
        TroubleRow("failed", "late.fits.fz", "deadline", "the visit was out of time.", ""),
        TroubleRow(
            "quarantined",
            "bad.fits.fz",
            "missing_keyword",
            "bad.fits.fz: MAGZP: is <missing> & needed.",
            "add the keyword.",
        ),
    )


def test_no_trouble(kit, tmp_path):
    assert troubles(read_night(tmp_path, kit.NIGHT, None)) == ()


@given(
    st.dictionaries(st.sampled_from(["read", "detect", "merge", "other", "waiting"]), st.floats(0.001, 1e4), min_size=1)
)
def test_stages_share_the_bar(seconds):
    found = timing(seconds)
    assert [stage.stage for stage in found.stages] == list(seconds)
    widths = [float(rect.get("width")) for rect in ElementTree.fromstring(found.bar).iter("rect")]
    assert widths == pytest.approx([1000 * time / sum(seconds.values()) for time in seconds.values()], abs=0.006)


def test_elapsed_time_is_no_worker_time():
    found = timing(
        {"wall": 100.0, "startup": 5.0, "search": 4.0, "report": 2.0, "read": 1.0, "detect": 3.0, "merge": 0.0}
    )
    assert [(stage.stage, stage.time, stage.share) for stage in found.stages] == [
        ("read", "1.0 s", "25 %"),
        ("detect", "3.0 s", "75 %"),
    ]
    assert found.total == "4.0 s"


def test_what_is_no_stage_has_a_colour_of_its_own():
    found = timing({"detect": 3.0, "other": 1.0, "waiting": 2.0})
    assert [stage.style for stage in found.stages] == ["part-0", "part-other", "part-waiting"]


def test_nothing_timed():
    assert timing({"wall": 3.0}) is None


@pytest.fixture
def exposure(kit, tmp_path):
    kit.night(tmp_path, visits=1)
    return read_night(tmp_path, kit.NIGHT, None).exposures[0]


def told(exposure, info):
    row = exposure_row(exposure, info)
    assert [cell.name for cell in row.cells] == [name for name, _ in HEADINGS]
    return {cell.name: cell.value for cell in row.cells}


def test_all_is_known(kit, exposure):
    info = kit.info()
    assert told(exposure, info) == {
        "Visit": "101",
        "Detector": "3",
        "Band": "r",
        "Middle": "2026-11-03 07:12:49",
        "Seeing": "2.20″",
        "Noise": "12.00 adu",
        "Zero point": "26.300",
        "Depth": f"{depth(info):.2f}",
        "Masked": "0.0 %",
        "Windows": "3,000",
        "Unscored": "40",
        "Detections": "9",
        "Refused": "–",
        "Worker time": "6.4",
        "Notes": "",
        "File": "101_3.fits.fz",
    }
    assert not any(cell.assumed for cell in exposure_row(exposure, info).cells)


def test_no_sky_and_no_zero_point(kit, exposure):
    bare = kit.info(wcs_header=None, zero_point=None, flags=("no_wcs", "no_zero_point", "odd_thing"))
    cells = told(exposure, bare)
    assert (cells["Seeing"], cells["Zero point"], cells["Depth"]) == ("2.20 px", "–", "–")
    assert cells["Notes"] == "no WCS, no zero point, odd thing"


def test_tiles_are_gone(exposure):
    cells = told(exposure, None)
    assert {cells[name] for name in ("Band", "Middle", "Seeing", "Noise", "Zero point", "Depth", "Masked")} == {"–"}
    assert (cells["Windows"], cells["Notes"]) == ("3,000", "tiles are gone")


@pytest.fixture
def infos(kit):
    return [kit.info(visit=visit, zero_point=zero) for visit, zero in ((101, 26.0), (102, 26.5), (103, None))]


def test_lead_says_who_what_and_when(kit, tmp_path, infos):
    kit.night(tmp_path, visits=3)
    night = read_night(tmp_path, kit.NIGHT, None)
    assert lead(night, infos) == ("ZTF", "r", "3 visits of 1 detector", "2026-11-03 07:12 to 07:15 UTC")
    assert lead(night, infos[:1])[-1] == "2026-11-03 07:12 UTC"
    over_midnight = [infos[0], kit.info(midpoint_mjd_tai=61348.1)]
    assert lead(night, over_midnight)[-1] == "2026-11-03 07:12 to 2026-11-04 02:23 UTC"
    unknown = kit.info(midpoint_mjd_tai=51544.5, flags=("no_time",))
    assert [lead(night, some)[-1] for some in ([unknown], [unknown, infos[0]])] == [
        "time not known", "2026-11-03 07:12 UTC",
    ]  # fmt: skip
    assert lead(night, []) == ("3 visits of 1 detector", "tiles are gone")
    assert lead(replace(night, exposures=()), []) == ("No exposure was published.",)
    simulated = [kit.info(visit=one.visit, flags=("simulated",)) for one in infos]
    assert lead(night, simulated)[0] == "ZTF, simulated"
    assert lead(night, [*infos[:2], simulated[0]])[0] == "ZTF, 1 exposure simulated"


def test_figures_of_a_night(kit, tmp_path, infos):
    kit.night(tmp_path, visits=3, each=8)
    kit.quarantine(tmp_path)
    night = read_night(tmp_path, kit.NIGHT, kit.summary(4, 1))
    told_of_headline = {figure.name: (figure.value, figure.note) for figure in figures(night, infos)}
    reliable = sum(value >= 0.9 for value in night.sources["reliability"].to_pylist())
    assert told_of_headline["Exposures published"] == ("3", "1 quarantined")
    assert told_of_headline["Places searched"] == ("9,000", "120 too masked to score")
    assert told_of_headline["Detections"] == ("24", f"{reliable} of reliability 0.9 or more")
    middle = (depth(infos[0]) + depth(infos[1])) / 2
    assert told_of_headline["Median depth"] == (f"{middle:.2f} mag", "point source, 5σ; 2 exposures")
    assert told_of_headline["Wall time"] == ("14 s", "634 places a second")


def test_no_figure_is_made_up(kit, tmp_path):
    told_of_headline = {figure.name for figure in figures(read_night(tmp_path, kit.NIGHT, None), [])}
    assert told_of_headline == {"Exposures published", "Places searched", "Detections"}


def test_a_rerun_does_not_divide_old_windows_by_new_time(kit, tmp_path, infos):
    kit.night(tmp_path, visits=3)
    idle = kit.summary(3, 0).model_copy(update={"windows": 0})
    told_of_headline = {figure.name: figure.note for figure in figures(read_night(tmp_path, kit.NIGHT, idle), infos)}
    assert told_of_headline["Wall time"] == ""


def test_counts_add_up():
    told_of_headline = counts(ExposureCounts(seen=10, done=6, skipped=0, quarantined=3, failed=1))
    widths = [float(rect.get("width")) for rect in ElementTree.fromstring(told_of_headline.bar).iter("rect")]
    assert widths == pytest.approx([600, 300, 100])
    assert [(name, value) for name, _, value in told_of_headline.parts] == [
        ("done", "6"),
        ("skipped", "0"),
        ("quarantined", "3"),
        ("failed", "1"),
    ]
    assert told_of_headline.total == "= 10 seen by this run"


def told_of_headline(chart):
    """(lower edge, class, count) of each bar."""
    found = []
    for rect in ElementTree.fromstring(chart).iter("rect"):
        span, count = re.fullmatch(r"(\S+) to .*: ([\d,]+)", rect.find("title").text).groups()
        found.append((float(span), rect.get("class"), int(count.replace(",", ""))))
    return found


@given(st.lists(st.tuples(st.floats(-5, 1e6), st.floats(0, 1)), max_size=50))
def test_every_detection_is_counted_once(pairs):
    value, reliability = (np.array(pairs, float).reshape(-1, 2)).T
    for chart in (snr_histogram(value, reliability), length_histogram(value, reliability)):
        assert sum(count for _, _, count in told_of_headline(chart)) == len(pairs)


@pytest.mark.parametrize(("chart", "edges"), [(snr_histogram, SNR_EDGES), (length_histogram, LENGTH_EDGES)])
def test_bins_and_classes(chart, edges):
    value = np.array([0.0, edges[0], edges[3], edges[4] - 0.001, edges[-1], 1e9])
    reliability = np.array([0.95, 0.9, 0.7, 0.69999, 0.5, 0.0])
    assert sorted(told_of_headline(chart(value, reliability))) == sorted(
        [
            (0.0, "grade-a", 1),
            (edges[0], "grade-a", 1),
            (edges[3], "grade-b", 1),
            (edges[3], "grade-c", 1),
            (edges[-1], "grade-c", 1),
            (edges[-1], "grade-d", 1),
        ]
    )


def test_the_number_is_read_aloud():
    chart = snr_histogram(np.array([5.0]), np.array([1.0]))
    assert ElementTree.fromstring(chart).get("aria-label") == "Histogram of 1 detection by signal to noise"


def test_stages_take_turns_with_eight_colours():
    found = timing({f"stage{n}": 1.0 for n in range(10)})
    assert [stage.style for stage in found.stages] == [f"part-{n}" for n in (*range(8), 0, 1)]
    assert {stage.share for stage in found.stages} == {"10 %"}


def test_a_run_of_no_time_has_no_rate(kit, tmp_path):
    kit.night(tmp_path, visits=1)
    for wall, note in ((0.0, ""), (2.0, "1,500 places a second"), (2000.0, "2 places a second")):
        night = read_night(tmp_path, kit.NIGHT, kit.summary(1, 0, {"wall": wall}))
        assert figures(night, [])[-1].note == note


def test_shares_and_digits_of_a_row(kit, exposure):
    info = kit.info(masked_fraction=0.0625, zero_point=26.12345, noise=3.14159)
    cells = told(exposure, info)
    assert (cells["Masked"], cells["Zero point"], cells["Noise"]) == ("6.2 %", "26.123", "3.14 adu")
    two = replace(exposure, record=exposure.record.model_copy(update={"seconds": {"a": 1.25, "b": 2.5}}))
    assert told(two, info)["Worker time"] == "3.8"
    wide = kit.info(wcs_header=kit.cards((420, 380)).replace("0.00027777777777778", "0.00055555555555556"))
    assert told(exposure, wide)["Seeing"] == "4.40″"


def test_a_histogram_is_stacked_and_scaled_to_the_highest_pile():
    value, reliability = np.array([5.5] * 8 + [9.0]), np.array([0.95] * 3 + [0.6] * 5 + [0.1])
    root = ElementTree.fromstring(snr_histogram(value, reliability))
    words = [text.text for text in root.iter("text")]
    assert words[:5] == ["0", "2", "4", "6", "8"]
    assert words[5:-2] == ["0", *map(str, SNR_EDGES), "∞"]
    assert words[-2:] == ["signal to noise", "detections"]
    assert [rect.find("title").text for rect in root.iter("rect")] == [
        "5 to 6, reliability 0.9 and more: 3",
        "5 to 6, reliability 0.5 to 0.7: 5",
        "8 to 10, reliability below 0.5: 1",
    ]
    assert SNR_EDGES == (4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 100)
    assert LENGTH_EDGES == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


def test_what_was_assumed_is_told_once_for_each_kind(kit, exposure):
    unsure = kit.info(
        flags=("assumed_psf", "assumed_site", "no_zero_point"), psf=PsfModel(fwhm_px=2.5, source="assumed")
    )
    first, second, third, remedy = assumed_notes([unsure, unsure, kit.info(flags=("assumed_site",))], 3)
    assert first.startswith("Assumed or not known, 2 exposures: no header tells the PSF, and there are no")
    assert second.startswith("Assumed or not known, 3 exposures: the longitude")
    assert third.startswith("Assumed or not known, 2 exposures: no zero point")
    assert remedy.startswith("nightstride inspect FILE tells")
    assert assumed_notes([unsure], 900)[0].startswith("Assumed or not known, 1 exposure of 1 looked at:")
    assert assumed_notes([kit.info()], 1) == ()
    cells = {cell.name: cell for cell in exposure_row(exposure, unsure).cells}
    assert (cells["Seeing"].value, cells["Seeing"].assumed, cells["Depth"].assumed) == ("2.50″", "PSF", "PSF")
    assert cells["Notes"].value == "PSF assumed, site assumed, no zero point"
    timed = exposure_row(exposure, kit.info(flags=("ambiguous_time",)))
    assert [cell.name for cell in timed.cells if cell.assumed == "time"] == ["Middle"]


def sentence(night, infos):
    return [(part.value, part.assumed) for part in headline(night, infos)]


def test_the_first_sentence_says_what_was_searched_how_deep_and_how_sharp(kit, tmp_path):
    kit.night(tmp_path, visits=3)
    kit.quarantine(tmp_path)
    failure = Failure(uri="late.fits", code="deadline", message="out of time.")
    summary = kit.summary(5, 1).model_copy(update={"failed": (failure,)})
    night = read_night(tmp_path, kit.NIGHT, summary)
    red, green = kit.info(), kit.info(band="g", zero_point=25.0)
    limits = f"limit {depth(green):.1f} in g, {depth(red):.1f} in r"
    assert sentence(night, [red, red, green]) == [
        ("3 of 5 exposures searched", ""), (limits, ""), ("seeing 2.2″", ""),
    ]  # fmt: skip


def test_what_failed_is_counted_once_and_with_its_own_night(kit, tmp_path):
    kit.night(tmp_path, visits=2)
    first = next(iter(Ledger(tmp_path).records(kit.NIGHT)))
    given_up = {"visit": 999, "source_uri": "lost.fits", "status": "failed", "reason": "deadline: late", "datasets": {}}
    Ledger(tmp_path).put(first.model_copy(update=given_up))
    failed = tuple(Failure(uri=uri, code="deadline", message="late") for uri in (first.source_uri, "lost.fits", "x"))
    run = kit.summary(5, 0).model_copy(update={"failed": failed})
    two = run.model_copy(update={"nights": (kit.NIGHT, "20261104")})
    told = [sentence(read_night(tmp_path, kit.NIGHT, one), [])[0][0] for one in (run, two, None)]
    assert told == ["2 of 4 exposures searched", "2 of 3 exposures searched", "2 of 3 exposures searched"]


def test_files_in_quarantine_that_are_of_no_lost_exposure_are_told_by_themselves(kit, tmp_path):
    kit.night(tmp_path, visits=2)
    night = read_night(tmp_path, kit.NIGHT, None)
    (searched, *_) = (exposure.record.key for exposure in night.exposures)
    lost = searched.model_copy(update={"visit": 999})
    refused = tuple(
        QuarantineRecord(code="c", where="w", problem="p", remedy="r", source_uri=str(n), key=key, when="now")
        for n, key in enumerate((lost, lost, searched, None, None))
    )
    told = [part.value for part in headline(replace(night, quarantined=refused), [])]
    assert told == [
        "2 of 3 exposures searched", "2 files of no known night in quarantine",
        "2 further files of these exposures in quarantine",
    ]  # fmt: skip
    assert [part.value for part in headline(replace(night, quarantined=refused[3:4]), [])] == [
        "2 of 2 exposures searched", "1 file of no known night in quarantine",
    ]  # fmt: skip


def test_what_the_first_sentence_rests_on_is_said(kit, tmp_path):
    kit.night(tmp_path, visits=1)
    night = read_night(tmp_path, kit.NIGHT, None)
    unsure = kit.info(psf=PsfModel(fwhm_px=2.5, source="assumed"), flags=("assumed_psf",))
    assert [assumed for _, assumed in sentence(night, [unsure])] == ["", "PSF", "PSF"]
    bare = kit.info(wcs_header=None, zero_point=None)
    assert sentence(night, [bare]) == [
        ("1 of 1 exposure searched", ""), ("limit not known: no zero point", ""), ("seeing 2.2 px", ""),
    ]  # fmt: skip
    assert sentence(night, []) == [("1 of 1 exposure searched", "")]


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
    monkeypatch.setattr("flows.results.page.tables.NIGHTS", 3)
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
    for day in (1, 2):
        put_judged(tmp_path, kit, (Gate(metric="depth", verdict="warn", value=None, unit="mag"),), f"2026110{day}")
    assert quality_of(tmp_path, "20261102")[0].charts == ()
    assert NIGHTS == 60

from dataclasses import replace

import numpy as np
import pytest

from flows.results.evaluation.evaluate import Truth, evaluate
from flows.results.evaluation.published import nights_judged, read_image, searched_exposures
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import write_exposure
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.matched_filter import template_snr
from kernels.trails.trail_model import trail_image
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.exposure import ExposureKey, PsfModel
from schemas.pixels import MaskPlane
from schemas.settings import TileSettings
from tests.support.exposure import exposure_info, exposure_record
from tests.support.filled import filled_rows

SHAPE = (300, 400)
BACKGROUND, NOISE = 12.0, 3.0
STREAKS = ((100.2, 80.7, 14.0, 30.0), (350.0, 200.0, 0.0, 0.0), (2.0, 150.0, 20.0, 90.0), (200.0, 250.0, 10.0, 0.0))
FLUX = 400.0


def key_of(visit):
    return ExposureKey(night="20260101", visit=visit, detector=3)


def truth_of(fwhm=2.4):
    x, y, length, angle = np.array(STREAKS).T
    n = len(x)
    visit, detector, one = np.full(n, 1), np.full(n, 3), np.ones(n)
    return Truth(np.full(n, "streak"), visit, detector, x, y, 9 * one, length, angle, one, fwhm * one, 3 * one)


def publish(out, key, rows=(), status="done"):
    table = DIA_SOURCE.schema.empty_table()
    if rows:
        table = filled_rows(DIA_SOURCE.schema, rows)
    CatalogStore(out).publish(DIA_SOURCE, key, table, "d")
    Ledger(out).put(exposure_record(key, source_uri="file", status=status, finished_at="2026-01-01T00:00:00Z"))


def store(out, key, pixels, mask=None):
    info = exposure_info(
        SHAPE,
        **key.model_dump(),
        midpoint_mjd_tai=60000.0,
        psf=PsfModel(fwhm_px=2.4, beta=3.0),
        background=BACKGROUND,
        noise=NOISE,
        masked_fraction=0.1,
        source_uri="file",
        source_sha256="0",
    )
    mask = np.zeros(SHAPE, np.uint16) if mask is None else mask
    planes = {"difference": pixels.astype(np.float32), "mask": mask}
    write_exposure(out / "tiles" / key.night / f"{key.name}.zarr", info, planes, TileSettings(), "d")


def seen_psf():
    """Moffat profile of FWHM 2.4 px in the image itself, pixels included."""
    effective = moffat_mixture(2.4, 3.0)
    return effective._replace(sigmas=np.sqrt(effective.sigmas**2 - 1 / 12))


def scene():
    return BACKGROUND + FLUX * sum(trail_image(SHAPE, *streak, seen_psf()) for streak in STREAKS)


def test_every_exposure_that_is_done_is_an_image(tmp_path):
    publish(
        tmp_path, key_of(1), [{"x": 100.0, "y": 81.0, "reliability": 0.9}, {"x": 9.0, "y": 9.0, "reliability": 0.2}]
    )
    publish(tmp_path, key_of(2))
    publish(tmp_path, key_of(4), status="quarantined")
    keys = searched_exposures(tmp_path)
    assert [key.visit for key in keys] == [1, 2]
    found = evaluate(read_image(tmp_path, key, truth_of()) for key in keys)
    assert found.images == 2
    assert found.found.tolist() == [True, False, False, False]
    assert found.false_per_image == 0.5
    assert np.isnan(found.oracle_snr).all()  # there are no tiles


def test_what_has_a_class_is_classed(tmp_path):
    classes = ["asteroid", "", "satellite"]
    publish(tmp_path, key_of(1), [{"trailClass": one} for one in classes])
    assert read_image(tmp_path, key_of(1), truth_of()).detections.classed.tolist() == [True, False, True]


def test_nights_of_which_the_truth_has_an_image_are_judged(tmp_path):
    keys = [key_of(1), key_of(2), ExposureKey(night="20260102", visit=1, detector=4)]
    assert nights_judged(truth_of(), keys, tmp_path) == {"20260101"}
    assert nights_judged(truth_of().take(slice(0)), keys, tmp_path) == {"20260101", "20260102"}
    with pytest.raises(Misconfigured, match=r"none of the 2 images of .*; its first is visit 1, detector 3") as other:
        nights_judged(truth_of(), keys[1:], tmp_path)
    assert other.value.code == "other_truth"


def test_nothing_searched(tmp_path):
    with pytest.raises(Misconfigured, match="no exposure that was searched") as raised:
        searched_exposures(tmp_path)
    assert raised.value.code == "nothing_searched"


def test_oracle_measures_on_the_stored_pixels(tmp_path):
    publish(tmp_path, key_of(1))
    store(tmp_path, key_of(1), scene())
    image = read_image(tmp_path, key_of(1), truth_of())
    psf, white = seen_psf(), np.ones((1, 1))
    for i in (0, 1, 3):
        template = trail_image(SHAPE, *STREAKS[i], psf)
        assert image.oracle_snr[i] == pytest.approx(template_snr(FLUX, template, NOISE, white), rel=0.01)
    assert image.oracle_area_px == pytest.approx(0.9 * SHAPE[0] * SHAPE[1])


def test_the_oracle_tells_the_snr_that_the_truth_does_not(tmp_path):
    pixels, mask = scene(), np.zeros(SHAPE, np.uint16)
    mask[150:260, 300:] = MaskPlane.SAT
    publish(tmp_path, key_of(1))
    truth = replace(truth_of(), snr=np.array([np.nan, np.nan, 9.0, np.nan]))
    with pytest.raises(Misconfigured, match="does not tell the S/N of the streaks") as caught:
        read_image(tmp_path, key_of(1), truth)
    assert caught.value.code == "no_snr"
    store(tmp_path, key_of(1), pixels, mask)
    image = read_image(tmp_path, key_of(1), truth)
    np.testing.assert_array_equal(image.truth.snr[[0, 3]], image.oracle_snr[[0, 3]])
    assert (image.truth.snr[2], image.truth.visible[2]) == (9.0, 1.0)
    assert (image.truth.snr[1], image.truth.visible[1]) == (0.0, 0.0), "nothing of it is on usable pixels"


def test_oracle_leaves_out_masked_pixels(tmp_path):
    pixels, mask = scene(), np.zeros(SHAPE, np.uint16)
    mask[:, 100:110] = MaskPlane.SAT
    mask[190:210, 340:360] = MaskPlane.DETECTED  # no fault
    pixels[:, 100:110] = 1e6
    publish(tmp_path, key_of(1))
    store(tmp_path, key_of(1), pixels, mask)
    image = read_image(tmp_path, key_of(1), truth_of())
    psf, white = seen_psf(), np.ones((1, 1))
    whole = [template_snr(FLUX, trail_image(SHAPE, *streak, psf), NOISE, white) for streak in STREAKS]
    assert 0.5 * whole[0] < image.oracle_snr[0] < 0.9 * whole[0]
    assert image.oracle_snr[1] == pytest.approx(whole[1], rel=0.01)


def test_oracle_falls_back_on_the_psf_of_the_exposure(tmp_path):
    publish(tmp_path, key_of(1))
    store(tmp_path, key_of(1), scene())
    known, unknown, wide = (read_image(tmp_path, key_of(1), truth_of(fwhm)).oracle_snr for fwhm in (2.4, np.nan, 4.0))
    np.testing.assert_allclose(known, unknown, rtol=0.03)
    assert (unknown != known).all()
    assert (wide < known).all()


def test_oracle_on_noise_alone_stays_below_its_threshold(tmp_path):
    rng = np.random.default_rng(1)
    publish(tmp_path, key_of(1))
    store(tmp_path, key_of(1), BACKGROUND + NOISE * rng.standard_normal(SHAPE))
    snr = read_image(tmp_path, key_of(1), truth_of()).oracle_snr
    assert np.isfinite(snr).all()
    assert (np.abs(snr) < 4.5).all()

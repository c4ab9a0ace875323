import pytest
from pydantic import BaseModel, ValidationError

from schemas.archive_settings import FetchSettings
from schemas.settings import CutCutoutsSettings, InjectSettings, Settings

TINY = 5e-324
"""The least number above 0."""

LIMITS = [
    *((f"tiles.{key}", 1, 0) for key in ("tile", "chunk")),
    *(("detect.stride", 1, 0), ("detect.stride", 26, 27), ("detect.batch", 1, 0)),
    *(("detect.threshold", TINY, 0.0), ("detect.threshold", 1 - 2**-53, 1.0)),
    *(("merge.min_snr", TINY, 0.0), ("merge.max_candidates", 1, 0)),
    *(("measure.min_reliability", 0.0, -TINY), ("measure.min_reliability", 1.0, 1 + 2**-52)),
    *(("measure.min_snr", 0.0, -TINY), ("measure.aperture_fwhm", TINY, 0.0)),
    *(("inject.share", 0.0, -TINY), ("inject.share", 1.0, 1 + 2**-52)),
    *(("inject.streaks", 1, 0), ("inject.streaks", 64, 65)),
    *((f"{section}.mesh", 8, 7) for section in ("find_sources", "gather_objects", "cut_cutouts")),
    *(("find_sources.threshold", TINY, 0.0), ("find_sources.min_area", 1, 0), ("find_sources.min_snr", 0.0, -TINY)),
    *(("find_sources.contrast", TINY, 0.0), ("find_sources.contrast", 1.0, 1 + 2**-52)),
    *((f"gather_objects.{key}", TINY, 0.0) for key in ("match_fwhm", "aperture_fwhm")),
    *((f"link_hosts.{key}", TINY, 0.0) for key in ("on_arcsec", "search_arcsec", "max_dlr")),
    *(("link_tracklets.max_rate", 0.03 + 1e-15, 0.03), ("link_tracklets.max_rate", 200.0, 200.0 + 1e-12)),
    *(("link_tracklets.by_chance", TINY, 0.0), ("link_tracklets.by_chance", 1.0, 1 + 2**-52)),
    *(("link_nights.nights", 0, -1), ("link_nights.nights", 3, 2), ("link_nights.nights", 30, 31)),
    *(("forced.history_days", 0, -1), ("forced.history_days", 366, 367)),
    *(("fetch.connections", 1, 0), ("fetch.connections", 64, 65), ("fetch.retries", 0, -1)),
    *(("fetch.max_gib", TINY, 0.0), ("fetch.backoff_s", 0.0, -TINY), ("fetch.timeout_s", TINY, 0.0)),
    *(("execution.workers", 1, 0), ("execution.worker_memory_gib", TINY, 0.0), ("execution.retries", 0, -1)),
    *(("execution.visit_deadline_s", TINY, 0.0), ("store.timeout_s", TINY, 0.0)),
    *(("execution.max_detections", 1, 0), ("execution.max_detections", 4096, 4097)),
    *(("store.patience_s", 0.0, -TINY), ("store.patience_s", 299.999, 300.0)),
    *(("quality.history_nights", 1, 0), ("quality.least_nights", 7, 6)),
    *((f"quality.{key}", TINY, 0.0) for key in ("warn_sigma", "fail_sigma", "drift_alpha", "drift_psi")),
    ("quality.drift_alpha", 1 - 2**-53, 1.0),
]
"""Setting, the last value at one end that means something, and the next one beyond, which means nothing."""


def sections(model):
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation


@pytest.mark.parametrize("section", [name for name, _ in sections(Settings)])
def test_unknown_key_is_refused_at_every_level(section):
    with pytest.raises(ValidationError, match="surprise"):
        Settings(**{section: {"surprise": 1}})
    with pytest.raises(ValidationError, match="surprise"):
        Settings(surprise=1)


def test_every_setting_says_what_it_is():
    for name, section in sections(Settings):
        for key, field in section.model_fields.items():
            nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
            assert field.description or nested or name == "fits", f"{name}.{key}"


@pytest.mark.parametrize(("name", "last", "beyond"), LIMITS)
def test_a_value_beyond_its_limit_is_refused_and_the_limit_itself_is_not(name, last, beyond):
    section, key = name.split(".")
    assert getattr(getattr(Settings(**{section: {key: last}}), section), key) == last
    with pytest.raises(ValidationError, match=key):
        Settings(**{section: {key: beyond}})


def test_bands_of_cutouts_are_all_different_and_at_least_one():
    assert CutCutoutsSettings(bands=("r", "g")).bands == ("r", "g")
    assert CutCutoutsSettings(bands=("r",)).bands == ("r",)
    for wrong, words in ((("g", "r", "g"), "must all be different"), ((), "at least 1 item")):
        with pytest.raises(ValidationError, match=words):
            CutCutoutsSettings(bands=wrong)


def test_a_detector_of_windows_sees_every_pixel_and_chunks_fill_a_tile():
    tiles, stride = Settings().tiles, Settings().detect.stride
    assert tiles.tile % stride == tiles.tile % tiles.chunk == 0


@pytest.mark.parametrize("key", ["snr", "length"])
@pytest.mark.parametrize("value", [(5.0, 3.0), (0.0, 3.0), (-1.0, 3.0), (3.0, float("inf")), (float("nan"), 3.0)])
def test_a_range_of_what_is_injected_goes_up_from_above_zero(key, value):
    with pytest.raises(ValidationError, match="must be two positive numbers, the smaller first"):
        InjectSettings(**{key: value})
    assert InjectSettings(**{key: (3.0, 3.0)})


@pytest.mark.parametrize(
    "url", ["ftp://host/ibe", "irsa.ipac.caltech.edu", "https://", "https://host/ibe?x=1", "https://a b"]
)
def test_an_archive_has_a_plain_address(url):
    with pytest.raises(ValidationError, match="must be http"):
        FetchSettings(url=url)
    assert FetchSettings(url="http://127.0.0.1:8000/ibe/").url == "http://127.0.0.1:8000/ibe"


def test_environment(monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_DETECT__BATCH", "64")
    monkeypatch.setenv("NIGHTSTRIDE_DATA", "/somewhere")
    assert Settings().detect.batch == 64


def test_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().detect.batch = 3
    with pytest.raises(ValidationError, match="frozen"):
        Settings().detect = Settings().detect


def test_hosts_are_sought_no_further_than_patches_know_of():
    margin = Settings().patches.margin_arcsec
    assert Settings(link_hosts={"search_arcsec": margin}).link_hosts.search_arcsec == margin
    with pytest.raises(ValidationError, match="hosts further away would not be known to a patch"):
        Settings(link_hosts={"search_arcsec": margin * 1.001})

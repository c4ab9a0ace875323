import os
import tracemalloc
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest

from flows.inputs.probe import read
from flows.inputs.source import Source
from flows.inputs.source_state import file_states, sha256_of, source_state, stat_of
from schemas.ledger import SourceFile
from schemas.settings import Settings


def test_sums_sizes_and_takes_the_last_change(tmp_path):
    for name, size, when in [("a", 10, 5), ("b", 7, 9)]:
        (tmp_path / name).write_bytes(bytes(size))
        os.utime(tmp_path / name, ns=(when, when))
    source = Source(str(tmp_path / "a"), siblings=(("mask", str(tmp_path / "b")),))
    assert stat_of(source).model_dump(exclude={"each"}) == {"size": 17, "mtime_ns": 9}
    assert stat_of(Source(str(tmp_path / "a"))).model_dump(exclude={"each"}) == {"size": 10, "mtime_ns": 5}


@pytest.mark.parametrize("change", [{"a": (7, 5), "b": (10, 9)}, {"a": (10, 3), "b": (7, 9)}])
def test_a_change_of_any_file_shows(tmp_path, change):
    source = Source(str(tmp_path / "a"), siblings=(("mask", str(tmp_path / "b")),))
    found = []
    for state in ({"a": (10, 5), "b": (7, 9)}, change, {"a": (10, 5), "b": (7, 9)}):
        for name, (size, when) in state.items():
            (tmp_path / name).write_bytes(bytes(size))
            os.utime(tmp_path / name, ns=(when, when))
        found.append(stat_of(source))
    before, changed, after = found
    assert (before.size, before.mtime_ns) == (changed.size, changed.mtime_ns)
    assert changed != before == after


def test_times_of_files_on_this_machine_are_exact_to_the_nanosecond(tmp_path):
    (tmp_path / "a").write_bytes(b"four")
    for when in (1_790_000_000_123_456_789, 1_790_000_000_123_456_790):  # doubles are 238 ns apart there
        os.utime(tmp_path / "a", ns=(when, when))
        assert stat_of(Source(str(tmp_path / "a"))).mtime_ns == (tmp_path / "a").stat().st_mtime_ns


def test_of_what_is_not_there_or_does_not_tell_nothing_is_known(tmp_path):
    assert stat_of(Source(str(tmp_path / "none"))) is None
    assert stat_of(Source("memory://night/none.fits")) is None


def test_of_a_url(tmp_path):
    (tmp_path / "a").write_bytes(b"four")
    found = stat_of(Source((tmp_path / "a").as_uri()))
    assert found.size == 4
    assert abs(found.mtime_ns - (tmp_path / "a").stat().st_mtime_ns) < 10**6
    with fsspec.open("memory://night/a.fits", "wb") as file:
        file.write(b"12345")
    unsure = stat_of(Source("memory://night/a.fits"))
    assert unsure is None or unsure.size == 5


AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "told", [{"mtime": AT.timestamp()}, {"mtime": AT}, {"LastModified": AT}, {"last_modified": AT.timestamp()}]
)
def test_the_time_is_told_under_any_name(monkeypatch, told):
    store = SimpleNamespace(info=lambda path: {"size": 5, **told})
    monkeypatch.setattr("flows.inputs.files.file_system", lambda uri: (store, uri))
    for uri in ("any://night/a.fits", "zip://a.fits::night/a.zip"):
        found = stat_of(Source(uri))
        assert (found.size, found.mtime_ns) == (5, int(AT.timestamp()) * 10**9)


def test_of_one_file_that_does_not_tell_its_time_nothing_is_known(monkeypatch, tmp_path):
    (tmp_path / "a").write_bytes(b"four")
    store = SimpleNamespace(info=lambda path: {"size": 5})
    monkeypatch.setattr("flows.inputs.files.file_system", lambda uri: (store, uri))
    assert stat_of(Source(str(tmp_path / "a"))) is not None
    assert stat_of(Source(str(tmp_path / "a"), siblings=(("mask", "any://b"),))) is None


SETTINGS = Settings()


@pytest.fixture
def image(write_ztf):
    return write_ztf()


def digest(*paths):
    total = sha256()
    for path in paths:
        total.update(Path(path).read_bytes())
    return total.hexdigest()


def test_the_same_bytes_are_unchanged(image):
    assert source_state(image, digest(image), SETTINGS) == "unchanged"
    assert source_state(image, "other", SETTINGS) == "changed"


def test_what_was_searched_alone_may_have_company_now(image):
    alone = digest(image)
    mask = image.replace("scimrefdiffimg.fits.fz", "mskimg.fits")
    Path(mask).write_bytes(b"x")
    assert source_state(image, alone, SETTINGS) == "unchanged"
    assert source_state(image, digest(image, mask), SETTINGS) == "unchanged"


def test_an_unchanged_stat_is_believed_and_another_looked_into(image):
    stat = stat_of(Source(image))
    assert source_state(image, "other", SETTINGS, stat) == "unchanged"
    os.utime(image, (1, 1))
    assert source_state(image, "other", SETTINGS, stat) == "changed"
    assert source_state(image, digest(image), SETTINGS, stat) == "unchanged"


def test_what_is_gone_is_unreachable(tmp_path):
    assert source_state(str(tmp_path / "gone.fits"), "s", SETTINGS) == "unreachable"


def test_equals_what_the_reader_records(write_ztf, sky, tmp_path):
    uri = write_ztf()
    science = write_ztf(product="sciimg", compressed=False)
    for source in (Source(uri), Source(uri, siblings=(("science", science),))):
        raw = read(source, Settings())
        assert sha256_of(source, Settings()) == raw.source_sha256
        files = [source.uri, *(other for _, other in source.siblings)]
        assert raw.file_sha256 == tuple((file, digest(file)) for file in files)


@pytest.fixture
def of_two(tmp_path):
    """Files that no rule of names brings together, as a manifest does: their digest, and they by plane."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    paths = {"difference": tmp_path / "a", "science": tmp_path / "b"}
    files = {plane: SourceFile(uri=str(path), sha256=digest(path)) for plane, path in paths.items()}
    return digest(*paths.values()), files


def test_files_of_a_manifest_are_unchanged_together_and_each(of_two):
    together, files = of_two
    uri = files["difference"].uri
    assert source_state(uri, together, SETTINGS, files=files) == "unchanged"
    assert file_states(together, SETTINGS, files) == dict.fromkeys(files, "unchanged")
    stat = stat_of(Source(uri, siblings=(("science", files["science"].uri),)))
    assert source_state(uri, "other", SETTINGS, stat, files) == "unchanged"


def test_of_several_files_the_one_that_changed_or_went_is_named(of_two):
    together, files = of_two
    Path(files["science"].uri).write_text("other")
    assert file_states(together, SETTINGS, files) == {"difference": "unchanged", "science": "changed"}
    Path(files["difference"].uri).unlink()
    assert file_states(together, SETTINGS, files) == {"difference": "unreachable", "science": "changed"}


def test_files_whose_own_digest_was_not_kept_are_judged_together(of_two):
    together, files = of_two
    unknown = {plane: SourceFile(uri=file.uri) for plane, file in files.items()}
    assert file_states(together, SETTINGS, unknown) == dict.fromkeys(files, "unchanged")
    Path(files["science"].uri).write_text("other")
    half = unknown | {"difference": files["difference"]}
    assert file_states(together, SETTINGS, half) == {"difference": "unchanged", "science": "changed"}


def test_order_of_siblings_does_not_matter(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    a, b, c = (str(tmp_path / name) for name in "abc")
    one = sha256_of(Source(a, siblings=(("science", b), ("mask", c))), Settings())
    assert one == sha256_of(Source(a, siblings=(("mask", c), ("science", b))), Settings())
    assert one != sha256_of(Source(a, siblings=(("science", c), ("mask", b))), Settings())


def test_a_file_is_digested_in_pieces(tmp_path):
    path = tmp_path / "large.fits"
    content = np.random.default_rng(1).bytes(3 * 2**20)
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(20 * 2**20)
    tracemalloc.start()
    found = sha256_of(Source(str(path)), Settings())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == sha256(path.read_bytes()).hexdigest()
    assert peak < 12 * 2**20


def test_the_sum_of_an_image_of_a_stack_is_its_own(tmp_path):
    path = tmp_path / "asteroid_difference_images_7.npz"
    np.savez(path, data=np.arange(1800.0).reshape(2, 30, 30))
    sums = {sha256_of(Source(str(path), index=index), Settings()) for index in (0, 1)}
    assert sums == {read(Source(str(path), index=index), Settings()).source_sha256 for index in (0, 1)}
    assert len(sums) == 2

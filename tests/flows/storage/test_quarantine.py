from hashlib import sha256

import pytest

from flows.storage.quarantine import Quarantine, is_gone
from schemas.errors import BadInput
from schemas.exposure import ExposureKey

ERROR = BadInput("missing_keyword", "a.fits", "has no OBSMJD.", "add it, or map another keyword in the settings.")
KEY = ExposureKey(night="20260101", visit=5, detector=3)


def test_keeps_reason_and_remedy(tmp_path):
    Quarantine(tmp_path).put(ERROR, "/data/a.fits", KEY)
    (record,) = Quarantine(tmp_path).list()
    assert (record.code, record.where, record.problem, record.remedy) == (
        ERROR.code,
        ERROR.where,
        ERROR.problem,
        ERROR.remedy,
    )
    assert (record.source_uri, record.key) == ("/data/a.fits", KEY)
    assert record.when.endswith("+00:00")


def test_what_is_no_record_is_passed_over(tmp_path):
    quarantine = Quarantine(tmp_path)
    quarantine.put(ERROR, "/data/a.fits")
    (tmp_path / "quarantine/folder.json").mkdir()
    (tmp_path / "quarantine/other.json").write_text("{")
    assert [record.source_uri for record in quarantine.list()] == ["/data/a.fits"]


def test_one_record_per_source(tmp_path):
    quarantine = Quarantine(tmp_path)
    quarantine.put(ERROR, "/data/a.fits")
    quarantine.put(BadInput("not_fits", "a.fits", "is not FITS.", "fetch it again."), "/data/a.fits")
    assert [record.code for record in quarantine.list()] == ["not_fits"]


@pytest.mark.parametrize(
    "uri", ["../../etc/passwd", "/data/.hidden", "s3://b/ü ö?.fits#1", "/" + "x" * 300, "", "/data/", "a\nb\0c"]
)
def test_any_name_makes_a_file_in_the_folder(tmp_path, uri):
    quarantine = Quarantine(tmp_path)
    quarantine.put(ERROR, uri)
    assert [record.source_uri for record in quarantine.list()] == [uri]
    assert [file.parent for file in tmp_path.rglob("*.json")] == [tmp_path / "quarantine"]


@pytest.mark.parametrize(
    ("uri", "stem"),
    [
        ("/data/a.fits", "a.fits"), ("a", "a"), ("/data/.hidden", "hidden"), ("..", "source"), ("", "source"),
        ("/data/a b,c.fits", "a_b_c.fits"), ("/" + "x" * 81, "x" * 80), ("/" + "y" + "x" * 80, "x" * 80),
    ],
)  # fmt: skip
def test_a_record_is_named_after_its_source(tmp_path, uri, stem):
    path = Quarantine(tmp_path).path(uri)
    assert path.parent == tmp_path / "quarantine"
    assert path.name == f"{stem}-{sha256(uri.encode()).hexdigest()[:10]}.json"


def test_a_record_that_cannot_be_read_hides_no_other(tmp_path):
    quarantine = Quarantine(tmp_path)
    for uri in "ab":
        quarantine.put(ERROR, uri)
    quarantine.path("a").write_text("{")
    assert [record.source_uri for record in quarantine.list()] == ["b"]


def test_same_name_in_two_folders(tmp_path):
    quarantine = Quarantine(tmp_path)
    quarantine.put(ERROR, "/one/a.fits")
    quarantine.put(ERROR, "/two/a.fits")
    assert [record.source_uri for record in quarantine.list()] == ["/one/a.fits", "/two/a.fits"]


def test_success_clears_the_source(tmp_path):
    quarantine = Quarantine(tmp_path)
    quarantine.put(ERROR, "/data/a.fits", KEY)
    quarantine.put(ERROR, "/data/b.fits")
    assert quarantine.clear("/data/a.fits") == 1
    assert [record.source_uri for record in quarantine.list()] == ["/data/b.fits"]
    assert quarantine.clear("/data/a.fits") == 0


def test_nothing_there_yet(tmp_path):
    assert Quarantine(tmp_path).list() == []
    assert Quarantine(tmp_path).clear("a") == 0


@pytest.mark.parametrize(
    ("name", "code", "gone"),
    [
        ("there.fits", "truncated", False),
        ("there.npz[3]", "truncated", False),
        ("was.fits", "truncated", True),
        ("was.npz[3]", "truncated", True),
        ("was.fits", "no_such_input", False),
        ("not_mounted/was.fits", "truncated", False),
        ("nowhere/was.fits", "truncated", False),
        ("a\0b", "truncated", False),
    ],
)
def test_a_file_is_gone_where_its_folder_is_there_and_has_others(tmp_path, name, code, gone):
    (tmp_path / "not_mounted").mkdir()
    for file in ("there.fits", "there.npz"):
        (tmp_path / file).touch()
    assert is_gone(str(tmp_path / name), code) is gone


@pytest.mark.parametrize("uri", ["s3://bucket/was.fits", "was.fits", ""])
def test_of_what_is_elsewhere_nothing_is_known(uri):
    assert not is_gone(uri, "truncated")


def test_those_that_are_gone_are_listed(tmp_path):
    quarantine = Quarantine(tmp_path)
    for name in ("a.fits", "b.fits"):
        quarantine.put(ERROR, str(tmp_path / name))
    (tmp_path / "a.fits").touch()
    assert [record.source_uri for record in quarantine.gone()] == [str(tmp_path / "b.fits")]


@pytest.mark.parametrize(
    ("before", "key", "kept"),
    [
        ("gone/a.fits", KEY, ["new/a.fits"]),
        ("there/a.fits", KEY, ["new/a.fits", "there/a.fits"]),
        ("gone/b.fits", KEY, ["gone/b.fits", "new/a.fits"]),
        ("gone/a.fits", KEY.model_copy(update={"visit": 6}), ["gone/a.fits", "new/a.fits"]),
        ("gone/a.fits", None, ["gone/a.fits", "new/a.fits"]),
    ],
)
def test_a_file_that_was_moved_has_one_record(tmp_path, before, key, kept):
    for folder in ("new", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.fits").touch()
    quarantine = Quarantine(tmp_path / "out")
    quarantine.put(ERROR, str(tmp_path / before), key)
    quarantine.put(ERROR, str(tmp_path / "new/a.fits"), KEY)
    assert [record.source_uri for record in quarantine.list()] == [str(tmp_path / name) for name in kept]


def test_records_of_several_sources_are_cleared_and_no_others(tmp_path):
    quarantine = Quarantine(tmp_path)
    for name in "abc":
        quarantine.put(ERROR, f"/data/{name}.fits")
    quarantine.clear_all([])
    quarantine.clear_all(["/data/a.fits", "/data/c.fits", "/data/none.fits"])
    assert [record.source_uri for record in quarantine.list()] == ["/data/b.fits"]


def test_a_record_that_another_process_clears_meanwhile_is_no_error(tmp_path, monkeypatch):
    quarantine = Quarantine(tmp_path)
    quarantine.put(ERROR, "/data/a.fits")
    found, path = quarantine._found(), quarantine.path("/data/a.fits")
    path.unlink()
    monkeypatch.setattr(quarantine, "_found", lambda: found)
    assert quarantine.clear("/data/a.fits") == 1
    monkeypatch.setattr(type(path), "glob", lambda *_: iter([path]))
    quarantine.clear_all(["/data/a.fits"])

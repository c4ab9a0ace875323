import asyncio
import base64
import hashlib
from types import SimpleNamespace

import pytest

from flows.inputs.archive.client import (
    PASSWORD,
    USER,
    ArchiveClient,
    RemoteFile,
    TryAgain,
    _authorization,
    _NotThere,
    _remote,
    _require_success,
    stated_digest,
)
from flows.inputs.archive.ztf_search import SEARCH
from schemas.archive_settings import FetchSettings
from schemas.errors import BadInput, Misconfigured, Retryable
from tests.support.archive import Archive

pytest_plugins = ("tests.support.archive_fixture",)


QUERY = {"WHERE": "obsjd>0", "COLUMNS": "field,ccdid", "ct": "csv"}


def with_client(settings, work):
    async def run():
        async with ArchiveClient(settings) as client:
            return await work(client)

    return asyncio.run(run())


def code_of(kind, settings, work):
    with pytest.raises(kind) as caught:
        with_client(settings, work)
    return caught.value.code


@pytest.fixture
def one(archive):
    """Place and bytes of a file in the archive."""
    return next((place, data) for place, data in archive.files.items() if "scimrefdiffimg" in place)


def test_a_question_is_answered(archive, settings):
    text = with_client(settings, lambda client: client.text(SEARCH, QUERY))
    assert text.splitlines()[0] == "field,ccdid"
    assert len(text.splitlines()) == 1 + len(archive.rows)


def test_what_passes_is_tried_again(archive, settings, one):
    archive.trouble = lambda place, number, headers: 503 if number <= settings.retries else None
    assert with_client(settings, lambda client: client.text(SEARCH, QUERY)).startswith("field")
    assert with_client(settings, lambda client: client.probe(one[0])).size == len(one[1])
    assert archive.counts[one[0]] == settings.retries + 1


def test_what_does_not_pass_is_an_error(archive, settings, one):
    archive.trouble = lambda place, number, headers: 503
    assert code_of(Retryable, settings, lambda client: client.text(SEARCH, QUERY)) == "archive_error"
    assert code_of(Retryable, settings, lambda client: client.probe(one[0])) == "archive_error"
    gone = settings.model_copy(update={"url": "http://127.0.0.1:1/ibe"})
    assert code_of(Retryable, gone, lambda client: client.text(SEARCH, QUERY)) == "archive_error"
    with pytest.raises(Retryable, match=r"failed: its host does not accept the connection\. To fix, check"):
        with_client(gone, lambda client: client.text(SEARCH, QUERY))


def test_waits_as_long_as_asked_or_ever_longer(settings, monkeypatch):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    error = Retryable("archive_error", "x", "y", "z")

    async def work(client):
        for failed in (1, 2, 3):
            await client.pause(failed, TryAgain(error))
        await client.pause(3, TryAgain(error, 7.0))
        await client.pause(3, TryAgain(error, 1e6))

    with_client(settings.model_copy(update={"backoff_s": 1.5}), work)
    assert waits == [1.5, 3.0, 6.0, 7.0, 300.0]


def test_a_question_that_the_archive_does_not_know_is_not_repeated(archive, settings):
    bad = {**QUERY, "WHERE": "obsjd >"}
    assert code_of(Misconfigured, settings, lambda client: client.text(SEARCH, bad)) == "bad_answer"
    assert len(archive.asked) == 1
    assert code_of(Misconfigured, settings, lambda client: client.text("elsewhere", QUERY)) == "no_such_service"


@pytest.mark.parametrize("ranges", [True, False])
def test_size_and_version_are_known_before_a_file_is_sent(archive, settings, one, ranges):
    archive.ranges = ranges
    place, data = one
    file = with_client(settings, lambda client: client.probe(place))
    tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    assert file == RemoteFile(f"{settings.url}/data/ztf/products/{place}", len(data), tag)
    archive.files[place] = data + b" " * 2880
    assert with_client(settings, lambda client: client.probe(place)).version != file.version


def test_weak_tags_give_way_to_the_time_of_change(archive, settings, one):
    archive.headers = lambda data: {"ETag": 'W/"x"', "Last-Modified": "Wed, 11 Apr 2018 12:00:00 GMT"}
    assert with_client(settings, lambda client: client.probe(one[0])).validator == "Wed, 11 Apr 2018 12:00:00 GMT"


def test_a_file_that_is_not_there_is_none(settings):
    assert with_client(settings, lambda client: client.probe("sci/2018/0411/467847/nothing.fits")) is None


def test_credentials_come_from_the_environment_and_go_nowhere_else(archive, settings, one, monkeypatch, caplog):
    archive.authorization = "Basic " + base64.b64encode(b"ann:secret!").decode()
    assert code_of(Misconfigured, settings, lambda client: client.text(SEARCH, QUERY)) == "refused"
    assert code_of(BadInput, settings, lambda client: client.probe(one[0])) == "refused"
    monkeypatch.setenv(USER, "ann")
    monkeypatch.setenv(PASSWORD, "secret!")
    assert with_client(settings, lambda client: client.probe(one[0])).size == len(one[1])
    with Archive() as other:  # another host by its port: a redirect there must not bring the password
        archive.trouble = lambda place, number, headers: 302
        archive.headers = lambda data: {}
        archive.location = f"{other.url}/data/ztf/products/{one[0]}"
        assert with_client(settings, lambda client: client.probe(one[0])) is None
        assert other.asked
        assert all("Authorization" not in headers for _, headers in other.asked)
    archive.trouble = lambda place, number, headers: 503
    with pytest.raises(Retryable) as caught:
        with_client(settings, lambda client: client.probe(one[0]))
    assert "secret!" not in str(caught.value) + caplog.text


def test_half_or_open_credentials_are_refused(monkeypatch):
    monkeypatch.setenv(USER, "ann")
    with pytest.raises(Misconfigured, match="only one"):
        ArchiveClient(FetchSettings())
    monkeypatch.setenv(PASSWORD, "secret!")
    ArchiveClient(FetchSettings())
    with pytest.raises(Misconfigured, match="unencrypted") as caught:
        ArchiveClient(FetchSettings(url="http://irsa.ipac.caltech.edu/ibe"))
    assert "secret!" not in str(caught.value)


def test_digests_of_whole_files_are_understood():
    content = b"pixels"
    sha = base64.b64encode(hashlib.sha256(content).digest()).decode()
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    expected = ("sha256", hashlib.sha256(content).hexdigest())
    assert stated_digest({"Repr-Digest": f"sha-256=:{sha}:"}, whole=False) == expected
    assert stated_digest({"Digest": f"unixsum=30637, SHA-256={sha}"}, whole=False) == expected
    assert stated_digest({"Content-MD5": md5}, whole=True) == ("md5", hashlib.md5(content).hexdigest())
    assert stated_digest({"Content-MD5": md5}, whole=False) is None
    assert stated_digest({}, whole=True) is None


@pytest.mark.parametrize("stated", ["abc", "é", "", hashlib.md5(b"x").hexdigest()])
def test_what_is_no_digest_is_not_taken_for_one(stated):
    assert stated_digest({"Digest": f"md5={stated}"}, whole=True) is None
    assert stated_digest({"Content-MD5": stated}, whole=True) is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, None), (206, None), (404, _NotThere), (410, _NotThere), (408, TryAgain), (425, TryAgain),
        (429, TryAgain), (500, TryAgain), (599, TryAgain), (401, BadInput), (403, BadInput), (400, BadInput),
        (499, BadInput), (204, BadInput), (407, BadInput),
    ],
)  # fmt: skip
def test_each_status_has_its_meaning(status, kind):
    response = SimpleNamespace(status=status, reason="so", headers={})
    if kind is None:
        _require_success(response, "url")
        return
    with pytest.raises(kind) as caught:
        _require_success(response, "url")
    if kind is BadInput:
        assert caught.value.code == ("refused" if status in (401, 403) else "bad_answer")


@pytest.mark.parametrize(("stated", "wait"), [("12", 12.0), ("", None), ("Wed, 21 Oct 2015 07:28:00 GMT", None)])
def test_the_archive_says_how_long_to_wait_in_seconds(stated, wait):
    with pytest.raises(TryAgain) as caught:
        _require_success(SimpleNamespace(status=503, reason="so", headers={"Retry-After": stated}), "url")
    assert caught.value.wait_s == wait


@pytest.mark.parametrize(
    ("headers", "status", "length", "size", "validator"),
    [
        ({"Content-Range": "bytes 0-0/1234"}, 206, 1, 1234, None),
        ({"Content-Range": "bytes 0-0/1234"}, 200, 99, 99, None),
        ({"ETag": '"a"', "Last-Modified": "then"}, 200, 99, 99, '"a"'),
        ({"ETag": 'W/"a"', "Last-Modified": "then"}, 200, 99, 99, "then"),
        ({"ETag": 'W/"a"'}, 200, 99, 99, None),
    ],
)
def test_size_and_version_of_a_file_are_what_the_archive_states(headers, status, length, size, validator):
    response = SimpleNamespace(status=status, headers=headers, content_length=length)
    assert _remote("url", response) == RemoteFile("url", size, validator)


@pytest.mark.parametrize("stated", ["", "bytes 0-0/*", "items 0-0/5", "bytes x-0/5"])
def test_a_range_that_is_none_is_an_error(stated):
    with pytest.raises(BadInput, match="Content-Range is"):
        _remote("url", SimpleNamespace(status=206, headers={"Content-Range": stated}, content_length=5))
    with pytest.raises(BadInput, match="does not say how long"):
        _remote("url", SimpleNamespace(status=200, headers={}, content_length=0))


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://there/ibe", True), ("http://localhost:8/ibe", True), ("http://127.0.0.1:8/ibe", True),
        ("http://[::1]:8/ibe", True), ("http://there/ibe", False),
    ],
)  # fmt: skip
def test_a_password_is_sent_encrypted_or_to_this_machine(monkeypatch, url, sent):
    monkeypatch.setenv(USER, "ann")
    monkeypatch.setenv(PASSWORD, "b")
    if sent:
        assert _authorization(url) == {"Authorization": "Basic " + base64.b64encode(b"ann:b").decode()}
    else:
        with pytest.raises(Misconfigured, match="unencrypted"):
            _authorization(url)
    monkeypatch.delenv(USER)
    with pytest.raises(Misconfigured, match="only one"):
        _authorization(url)
    monkeypatch.delenv(PASSWORD)
    assert _authorization(url) == {}
    with pytest.raises(Misconfigured, match="holds a user or password"):
        _authorization("https://ann@there/ibe")

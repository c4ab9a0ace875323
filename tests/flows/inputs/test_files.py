import contextlib
import errno
import io
from types import SimpleNamespace

import aiohttp
import botocore.exceptions
import fsspec
import numpy as np
import pytest
from astropy.io import fits

from flows.inputs import files
from flows.inputs.files import failure_words, open_part, patient, read_bytes, read_failures
from flows.inputs.probe import probe, read
from flows.inputs.source import LARGEST, Source, require_size
from schemas.errors import BadInput, Retryable
from schemas.settings import Settings
from tests.support.http import Handler, serving


@pytest.fixture
def both(tmp_path):
    """The same bytes under a path and a URL."""
    path = tmp_path / "file.bin"
    path.write_bytes(b"0123456789" * 1000)
    with fsspec.open("memory://files/file.bin", "wb") as file:
        file.write(path.read_bytes())
    return [str(path), path.as_uri(), "memory://files/file.bin"]


def test_whole_and_in_part(both):
    for uri in both:
        assert read_bytes(uri) == b"0123456789" * 1000
        with open_part(uri) as file:
            file.seek(5004)
            assert file.read(3) == b"456"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (botocore.exceptions.NoCredentialsError(), "there are no credentials for it"),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"), "does not accept the connection"),
        (OSError(111, "Connect call failed ('127.0.0.1', 1)"), "does not accept the connection"),
        (OSError(-2, "Name or service not known"), "no known address"),
        (TimeoutError(), "no answer in time"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (aiohttp.ClientPayloadError("not completed"), "ClientPayloadError: not completed"),
    ],
)
def test_why_a_place_cannot_be_read_is_said_in_our_words_where_we_have_some(error, words):
    assert failure_words(error).endswith(words)


@pytest.mark.parametrize("uri", ["/nowhere/file.fits", "memory://nowhere/file.fits"])
def test_a_missing_file_is_bad_input(uri):
    with pytest.raises(BadInput, match="cannot be read") as caught:
        read_bytes(uri)
    assert caught.value.where == uri
    with pytest.raises(BadInput), open_part(uri):
        pass


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("timed out"),
        ConnectionResetError("reset by peer"),
        OSError(errno.EIO, "Input/output error"),
        aiohttp.ClientPayloadError("payload is not completed"),
    ],
)
def test_what_may_pass_is_retryable(error):
    with pytest.raises(Retryable, match="try again"), read_failures("s3://bucket/x.fits"):
        raise error


@pytest.mark.parametrize(
    "error",
    [PermissionError(errno.EACCES, "denied"), OSError(errno.ELOOP, "loop"), IsADirectoryError(errno.EISDIR, "dir")],
)
def test_what_will_not_pass_is_bad_input(error):
    with pytest.raises(BadInput), read_failures("x.fits"):
        raise error


def test_the_limit_itself_is_allowed_and_a_byte_more_is_not():
    require_size(LARGEST, "x.fits", "HDU 1")
    with pytest.raises(BadInput, match=r"x\.fits: HDU 1 unpacks to 4\.0 GiB or more, the limit is 4 GiB") as caught:
        require_size(LARGEST + 1, "x.fits", "HDU 1")
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    ("uri", "patience", "waits"),
    [("s3://bucket/x", 1.5, [0.5, 1.0]), ("s3://bucket/x", 1.4, [0.5]), ("s3://bucket/x", 0.4, []), ("/x", 9.0, [])],
)
def test_an_object_store_is_asked_again_while_the_next_wait_ends_within_the_patience(monkeypatch, uri, patience, waits):
    waited, asked = [], []

    def fail():
        asked.append(1)
        raise Retryable("store", uri, "no answer.", "wait.")

    monkeypatch.setattr(files, "configured", lambda: SimpleNamespace(patience_s=patience))
    monkeypatch.setattr(files, "monotonic", lambda: sum(waited))
    monkeypatch.setattr(files, "sleep", waited.append)
    with pytest.raises(Retryable):
        patient(uri, fail)
    assert (waited, len(asked)) == (waits, len(waits) + 1)


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("look", [probe, read])
def test_a_server_of_whole_files_alone_is_told(length, look):
    """As archives do that make a file when it is asked for, and Python's own http.server."""
    sink = io.BytesIO()
    image = fits.ImageHDU(np.zeros((300, 300), np.float32))
    fits.HDUList([fits.PrimaryHDU(), image, image]).writeto(sink)

    class Whole(Handler):
        def head(self):
            self.send_response(200)
            if length:
                self.send_header("Content-Length", str(sink.tell()))
            self.end_headers()

        def get(self):
            self.head()
            self.wfile.write(sink.getvalue())

        def finish(self):
            with contextlib.suppress(OSError):
                super().finish()

    with (
        serving(Whole) as url,
        pytest.raises(BadInput, match=r"whole files alone, .* To fix, fetch it, and name the copy") as caught,
    ):
        look(Source(uri := f"{url}/a.fits"), Settings())
    assert (caught.value.code, caught.value.where) == ("unreadable_file", uri)

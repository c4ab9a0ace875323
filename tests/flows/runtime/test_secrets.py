import os
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.runtime.secrets import refuse_credentials, without_credentials, without_passwords, without_secrets
from schemas.errors import Misconfigured

URLS = {
    "s3://key:hunter2@bucket/out": "s3://bucket/out",
    "https://user:hunter2@host/x.fits": "https://host/x.fits",
    "https://host/x.fits?X-Amz-Credential=key&X-Amz-Signature=hunter2": "https://host/x.fits",
    "https://host/x.fits?size=9&X-Goog-Signature=hunter2": "https://host/x.fits",
    "https://host/x.fits?token=hunter2": "https://host/x.fits",
    "https://host/x.fits?access_token=hunter2": "https://host/x.fits",
    "https://host/x.fits?sig=hunter2&key=hunter2": "https://host/x.fits",
    "https://host/x.fits;token=hunter2": "https://host/x.fits",
    "https://host/x.fits#access-key=hunter2": "https://host/x.fits",
    "https://host/x.fits?jwt=hunter2": "https://host/x.fits",
    "zip://a.fits::https://user:hunter2@host/y.zip": "zip://a.fits::https://host/y.zip",
}


@pytest.mark.parametrize(("url", "plain"), URLS.items())
def test_secrets_are_refused_and_not_repeated(url, plain):
    with pytest.raises(Misconfigured, match="here: a URL holds a password") as caught:
        refuse_credentials(url, "here")
    assert "hunter2" not in str(caught.value)
    assert without_credentials(url) == plain
    refuse_credentials(plain, "here")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{'url': 'http://u:hunter2@h:1/x', 'mail': 'a@b.c'}", "{'url': 'http://h:1/x', 'mail': 'a@b.c'}"),
        ("got 'postgresql://u:hun/ter2@h/x'", "got 'postgresql://h/x'"),
        ("s3://b/k?X-Amz-Signature=hunter2&sig=hunter2 is not a file", "s3://b/k?... is not a file"),
        ("what? s3://b/k", "what? s3://b/k"),
    ],
)
def test_a_text_keeps_all_but_what_may_be_secret(text, shown):
    assert without_passwords(text) == shown


WORD = st.text("abcdefXYZ0189._~!$*+,;=%-", min_size=6, max_size=30)


@given(WORD, WORD)
def test_no_user_and_no_password_of_a_url_is_left(user, password):
    said = without_secrets(f"cannot read s3://{user}:{password}@host/bucket: no answer")
    assert said == "cannot read s3://host/bucket: no answer"


@given(WORD.filter(lambda word: "=" not in word))
def test_no_signature_is_left(secret):
    query = f"X-Amz-Expires=60&X-Amz-Signature={secret}"
    assert without_secrets(f"https://h/b?{query}") == "https://h/b?..."
    assert without_secrets(f"refused: {query}") == "refused: X-Amz-Expires=60&X-Amz-Signature=***"


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "SITE_TOKEN",
        "PREFECT_API_KEY",
        "PREFECT_SERVER_API_AUTH_STRING",
        "NIGHTSTRIDE_KAFKA_SASL_PASSWORD",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    ],
)
def test_no_value_of_a_secret_variable_is_left(name, monkeypatch):
    monkeypatch.setenv(name, "wJalrXUtnFEMI")
    assert without_secrets("refused: wJalrXUtnFEMI!") == "refused: ***!"
    for short, shown in (("qwerty", "a *** text"), ("qwert", "a qwerty text")):  # words may be as short
        monkeypatch.setenv(name, short)
        assert without_secrets("a qwerty text") == shown


def test_a_secret_that_is_not_utf_8_is_one_like_others(monkeypatch):
    monkeypatch.setenv("SITE_PASSWORD", os.fsdecode(b"k\xf6ln-am-rhein"))
    carried = b64encode(b"k\xf6ln-am-rhein").decode()
    assert without_secrets(f"refused: {carried}, {os.fsdecode(bytes([107, 246]))}ln-am-rhein") == "refused: ***, ***"


def test_neither_a_part_of_it_is_left_nor_what_http_makes_of_it(monkeypatch):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "nightstride:abcdefghij")
    assert without_secrets("Basic bmlnaHRzdHJpZGU6YWJjZGVmZ2hpag== refused") == "Basic *** refused"
    assert without_secrets("password abcdefghij, user nightstride") == "password ***, user nightstride"


@pytest.mark.parametrize(
    "text", ["s3://bucket/night/a.fits: is not a FITS file", "who@where.org", "visit 7: 3 detections", "kafka://h:1/t"]
)
def test_the_rest_stays(text):
    assert without_secrets(text) == text

import pytest

from flows.url_secrets import refuse_credentials, without_credentials, without_passwords
from schemas.errors import Misconfigured

URLS = {
    "s3://key:hunter2@bucket/out": "s3://bucket/out",
    "https://user:hunter2@host/x.fits": "https://host/x.fits",
    "https://host/x.fits?X-Amz-Credential=key&X-Amz-Signature=hunter2": "https://host/x.fits",
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
        ("s3://b/k?X-Amz-Signature=hunter2&sig=hunter2 is no file", "s3://b/k?... is no file"),
        ("what? s3://b/k", "what? s3://b/k"),
    ],
)
def test_a_text_keeps_all_but_what_may_be_secret(text, shown):
    assert without_passwords(text) == shown

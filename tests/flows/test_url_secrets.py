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


def test_passwords_are_taken_out_of_a_text_and_nothing_else():
    assert (
        without_passwords("{'url': 'http://u:p@h:1/x', 'mail': 'a@b.c'}") == "{'url': 'http://h:1/x', 'mail': 'a@b.c'}"
    )

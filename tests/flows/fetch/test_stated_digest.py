import base64
import hashlib

import pytest

from flows.fetch.stated_digest import stated_digest


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

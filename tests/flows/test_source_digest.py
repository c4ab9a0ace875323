from flows.adapters.probe import read
from flows.adapters.sources import Source
from flows.source_digest import sha256_of
from schemas.settings import Settings


def test_equals_what_the_reader_records(write_ztf, sky, tmp_path):
    uri = write_ztf()
    science = write_ztf(product="sciimg", compressed=False)
    for source in (Source(uri), Source(uri, siblings=(("science", science),))):
        assert sha256_of(source, Settings()) == read(source, Settings()).source_sha256


def test_order_of_siblings_does_not_matter(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    a, b, c = (str(tmp_path / name) for name in "abc")
    one = sha256_of(Source(a, siblings=(("science", b), ("mask", c))), Settings())
    assert one == sha256_of(Source(a, siblings=(("mask", c), ("science", b))), Settings())
    assert one != sha256_of(Source(a, siblings=(("science", c), ("mask", b))), Settings())

import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509

from flows.nights.cluster.security import made_for_a_run, security_of, temporary_security
from schemas.cluster_settings import ClusterSettings
from schemas.errors import Misconfigured
from tests.support.cluster import make_certificates


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates") / "ours")


def of(files):
    return security_of(ClusterSettings(kind="address", address="tls://there:8786", **files))


def test_no_files_no_encryption():
    assert security_of(ClusterSettings()) is None


@pytest.mark.parametrize("missing", ["tls_ca", "tls_cert", "tls_key"])
def test_files_half_named_are_refused_and_never_opened(files, missing):
    left = {name: path for name, path in files.items() if name != missing}
    with pytest.raises(ValueError, match="go together: give all three or none"):
        ClusterSettings(kind="address", address="tls://there:8786", **left)
    whole = ClusterSettings(kind="address", address="tls://there:8786", **files)
    assert security_of(whole.model_copy(update={missing: None})) is None  # copies are not validated


@pytest.mark.parametrize("role", ["client", "scheduler", "worker"])
def test_every_part_shows_and_asks_for_a_certificate(files, role):
    security = of(files)
    assert security.require_encryption
    assert security.get_tls_config_for_role(role)["cert"] == files["tls_cert"]
    if role != "client":
        context = security.get_listen_args(role)["ssl_context"]
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert security.get_connection_args(role)["ssl_context"].verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("made", [of, lambda _: temporary_security()])
def test_certificates_pass_the_strict_checks_of_python_3_13(files, made):
    security = made(files)
    listens, connects = (
        security.get_listen_args("scheduler")["ssl_context"], security.get_connection_args("worker")["ssl_context"],
    )  # fmt: skip
    for context in (listens, connects):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = listens.wrap_bio(to_server, to_client, server_side=True), connects.wrap_bio(to_client, to_server)
    for side in (sides[1], sides[0], sides[1], sides[0]):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert all(side.getpeercert(binary_form=True) for side in sides)


@pytest.mark.parametrize("name", ["tls_ca", "tls_cert", "tls_key"])
def test_a_file_that_is_not_there_is_named(files, tmp_path, name):
    with pytest.raises(Misconfigured, match=rf"cluster\.{name}: {tmp_path}/no cannot be read: No such file.*To fix"):
        of({**files, name: str(tmp_path / "no")})


@pytest.mark.parametrize(("name", "field"), [("tls_ca", "tls_ca"), ("tls_cert", "tls_cert"), ("tls_key", "tls_cert")])
def test_a_file_of_another_kind_is_named(files, tmp_path, name, field):
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(Misconfigured, match=rf"cluster\.{field}: .*{tmp_path}/text.*PEM files made by the authority"):
        of({**files, name: str(tmp_path / "text")})


def test_a_key_of_another_certificate_is_refused(files, tmp_path):
    others = make_certificates(tmp_path / "others")
    with pytest.raises(Misconfigured, match="that match"):
        of({**files, "tls_key": others["tls_key"]})


def test_keys_of_a_run_are_ours_alone_and_go_with_it(tmp_path):
    with made_for_a_run(tmp_path) as first, made_for_a_run(tmp_path) as second:
        assert [folder.stat().st_mode & 0o777 for folder in tmp_path.iterdir()] == [0o700, 0o700]
        assert Path(first.tls_worker_key).read_text() != Path(second.tls_worker_key).read_text()
        assert first.get_listen_args("scheduler")["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    assert list(tmp_path.iterdir()) == []


def test_keys_of_a_run_are_its_own_and_outlive_a_clock_that_is_set_back_and_a_long_stream():
    one, other = (temporary_security().get_tls_config_for_role("worker") for _ in range(2))
    assert one["key"] != other["key"]
    made = x509.load_pem_x509_certificate(one["cert"].encode())
    assert made.not_valid_before_utc.year == 2000
    assert made.not_valid_after_utc.year > 2500
    made.verify_directly_issued_by(made)

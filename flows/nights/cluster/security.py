"""Certificates by which client, scheduler and workers authenticate each other."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from distributed.security import Security

from flows.runtime.certificates import require_valid
from schemas.cluster_settings import ClusterSettings
from schemas.errors import Misconfigured


def security_of(settings: ClusterSettings) -> Security | None:
    """Return the TLS configuration of all parts of a cluster; None if the settings name no certificates.

    Both sides of a connection need a certificate of the same authority: without one, nobody can submit work.

    Raises
    ------
    Misconfigured
        A file cannot be read or is not a certificate or key, the key does not belong to the certificate, or a
        certificate is not valid now.
    """
    if settings.tls_ca is None or settings.tls_cert is None or settings.tls_key is None:
        return None
    _require_readable("cluster.tls_ca", settings.tls_ca)
    _require_readable("cluster.tls_cert", settings.tls_cert)
    _require_readable("cluster.tls_key", settings.tls_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(settings.tls_ca)
    except ssl.SSLError as error:
        raise _unfit("cluster.tls_ca", settings.tls_ca, "no certificate in PEM form") from error
    try:
        # OpenSSL would ask for the passphrase of a key on the terminal, where there may be nobody.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=lambda: b"")
    except ssl.SSLError as error:
        pair = f"with cluster.tls_key = {settings.tls_key} no certificate and key, without a passphrase, that match"
        raise _unfit("cluster.tls_cert", settings.tls_cert, f"{pair} ({error.reason})") from error
    require_valid("cluster.tls_ca", settings.tls_ca)
    require_valid("cluster.tls_cert", settings.tls_cert)
    return in_files(settings.tls_ca, settings.tls_cert, settings.tls_key)


def temporary_security() -> Security:
    """Return a configuration with new keys, which no other user can read.

    Unlike those of `Security.temporary`, the certificate is valid from long before now until 2999: neither a clock that
    is set back nor a stream that runs for a year breaks a connection.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nightstride")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2999, 12, 31, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert = made.public_bytes(serialization.Encoding.PEM).decode()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return _shown_by_all(cert, cert, secret)


@contextmanager
def made_for_a_run(folder: Path) -> Iterator[Security]:
    """Write a new authority and its certificate to private files in ``folder``, removed when the block ends."""
    made = temporary_security().get_tls_config_for_role("worker")
    with TemporaryDirectory(prefix="keys-", dir=folder) as place:  # of mode 0700
        paths = {name: Path(place) / f"{name}.pem" for name in ("ca_file", "cert", "key")}
        for name, path in paths.items():
            path.write_text(str(made[name]))
        yield in_files(paths["ca_file"], paths["cert"], paths["key"])


def in_files(ca: Path, cert: Path, key: Path) -> Security:
    """Return the configuration in which all parts of a cluster use the same certificate."""
    return _shown_by_all(str(ca.resolve()), str(cert.resolve()), str(key.resolve()))


def _shown_by_all(ca: str, cert: str, key: str) -> Security:
    """Return the configuration from paths or contents of PEM files."""
    own = {"cert": cert, "key": key}
    return Security(
        require_encryption=True,
        tls_ca_file=ca,
        **{f"tls_{role}_{kind}": given for role in ("client", "scheduler", "worker") for kind, given in own.items()},
    )


def _require_readable(field: str, path: Path) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise Misconfigured(
            "tls_file", field, f"{path} cannot be read: {error.strerror}.", "name a PEM file that this user may read."
        ) from error


def _unfit(field: str, path: Path, problem: str) -> Misconfigured:
    return Misconfigured(
        "tls_file", field, f"{path} is {problem}.", "name PEM files made by the authority of the cluster."
    )

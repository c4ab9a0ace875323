"""Certificates by which client, scheduler and workers know each other."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from distributed.security import Security

from schemas.cluster_settings import ClusterSettings
from schemas.errors import Misconfigured


def security_of(settings: ClusterSettings) -> Security | None:
    """Return the TLS configuration of all parts of a cluster; None if the settings name no certificates.

    Both sides of a connection show a certificate of the same authority: who has none cannot submit work.

    Raises
    ------
    Misconfigured
        A file cannot be read or is not a certificate or key, or the key is not that of the certificate.
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
        # A key under a passphrase would be asked for on the terminal, where there may be nobody.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=lambda: b"")
    except ssl.SSLError as error:
        pair = f"with cluster.tls_key = {settings.tls_key} no certificate and key, without a passphrase, that match"
        raise _unfit("cluster.tls_cert", settings.tls_cert, f"{pair} ({error.reason})") from error
    return in_files(settings.tls_ca, settings.tls_cert, settings.tls_key)


@contextmanager
def made_for_a_run(folder: Path) -> Iterator[Security]:
    """Make an authority and its one certificate, in files in ``folder`` that only this user may read while it lasts."""
    made = Security.temporary().get_tls_config_for_role("worker")
    with TemporaryDirectory(prefix="keys-", dir=folder) as place:  # of mode 0700
        paths = {name: Path(place) / f"{name}.pem" for name in ("ca_file", "cert", "key")}
        for name, path in paths.items():
            path.write_text(str(made[name]))
        yield in_files(paths["ca_file"], paths["cert"], paths["key"])


def in_files(ca: Path, cert: Path, key: Path) -> Security:
    """Return the configuration in which all parts of a cluster show the same certificate."""
    files = {"cert": str(cert.resolve()), "key": str(key.resolve())}
    return Security(
        require_encryption=True,
        tls_ca_file=str(ca.resolve()),
        **{f"tls_{role}_{kind}": path for role in ("client", "scheduler", "worker") for kind, path in files.items()},
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

"""The address where Prometheus finds the figures of a command."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from schemas.errors import Misconfigured
from schemas.observe_settings import ObserveSettings


@contextmanager
def metrics_server(settings: ObserveSettings, registry: CollectorRegistry) -> Iterator[int]:
    """Serve figures over HTTP, or HTTPS with certificates, as long as the block lasts; give the port.

    Raises
    ------
    Misconfigured
        Somebody else has the port, the host is none of ours, or a certificate is unfit.
    """
    assert settings.address is not None
    host, port = settings.address
    certificate, key, authority = (
        None if path is None else str(path)
        for path in (settings.metrics_cert, settings.metrics_key, settings.metrics_ca)
    )
    try:
        if certificate is not None:  # before the port is taken, which would stay so
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            context.load_verify_locations(authority or certificate)
        server, thread = start_http_server(
            port, host, registry, certificate, key, authority, client_auth_required=authority is not None
        )
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise Misconfigured(
            "metrics",
            "observe.metrics",
            f"figures cannot be served at {settings.metrics}: {error}.",
            "name a free port of this machine, certificates that fit each other, or leave it out.",
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

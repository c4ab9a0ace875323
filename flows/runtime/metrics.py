"""Metrics for Prometheus: server, metrics of workers, and a file for the textfile collector.

A finished run cannot be asked by Prometheus, so its figures are written to a file for node_exporter's textfile
collector. They are gauges, even those that count: each run starts from zero, and with counters two runs of nearly
equal counts could not be told apart.
"""

import os
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hmac import compare_digest
from pathlib import Path
from secrets import token_urlsafe
from time import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Gauge, make_wsgi_app, start_http_server, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flows.runtime.certificates import require_valid
from schemas.errors import Misconfigured
from schemas.ledger import Percentiles, ProvenanceRecord
from schemas.observe_settings import ObserveSettings
from schemas.summary import RunSummary

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from distributed import Client

GPU = "nightstride_gpu_memory"
"""Name under which workers report their GPU memory to the scheduler."""

ANSWER_S = 3.0
"""Time that the scheduler has to answer, s: metrics without those of the workers are better than none."""


def add_build_info(registry: CollectorRegistry, made: ProvenanceRecord) -> None:
    """Add the versions that exposures are searched with to a registry."""
    build = Gauge("nightstride_build_info", "Version and digest of the code.", ["version", "code"], registry=registry)
    build.labels(made.software, made.code[:12]).set(1)
    models = Gauge("nightstride_model_info", "Version of each model.", ["role", "name", "version"], registry=registry)
    for role, card in made.models.items():
        models.labels(role, card.name, card.version).set(1)


def token_in(path: Path) -> str:
    """Return the token in a file; create one there, readable by its owner only, if there is no file (RFC 6750).

    Raises
    ------
    Misconfigured
        It cannot be read or created, is empty, or is readable by others (``metrics_token``).
    """
    try:
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{token_urlsafe(32)}\n")
        if path.stat().st_mode & 0o077:
            raise _unfit(path, "others than its owner may read it", "chmod 600 it, and make a new token.")
        token = path.read_text().strip()
    except (OSError, ValueError) as error:
        raise _unfit(
            path, f"cannot be read or made: {error}", "name a file that this user may read or make."
        ) from error
    if not token:
        raise _unfit(path, "it holds no token", "remove it: one is made.")
    return token


def _unfit(path: Path, problem: str, remedy: str) -> Misconfigured:
    return Misconfigured("metrics_token", f"observe.metrics_token_file = {path}", f"{problem}.", remedy)


def _guarded(served: "WSGIApplication", token: str) -> "WSGIApplication":
    """Wrap an application so that it answers only requests with the token."""
    wanted = f"Bearer {token}".encode()

    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        if compare_digest(environ.get("HTTP_AUTHORIZATION", "").encode(), wanted):
            return served(environ, start)
        start("401 Unauthorized", [("WWW-Authenticate", "Bearer")])
        return [b""]

    return answer


@contextmanager
def metrics_server(settings: ObserveSettings, registry: CollectorRegistry) -> Iterator[int]:
    """Serve metrics over HTTP, or HTTPS with certificates, within the block; yield the port.

    Raises
    ------
    Misconfigured
        The port is taken, the host is not this machine's, or a certificate or the token's file cannot be used.
    """
    assert settings.address is not None
    host, port = settings.address
    certificate, key, authority = (
        None if path is None else str(path)
        for path in (settings.metrics_cert, settings.metrics_key, settings.metrics_ca)
    )
    token = None if settings.metrics_token_file is None else token_in(settings.metrics_token_file)
    try:
        if certificate is not None:  # before the port is taken: it would stay taken
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            # For a key with a passphrase OpenSSL would prompt on the terminal, where there may be nobody.
            context.load_cert_chain(certificate, key, password=lambda: b"")
            context.load_verify_locations(authority or certificate)
            require_valid("observe.metrics_cert", Path(certificate))
        # Metrics only once they are guarded.
        server, thread = start_http_server(
            port, host, CollectorRegistry(), certificate, key, authority, client_auth_required=authority is not None
        )
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise Misconfigured(
            "metrics",
            "observe.metrics",
            f"figures cannot be served at {settings.metrics}: {error}.",
            "name a free port of this machine, certificates and keys (without a passphrase) that fit, or leave it out.",
        ) from error
    figures = make_wsgi_app(registry)
    server.set_app(figures if token is None else _guarded(figures, token))
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run_figures(
    summary: RunSummary | None, exit_code: int, made: ProvenanceRecord | None, lag: Percentiles | None
) -> CollectorRegistry:
    """Return the metrics of a run that has ended.

    Parameters
    ----------
    summary
        Its summary; None: an error ended it.
    exit_code
        Its exit code.
    made
        Versions that its exposures were searched with.
    lag
        Time from the end of an exposure to its catalogue, in the last night.
    """
    registry = CollectorRegistry()
    _gauge(registry, "end_timestamp_seconds", "When it ended.").set(time())
    meaning = "0: all is published; 1: some failed; 2: refused; 3: some is in quarantine; 4: another run holds OUT."
    _gauge(registry, "exit_code", meaning).set(exit_code)
    if made is not None:
        add_build_info(registry, made)
    if summary is None:
        return registry
    exposures = _gauge(registry, "exposures", "Exposures by what became of them.", "state")
    for state, count in summary.exposures.model_dump(exclude={"seen"}).items():
        exposures.labels(state).set(count)
    _gauge(registry, "windows", "Windows searched.").set(summary.windows)
    _gauge(registry, "windows_unscored", "Of these, not scored.").set(summary.unscored)
    _gauge(registry, "detections", "In the catalogues of the exposures seen.").set(summary.detections)
    _gauge(registry, "night_failed", "Stages of whole nights that failed.").set(len(summary.night_failed))
    rows = _gauge(registry, "catalogue_rows", "Of datasets of whole nights, in the nights seen.", "dataset")
    for dataset, count in summary.catalogues.items():
        rows.labels(dataset).set(count)
    worked = _gauge(registry, "worker_seconds", "Worker time by what it went to.", "part")
    for part, seconds in summary.worker_seconds.items():
        worked.labels(part).set(seconds)
    if "wall" in summary.seconds:
        _gauge(registry, "duration_seconds", "From its start to its end.").set(summary.seconds["wall"])
    if lag is not None:
        lags = _gauge(registry, "lag_seconds", "From the end of an exposure to its catalogue.", "quantile")
        lags.labels("0.5").set(lag.p50)
        lags.labels("0.99").set(lag.p99)
    return registry


def write_figures(path: Path, registry: CollectorRegistry) -> None:
    """Replace a file of metrics atomically.

    Raises
    ------
    OSError
        It cannot be written.
    """
    write_to_textfile(str(path), registry)


def require_writable(path: Path) -> None:
    """Check at the start of a run that its file of metrics can be written.

    Raises
    ------
    Misconfigured
        Its folder does not exist.
    """
    if not path.parent.is_dir():
        raise Misconfigured(
            "metrics_file",
            "observe.metrics_file",
            f"there is no folder {path.parent}.",
            "name the folder that node_exporter was given with --collector.textfile.directory.",
        )


def _gauge(registry: CollectorRegistry, name: str, what: str, *labels: str) -> Gauge:
    return Gauge(f"nightstride_run_{name}", what, labels, registry=registry)


class WorkerMemory(Collector):
    """Memory, its limit and GPU memory of each worker, as last reported to the scheduler."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names are only known when metrics are collected."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Query the scheduler, and return its metrics."""
        scheduler = self._client.scheduler
        if scheduler is None:  # connections are closed
            return
        try:
            found = self._client.sync(scheduler.identity, n_workers=-1, callback_timeout=ANSWER_S)
        except (OSError, TimeoutError):
            return
        yield from families(found["workers"])


def families(workers: dict[str, Any]) -> Iterable[Metric]:
    """Convert a scheduler's data on its workers to metrics; GPU memory only if a worker has reported any."""
    yield GaugeMetricFamily("nightstride_workers", "Workers that there are.", len(workers))
    memory = GaugeMetricFamily("nightstride_worker_memory_bytes", "Resident memory of a worker.", labels=["worker"])
    limit = GaugeMetricFamily(
        "nightstride_worker_memory_limit_bytes", "At which a worker is restarted.", labels=["worker"]
    )
    gpu = GaugeMetricFamily(
        "nightstride_worker_gpu_memory_bytes", "GPU memory that torch holds for a worker.", labels=["worker"]
    )
    for worker in workers.values():
        name, told = [str(worker["name"])], worker["metrics"]
        memory.add_metric(name, told["memory"])
        if worker["memory_limit"]:
            limit.add_metric(name, worker["memory_limit"])
        if told.get(GPU) is not None:
            gpu.add_metric(name, told[GPU])
    yield memory
    yield limit
    if gpu.samples:
        yield gpu

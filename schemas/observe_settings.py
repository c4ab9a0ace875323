"""Settings of metrics and logs."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class ObserveSettings(BaseModel):
    """Metrics and logs. Traces are set by OpenTelemetry's own environment (``OTEL_EXPORTER_OTLP_ENDPOINT``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: Annotated[
        str | None,
        Field(description="Where Prometheus finds metrics while a command runs, [HOST:]PORT; null: nowhere."),
    ] = None
    metrics_cert: Annotated[Path | None, Field(description="Certificate of that address, PEM; null: no TLS.")] = None
    metrics_key: Annotated[Path | None, Field(description="Its key, PEM.")] = None
    metrics_ca: Annotated[
        Path | None,
        Field(description="Authority, PEM: clients without its certificate are refused; null: none are."),
    ] = None
    metrics_token_file: Annotated[
        Path | None,
        Field(description="File with a token that clients must send (Authorization: Bearer); made if it is missing; "
        "null: no token is asked for."),
    ] = None  # fmt: skip
    metrics_file: Annotated[
        Path | None,
        Field(description="File NAME.prom for node_exporter's textfile collector, written at the end; null: none."),
    ] = None
    log_format: Annotated[
        Literal["text", "json"], Field(description="What is written to standard error: words, or a JSON object a line.")
    ] = "text"

    @field_validator("metrics")
    @classmethod
    def _has_a_port(cls, value: str | None) -> str | None:
        if value is None:
            return None
        found = re.fullmatch(r"(?:(?P<host>[\w.-]+|\[[\da-fA-F:]+\]):)?(?P<port>\d{1,5})", value)
        if found is None or int(found["port"]) > 65535:
            raise ValueError("must be PORT or HOST:PORT")
        return f"{found['host'] or '127.0.0.1'}:{int(found['port'])}"

    @field_validator("metrics_file")
    @classmethod
    def _is_collected(cls, value: Path | None) -> Path | None:
        if value is not None and value.suffix != ".prom":
            raise ValueError("must end in .prom: node_exporter reads no other files")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.metrics_cert is None) is not (self.metrics_key is None):
            raise ValueError("metrics_cert and metrics_key go together: give both or none")
        if self.metrics_ca is not None and self.metrics_cert is None:
            raise ValueError("metrics_ca needs metrics_cert and metrics_key")
        if self.metrics_cert is not None and self.metrics is None:
            raise ValueError("metrics_cert needs metrics")
        if self.metrics_token_file is not None and self.metrics is None:
            raise ValueError("metrics_token_file needs metrics")
        return self

    @property
    def address(self) -> tuple[str, int] | None:
        """Return host and port of the metrics."""
        if self.metrics is None:
            return None
        host, _, port = self.metrics.rpartition(":")
        return host.strip("[]"), int(port)

"""Settings of alerts and of their destinations."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_OURS = ("bootstrap.servers", "enable.idempotence", "message.timeout.ms", "delivery.timeout.ms")
_SECRET = re.compile(r"password|secret|key\.pem|token|username|userinfo")


class KafkaSettings(BaseModel):
    """Kafka messages. Secrets are read only from the environment (``NIGHTSTRIDE_KAFKA_SASL_PASSWORD``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compression: Annotated[
        Literal["snappy", "lz4", "zstd", "gzip", "none"], Field(description="Compression of messages on their way.")
    ] = "snappy"
    batch_kib: Annotated[int, Field(gt=0, le=1 << 20, description="Messages are sent together up to this, KiB.")] = 2048
    linger_ms: Annotated[float, Field(ge=0, description="How long a message waits for others, ms.")] = 5.0
    queue_mib: Annotated[int, Field(gt=0, description="Messages on their way take this at most, MiB.")] = 64
    max_message_kib: Annotated[
        int, Field(gt=0, le=1 << 20, description="A larger message is a dead letter, KiB; the topic has to allow it.")
    ] = 4096
    delivery_timeout_s: Annotated[
        float,
        Field(gt=0, le=3600, description="A message not acknowledged for so long stays in the outbox, s."),
    ] = 30.0
    settings: Annotated[
        Mapping[str, str],
        Field(description='Other settings of librdkafka, e.g. "security.protocol" = "SASL_SSL"; the environment goes '
        "before them."),
    ] = {}  # fmt: skip

    @field_validator("settings")
    @classmethod
    def _no_secrets(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name in value:
            if name in _OURS:
                raise ValueError(f"{name} must not be set here: it has a setting of its own")
            if _SECRET.search(name):
                variable = f"NIGHTSTRIDE_KAFKA_{name.upper().replace('.', '_')}"
                raise ValueError(f"{name} must not be in a file: set it as {variable}")
        return value


class AlertSettings(BaseModel):
    """Alerts of the detections that a run publishes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: Annotated[
        str | None,
        Field(description="Runs send the alerts of each visit there: kafka://HOST:PORT/TOPIC, s3://… or a folder; "
        "null: nowhere."),
    ] = None  # fmt: skip
    form: Annotated[
        Literal["11.1", "11.0", "10.0", "ztf"], Field(description="Version of Rubin's schema; or ztf: as ZTF's.")
    ] = "11.1"
    outbox: Annotated[
        Path | None,
        Field(description="File of the outbox; null: OUT/alerts/outbox.sqlite, which cannot be in an object store."),
    ] = None
    registry: Annotated[
        str | None,
        Field(description="URL of a schema registry; null: schemas are those of the package lsst-alert-packet."),
    ] = None
    registry_timeout_s: Annotated[float, Field(gt=0, description="Longest silence of the registry, s.")] = 10.0
    kafka: KafkaSettings = KafkaSettings()
    history_days: Annotated[
        float, Field(ge=0, description="How far back earlier detections of the object go, d; Rubin: 12 months.")
    ] = 365.0
    cutout_min: Annotated[int, Field(ge=3, le=512, description="Least side of a cutout, px.")] = 30
    cutout_max: Annotated[int, Field(ge=3, le=512, description="Largest side of a cutout, px.")] = 102

    @model_validator(mode="after")
    def _ordered(self) -> "AlertSettings":
        if self.cutout_min > self.cutout_max:
            raise ValueError(f"cutout_min must not be above cutout_max, got {self.cutout_min} and {self.cutout_max}")
        return self

    @field_validator("registry")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", value):
            raise ValueError("must be http:// or https:// and a host, without user, password and query")
        return value.rstrip("/")

    @field_validator("to")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        if value is not None and re.search(r"://[^/]*@", value):
            raise ValueError("must hold no password: set it in the environment")
        return value

"""Settings of the cluster: this machine, an existing Dask cluster, or jobs of a batch system."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class SlurmSettings(BaseModel):
    """Jobs of SLURM; each core is one worker. Names are those of ``sbatch``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queue: Annotated[str | None, Field(description="Partition; null: the default one.")] = None
    account: Annotated[str | None, Field(description="Account that is charged; null: the user's.")] = None
    cores: Annotated[int, Field(gt=0, description="Cores of a job, and its workers.")] = 1
    memory_gib: Annotated[float, Field(gt=0, description="Memory of a job, GiB; its workers share it.")] = 2.0
    walltime: Annotated[
        str, Field(pattern=r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$", description="Longest time of a job, [D-]HH:MM:SS.")
    ] = "04:00:00"
    minimum_jobs: Annotated[int, Field(gt=0, description="Jobs that are kept running while a night is.")] = 1
    maximum_jobs: Annotated[int, Field(gt=0, description="Most jobs at a time.")] = 8
    start_timeout_s: Annotated[float, Field(gt=0, description="How long to wait for the first job, s.")] = 1800.0
    directives: Annotated[
        tuple[str, ...], Field(description="Further options of sbatch, e.g. '--constraint=avx2'.")
    ] = ()
    prologue: Annotated[
        tuple[str, ...], Field(description="Lines of the job's script before the worker starts, e.g. 'module load …'.")
    ] = ()
    interface: Annotated[
        str | None, Field(description="Network interface of scheduler and workers, e.g. 'ib0'; null: the host's own.")
    ] = None
    folder: Annotated[
        Path | None,
        Field(description="Folder that all nodes share, for logs and passing keys; null: ~/.cache/nightstride/slurm."),
    ] = None

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.minimum_jobs > self.maximum_jobs:
            raise ValueError(f"minimum_jobs = {self.minimum_jobs} is more than maximum_jobs = {self.maximum_jobs}")
        return self


class ClusterSettings(BaseModel):
    """Location of the workers, access to them, and the tasks of each kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Annotated[
        Literal["local", "address", "slurm"],
        Field(description="local: processes on this machine; address: a Dask cluster that is there; slurm: jobs."),
    ] = "local"
    address: Annotated[
        str | None, Field(description="Address of a Dask scheduler, tcp://HOST:PORT or tls://HOST:PORT.")
    ] = None
    tls_ca: Annotated[Path | None, Field(description="Certificate of the authority that all sides trust, PEM.")] = None
    tls_cert: Annotated[Path | None, Field(description="Our certificate, signed by it, PEM.")] = None
    tls_key: Annotated[Path | None, Field(description="Key of our certificate, PEM.")] = None
    inference_resource: Annotated[
        str | None,
        Field(min_length=1, description="Dask resource of the workers that run networks, e.g. 'GPU'; null: any."),
    ] = None
    other_resource: Annotated[
        str | None,
        Field(min_length=1, description="Dask resource of the workers that do all else, e.g. 'CPU'; null: any."),
    ] = None
    slurm: SlurmSettings = SlurmSettings()

    @field_validator("address")
    @classmethod
    def _has_a_protocol(cls, value: str | None) -> str | None:
        if value is not None:
            protocol, _, place = value.partition("://")
            host, _, port = place.rpartition(":")
            if protocol not in ("tcp", "tls") or not host or not port.isdigit():
                raise ValueError("must be tcp://HOST:PORT or tls://HOST:PORT")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "address" and self.address is None:
            raise ValueError("kind = 'address' needs cluster.address")
        if self.kind != "address" and self.address is not None:
            raise ValueError(f"cluster.address needs kind = 'address', not {self.kind!r}")
        files = (self.tls_ca, self.tls_cert, self.tls_key)
        if any(files) and not all(files):
            raise ValueError("tls_ca, tls_cert and tls_key go together: give all three or none")
        if self.kind == "local" and any(files):
            raise ValueError("tls_ca, tls_cert and tls_key need kind = 'address' or 'slurm'")
        if self.kind == "address" and self.encrypted is not all(files):
            rule = "needs" if self.encrypted else "uses no"
            raise ValueError(f"address {self.address} {rule} tls_ca, tls_cert and tls_key")
        return self

    @model_validator(mode="after")
    def _kinds_of_workers(self) -> Self:
        if self.kind != "address" and (self.inference_resource or self.other_resource):
            raise ValueError("inference_resource and other_resource need kind = 'address': other workers are all alike")
        return self

    @property
    def encrypted(self) -> bool:
        """Return whether the address asks for TLS."""
        return self.address is not None and self.address.startswith("tls://")

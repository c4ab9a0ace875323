"""Files of alert packets: Avro containers, single, in folders and in tarballs."""

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from flows.inputs.avro_container import MAGIC, open_container
from flows.inputs.butler_repository import is_repository
from flows.inputs.files import STREAM, open_part
from flows.inputs.folder_walk import SUFFIXES
from flows.inputs.sources import files_of
from flows.inputs.ztf_packets import ZtfPacket, read_packet, require_ztf
from flows.runtime.settings import require_there
from schemas.errors import BadInput, Misconfigured, NightstrideError, Retryable, read_failure

AVRO = ".avro"
TARBALLS = (".tar", ".tar.gz", ".tgz")

_PEEK = 16
"""Number of members of a tarball that are examined to tell what it holds."""


class FoundRecord(NamedTuple):
    """Record of a file, or why it cannot be read.

    Attributes
    ----------
    name
        File, ``!`` and the name within a tarball, and ``[n]`` for all but the first record of a container.
    content
        Record as decoded from Avro, its stamps still compressed; or the error.
    """

    name: str
    content: Mapping[str, Any] | NightstrideError


def packet_files(inputs: Sequence[str]) -> list[str]:
    """Return the files of alert packets among the inputs of a command; none if these are images.

    Parameters
    ----------
    inputs
        Files, folders, searched with all below them, or patterns; local paths or URLs. In a folder, packets are the
        files ``*.avro``, and tarballs (``.tar``, ``.tar.gz``, ``.tgz``) with one among their first members.

    Returns
    -------
    list of str
        Each once, in the order of the inputs and sorted within each; folders that cannot be listed come last.

    Raises
    ------
    Misconfigured
        ``mixed_inputs``: some are packets, others images.
    """
    packets, unlisted = dict[str, None](), dict[str, None]()
    other: str | None = None
    for given in inputs:
        if is_repository(given):
            other = other or given
            continue
        found = False
        for uri in files_of(given):
            if _holds_packets(uri, named=uri == given):
                packets[uri] = None
                found = True
            elif uri.endswith("/"):
                unlisted[uri] = None
            elif uri.lower().endswith(SUFFIXES):
                other = other or uri
        if not found:
            other = other or given
    if packets and other is not None:
        raise Misconfigured(
            "mixed_inputs",
            other,
            f"is not an alert packet, and {next(iter(packets))} is.",
            "search packets and images in runs of their own, each with its --out.",
        )
    return [*packets, *unlisted] if packets else []


def _holds_packets(uri: str, *, named: bool) -> bool:
    """Return whether a file holds packets: by its name, a tarball by its members, a named file by its first bytes."""
    low = uri.lower()
    if low.endswith(AVRO):
        return True
    try:
        if low.endswith(TARBALLS):
            with open_part(uri, STREAM) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
                members = (member for member in archive if member.isfile())
                return any(member.name.endswith(AVRO) for member, _ in zip(members, range(_PEEK), strict=False))
        if named and not low.endswith(SUFFIXES):
            with open_part(uri) as file:
                return file.read(len(MAGIC)) == MAGIC
    except (NightstrideError, tarfile.TarError, OSError, EOFError):
        return False
    return False


def read_records(uri: str) -> Iterator[FoundRecord]:
    """Yield the records of a file, with an error in place of each that cannot be read, and continue.

    Raises
    ------
    Misconfigured
        ``fastavro`` is not installed.
    """
    try:
        if uri.lower().endswith(TARBALLS):
            yield from _of_tarball(uri)
            return
        with open_part(uri, STREAM) as file:
            yield from _of_container(uri, file)
    except (BadInput, Retryable) as error:
        yield FoundRecord(uri, error)


def _of_tarball(uri: str) -> Iterator[FoundRecord]:
    with open_part(uri, STREAM) as file:
        try:
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.isfile() else None
                    if stream is not None and member.name.endswith(AVRO):
                        yield from _of_container(f"{uri}!{member.name}", stream)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise BadInput(
                "bad_tarball",
                uri,
                f"cannot be read to its end: {read_failure(error)}.",
                "fetch it again; what comes before is searched.",
            ) from error


def _of_container(name: str, file: IO[bytes]) -> Iterator[FoundRecord]:
    number = 0
    try:
        schema, records = open_container(file, name)
        require_ztf(schema, name)
        for record in records:
            yield FoundRecord(_numbered(name, number), record)
            number += 1
    except BadInput as error:
        yield FoundRecord(_numbered(name, number), error)


def _numbered(name: str, number: int) -> str:
    return name if number == 0 else f"{name}[{number}]"


def read_packets(path: Path) -> Iterator[ZtfPacket]:
    """Read all alert packets of an Avro file, a folder of them (with all below it), or a tarball.

    Raises
    ------
    Misconfigured
        No packets are found, or ``fastavro`` is not installed.
    BadInput, Retryable
        A file cannot be read, or is not an alert packet of ZTF.
    """
    require_there(path, "a folder or tarball of *.avro.")
    found = False
    for uri in packet_files([str(path)]):
        for name, content in read_records(uri):
            if isinstance(content, NightstrideError):
                raise content
            found = True
            yield read_packet(content, name)
    if not found:
        raise Misconfigured("no_packets", str(path), "holds no alert packets.", "name a folder or tarball of *.avro.")

"""What is being worked on: fields of logs and traces that whoever writes them need not know."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from schemas.exposure import ExposureKey

Fields = Mapping[str, str | int]

_fields: ContextVar[Fields] = ContextVar("nightstride_where", default={})  # noqa: B039  # never changed, only replaced


def where() -> Fields:
    """Give the fields that are bound here."""
    return _fields.get()


@contextmanager
def bound(fields: Fields) -> Iterator[None]:
    """Bind fields as long as the block lasts, beside those that are bound."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def of_exposure(key: ExposureKey) -> Fields:
    """Give the fields of an exposure."""
    return {"night": key.night, "visit": key.visit, "detector": key.detector, "exposure": key.name}

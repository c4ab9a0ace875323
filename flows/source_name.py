"""What messages, ledger and provenance call a source."""

from flows.adapters.sources import Source


def name_of(source: Source) -> str:
    """Give the uri of a source, with the place in a stack; equals the ``source_uri`` of the exposure read from it."""
    return source.uri if source.index is None else f"{source.uri}[{source.index}]"

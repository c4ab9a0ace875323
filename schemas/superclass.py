"""Star, galaxy or quasar."""

SUPERCLASSES = ("star", "galaxy", "quasar")

_NAMES = {"STAR": "star", "GALAXY": "galaxy", "QSO": "quasar", "QUASAR": "quasar"}


def superclass(raw: str) -> str | None:
    """Give the superclass of an SDSS ``class`` (``STAR``, ``GALAXY``, ``QSO``, in any case); None if it is none."""
    return _NAMES.get(raw.strip().upper())

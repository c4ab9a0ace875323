"""Whether the page of a night is due, by its ledger record."""

from pathlib import Path

from flows.storage.layout import page_path
from flows.storage.ledger import Ledger


def page_is_due(out: Path, night: str) -> bool:
    """Return whether the page of a night is not there, or was not drawn since something of it was made."""
    whole = Ledger(out).night(night)
    return (whole is not None and whole.drawn is False) or not page_path(out, night).exists()


def note_drawn(out: Path, night: str) -> None:
    """Record that the page of a night is drawn."""
    ledger = Ledger(out)
    if (whole := ledger.night(night)) is not None and not whole.drawn:
        ledger.put_night(whole.model_copy(update={"drawn": True}))

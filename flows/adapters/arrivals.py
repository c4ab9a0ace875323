"""Where the exposures of a stream come from."""

from typing import Protocol


class Arrivals(Protocol):
    """Image files that arrive one after the other. What is not asked for stays where it is."""

    @property
    def waiting(self) -> int:
        """Files that are known to be ready and were not taken yet; 0 where that is not known."""

    def poll(self, room: int) -> list[str]:
        """Give at most ``room`` paths or URLs that are ready, each once for each state of the file; may give none.

        Raises
        ------
        Retryable
            The place cannot be looked at for now.
        """

    def finished(self, uri: str) -> None:
        """Be told that what a file holds is published, or recorded as not: it need not be given again."""

    def close(self) -> None:
        """Let go of what was not taken."""

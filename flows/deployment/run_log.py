"""What a run says, as lines of a log."""

import io
import logging


class RunLog(io.StringIO):
    """A file whose lines go to a logger.

    Parameters
    ----------
    logger
        Gets each line that is not empty.
    """

    def __init__(self, logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]") -> None:
        super().__init__()
        self._logger, self._rest = logger, ""

    def write(self, text: str) -> int:
        """Take text; a line is logged when it ends."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._logger.info("%s", line.rstrip())
        return len(text)

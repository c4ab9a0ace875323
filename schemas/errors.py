"""Failures, sorted by what the caller does about them."""


class NightstrideError(Exception):
    """Base of all our errors: a place, a problem, a remedy.

    Parameters
    ----------
    code
        Short stable name of the failure, e.g. ``"missing_keyword"``.
    where
        File, field or setting that is at fault.
    problem
        What is wrong with it: the value found and the rule it breaks.
    remedy
        What to do, as the end of the sentence "To fix, ...".
    """

    def __init__(self, code: str, where: str, problem: str, remedy: str) -> None:
        # All four go to the base class, so that the error survives pickling between processes.
        super().__init__(code, where, problem, remedy)
        self.code, self.where, self.problem, self.remedy = code, where, problem, remedy

    def __str__(self) -> str:
        return f"{self.where}: {self.problem} To fix, {self.remedy}"


class NoWork(NightstrideError):
    """Raised when there is nothing to do: listed as not run, no failure."""


class BadInput(NightstrideError):
    """Raised when one exposure cannot be used: it is quarantined with the reason, the night goes on."""


class Retryable(NightstrideError):
    """Raised when the same call may succeed later: retried with backoff."""


class Misconfigured(NightstrideError):
    """Raised when no exposure could succeed: the run stops before any work."""

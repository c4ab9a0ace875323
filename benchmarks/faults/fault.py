"""Fault of a night, and its outcome."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.faults.scene import Scene


@dataclass(frozen=True)
class Fault:
    """Fault: something that goes wrong.

    Attributes
    ----------
    name
        Name in a few words.
    how
        What is done in the middle of the work, and what the operator or supervisor does then.
    run
        Function that does it, and brings the night to its end.
    codes
        Exit codes of the commands, in their order: a night that needs no restart must not have had one.
    """

    name: str
    how: str
    run: Callable[[Scene], None]
    codes: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Outcome:
    """Outcome of a night with a fault, compared with the same night undisturbed.

    Attributes
    ----------
    name, how
        Of the fault.
    rows_lost, rows_duplicated
        Rows of ``dia_source``, by diaSourceId.
    exposures_lost, exposures_duplicated
        By visit and detector, in the ledger and among the published files.
    files_differing
        Published files of exposures, patches and the night that are not the same to the byte, missing or too many.
    associated_differing
        Rows of the association's store that are missing or too many.
    problems
        Problems that `nightstride verify` finds.
    leftovers
        Temporary files, and processes that still run.
    exit_codes
        Of all commands, in their order; -N: ended by signal N.
    recovery_s
        Time from the fault until another exposure is done, s.
    elapsed_s
        Time from the first command's start to the last one's end, s.
    evidence
        Evidence that the fault took place.
    failure
        Why the row is invalid: the fault did not take place, or the night did not end. None: it is valid.
    available
        Whether what the fault needs is there.
    codes
        Exit codes that the commands must have.
    """

    name: str
    how: str
    rows_lost: int = 0
    rows_duplicated: int = 0
    exposures_lost: int = 0
    exposures_duplicated: int = 0
    files_differing: int = 0
    associated_differing: int = 0
    problems: int = 0
    leftovers: tuple[str, ...] = ()
    exit_codes: tuple[int, ...] = ()
    recovery_s: float | None = None
    elapsed_s: float = 0.0
    evidence: str = ""
    failure: str | None = None
    available: bool = True
    codes: tuple[int, ...] = (0,)

    @property
    def survived(self) -> bool:
        """Return whether the fault took place, and nothing is lost, duplicated, different or left behind."""
        wrong = (self.rows_lost, self.rows_duplicated, self.exposures_lost, self.exposures_duplicated)
        return (
            self.failure is None
            and not any((*wrong, self.files_differing, self.associated_differing, self.problems, self.leftovers))
            and self.exit_codes == self.codes
        )

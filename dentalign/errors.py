"""Exceptions that end a command, with their exit codes, and defects of a case or a tooth, which do not."""

from typing import Self


class DentalignError(Exception):
    """Failure with a cause that the user can act on; ends the command."""

    exit_code = 1


class ParamError(DentalignError):
    """Wrong value in params.yaml or on the command line."""

    exit_code = 2


class NothingUsable(DentalignError):
    """Input without any usable case or tooth."""

    exit_code = 3


class DiskFull(DentalignError):
    """Write that the disk, a quota or a limit on file sizes refused."""


class Defect(Exception):
    """Defect in the data of one case: listed and left out, never the end of a run.

    code : short reason code, such as "zero_quaternion"
    seen : what was found
    fix : what the user can do about it
    file : where it was found, as the user knows it (path or URL)
    tooth: FDI number (or the text that stood in its place), None where the whole document is meant
    """

    def __init__(self, code: str, seen: str, fix: str, *, file: str = "", tooth: str | int | None = None):
        self.code, self.seen, self.fix, self.file, self.tooth = code, seen, fix, file, tooth
        super().__init__(code, seen, fix)  # what pickle builds it from, for a process elsewhere

    def __str__(self) -> str:
        return f"{self.code}: {self.seen}; {self.fix}" + (f" [{self.file}]" if self.file else "")

    def at(self, file: str) -> Self:
        """Return the same defect with another file name."""
        return type(self)(self.code, self.seen, self.fix, file=file, tooth=self.tooth)


class CaseDefect(Defect):
    """Defect that excludes the case."""


class ToothDefect(Defect):
    """Defect that drops one tooth; the rest of the case is used."""

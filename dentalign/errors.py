"""Exceptions that end a command, with its exit code, and defects of a case or tooth, which end no command."""

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
    """Failed write: the disk or a quota is full, or a limit on file sizes is reached."""


class Defect(Exception):
    """Defect in the data of one case; the case or tooth is listed and left out, and the command goes on.

    code  : short reason code, such as "zero_quaternion"
    seen  : what was found
    fix   : what the user can do about it
    file  : path or URL of the file, as the user knows it
    tooth : FDI number, or "?" for keys that are not numbers; None if the defect is of the whole case
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
    """Defect that drops one tooth; the other teeth of the case are used."""

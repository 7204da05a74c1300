"""The errors a user may meet, and what each means for the run."""

from typing import Self


class DentalignError(Exception):
    """A failure with a cause that the user can act on; ends the command."""

    exit_code = 1


class ParamError(DentalignError):
    """A value in params.yaml or on the command line cannot be used."""

    exit_code = 2


class NothingUsable(DentalignError):
    """The input holds no case (or no tooth) that can be used."""

    exit_code = 3


class Interrupted(DentalignError):
    """Stopped on request; the same command goes on from here."""

    exit_code = 130


class DiskFull(DentalignError):
    """A write that the disk, a quota or a limit on file sizes refused."""


class Defect(Exception):
    """Something wrong with the data of one case: listed and left out, never the end of a run.

    code : short reason code, such as "zero_quaternion"
    seen : what was found
    mend : what the user can do about it
    file : where it was found, as the user knows it (path or URL)
    tooth: FDI number (or the text that stood in its place), None where the whole document is meant
    """

    def __init__(self, code: str, seen: str, mend: str, *, file: str = "", tooth: str | int | None = None):
        self.code, self.seen, self.mend, self.file, self.tooth = code, seen, mend, file, tooth
        super().__init__(code, seen, mend)  # what pickle builds it from, for a process elsewhere

    def __str__(self) -> str:
        return f"{self.code}: {self.seen}; {self.mend}" + (f" [{self.file}]" if self.file else "")

    def at(self, file: str) -> Self:
        """The same, found in a file of another name."""
        return type(self)(self.code, self.seen, self.mend, file=file, tooth=self.tooth)


class CaseDefect(Defect):
    """The case cannot be used."""


class ToothDefect(Defect):
    """The tooth cannot be used; the rest of the case can."""

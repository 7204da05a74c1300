"""Find tooth numbers in file names, and the notation of numbers: FDI or Universal."""

import re
from collections.abc import Collection, Mapping

from dentalign.errors import CaseDefect
from dentalign.importers.jaw_names import JAWS
from dentalign.numbering import from_universal
from dentalign.teeth import is_known, is_upper

FDI, UNIVERSAL = "fdi", "universal"
NUMBERING = "tooth numbers are"  # note of an import
_SAY = "name the notation with --numbering fdi or --numbering universal"


def to_fdi(number: int, notation: str) -> int | None:
    """Convert a number in the notation "fdi" or "universal" to FDI; None if it is no tooth there."""
    if notation == FDI:
        return number if is_known(number) else None
    return from_universal(number) if 1 <= number <= 32 else None


def in_names(stems: Mapping[str, str], file: str = "") -> dict[str, int]:
    """Find the tooth number in the file names of one mouth's crowns; any text may precede or follow it.

    A name may have more numbers (of a patient, a date, a version). Their positions are counted from the front
    and from the end of the names. At the position of the tooth number, the names have the most different
    values.

    stems   : file -> its name without folder and ending
    file    : folder of the files, for the defect
    returns : file -> number, for the files that have one
    raises  : CaseDefect if two positions have equally many different values
    """
    parts = {name: re.findall(r"\d+", stem) for name, stem in stems.items()}
    most = max(map(len, parts.values()), default=0)
    found: list[dict[str, int]] = []
    for place in (*range(most), *range(-1, -most - 1, -1)):
        numbers = {
            name: int(part[place])
            for name, part in parts.items()
            if -len(part) <= place < len(part) and _may_be_tooth(part[place])
        }
        if numbers not in found:
            found.append(numbers)
    different = [len(set(numbers.values())) for numbers in found]
    best = [numbers for numbers, count in zip(found, different, strict=True) if count == max(different)]
    if len(best) > 1:
        seen = "two numbers in the files' names may be the tooth number"
        raise CaseDefect("numbers_unclear", seen, "name the files <number>.stl", file=file)
    return best[0] if best else {}


def _may_be_tooth(digits: str) -> bool:
    return len(digits) <= 2 and any(to_fdi(int(digits), notation) for notation in (FDI, UNIVERSAL))


def notation_of(numbers: Mapping[str, Collection[int]], option: str = "", file: str = "") -> str:
    """Find the notation of the numbers of one mouth, "fdi" or "universal".

    19 is no FDI number, and 33 is no Universal number. A lower tooth 17 is Universal, as 17 is upper in FDI.

    numbers : "upper", "lower" or "" (jaw unknown) -> numbers
    option  : notation by the user's choice, returned as it is; or ""
    file    : folder or scan, for the defect
    raises  : CaseDefect if the numbers fit both notations, or neither
    """
    if option:
        return option
    fit = [notation for notation in (FDI, UNIVERSAL) if _fits(numbers, notation)]
    if len(fit) == 1:
        return fit[0]
    if fit:
        seen = "the tooth numbers exist in both notations, FDI and Universal"
    else:
        seen = "some numbers are no FDI numbers, others no Universal numbers"
    raise CaseDefect("numbers_unclear", seen, _SAY, file=file)


def _fits(numbers: Mapping[str, Collection[int]], notation: str) -> bool:
    for jaw, of_jaw in numbers.items():
        # A number that is a tooth in neither notation does not count.
        for number in filter(lambda number: to_fdi(number, FDI) or to_fdi(number, UNIVERSAL), of_jaw):
            fdi = to_fdi(number, notation)
            if fdi is None or (jaw in JAWS and is_upper(fdi) != (jaw == "upper")):
                return False
    return True

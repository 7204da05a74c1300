"""Conversion of tooth numbers from FDI to Universal and Palmer and back, for permanent and primary teeth.

FDI (ISO 3950): quadrant and position, 11..48 permanent, 51..85 primary. Quadrants 1 and 5 are the patient's
upper right; the next are upper left, lower left and lower right.
Universal (ADA): 1..16 along the upper arch from the patient's right third molar to the left one, then 17..32
along the lower arch from the left to the right. Primary teeth are A..T in the same order.
Palmer (Zsigmondy): quadrant, and position counted from the midline, 1..8 or A..E for primary teeth. As text
UR6, ULB; with a sign for the quadrant, which shows the patient's right on the left, 6┘, └B, 6┐, ┌B.
"""

from dentalign.teeth import LOWER, PRIMARY, UPPER, is_known

_QUADRANTS = ("UR", "UL", "LL", "LR")
_SIGNS = ("┘", "└", "┌", "┐")
_LETTERS = "ABCDE"

_PRIMARY_ROUND = tuple(
    10 * quadrant + position
    for quadrant in (5, 6, 7, 8)
    for position in (range(5, 0, -1) if quadrant in (5, 7) else range(1, 6))
)
_TO_UNIVERSAL = {fdi: str(number) for number, fdi in enumerate(UPPER + LOWER, 1)} | {
    fdi: chr(ord("A") + index) for index, fdi in enumerate(_PRIMARY_ROUND)
}
_FROM_UNIVERSAL = {text: fdi for fdi, text in _TO_UNIVERSAL.items()}


def to_universal(fdi: int) -> str:
    """Universal number of an FDI number: 18 -> "1", 38 -> "17", 55 -> "A"; raises ValueError if unknown."""
    return _TO_UNIVERSAL[_known(fdi)]


def from_universal(text: str | int) -> int:
    """FDI number of a Universal number: "1" -> 18, "t" -> 85; raises ValueError if unknown."""
    try:
        return _FROM_UNIVERSAL[str(text).strip().upper()]
    except KeyError:
        raise ValueError(f"a Universal number is 1 to 32 or A to T, got {text!r}") from None


def to_palmer(fdi: int, *, sign: bool = False) -> str:
    """Palmer notation of an FDI number: 16 -> "UR6", 62 -> "ULB"; with `sign` 16 -> "6┘", 62 -> "└B".

    raises: ValueError for a number that is not in the FDI scheme
    """
    quadrant, position = (_known(fdi) // 10 - 1) % 4, fdi % 10
    place = _LETTERS[position - 1] if fdi in PRIMARY else str(position)
    if not sign:
        return _QUADRANTS[quadrant] + place
    right = quadrant in (0, 3)
    return place + _SIGNS[quadrant] if right else _SIGNS[quadrant] + place


def from_palmer(text: str) -> int:
    """FDI number of Palmer notation, as text ("UR6", "ulb") or with the sign ("6┘", "└B").

    raises: ValueError if there is no such tooth
    """
    try:
        return _FROM_PALMER[text.strip().upper()]
    except KeyError:
        raise ValueError(f"Palmer notation is such as UR6, LLB, 6┘ or ┌B, got {text!r}") from None


def _known(fdi: int) -> int:
    if not is_known(fdi):
        raise ValueError(f"an FDI number is 11 to 48 or 51 to 85, got {fdi}")
    return fdi


_FROM_PALMER = {
    to_palmer(fdi, sign=sign): fdi for fdi in (*UPPER, *LOWER, *PRIMARY) for sign in (False, True)
}

"""Teeth in words, for people who do not have the FDI notation by heart."""

from dentalign.teeth import PRIMARY, is_known

_QUADRANTS = ("upper right", "upper left", "lower left", "lower right")
_PERMANENT = ("central incisor", "lateral incisor", "canine", "first premolar", "second premolar",
              "first molar", "second molar", "third molar")  # fmt: skip
_PRIMARY = ("central incisor", "lateral incisor", "canine", "first molar", "second molar")


def name(fdi: int) -> str:
    """The name of a tooth (ISO 3950): 16 -> "upper right first molar"; right is the patient's.

    raises: ValueError where the notation has no such number
    """
    if not is_known(fdi):
        raise ValueError(f"{fdi} is not a number of the FDI notation")
    side, kind = _QUADRANTS[(fdi // 10 - 1) % 4], fdi % 10 - 1
    return f"{side} primary {_PRIMARY[kind]}" if fdi in PRIMARY else f"{side} {_PERMANENT[kind]}"

"""Find the jaw, upper or lower, in the name of a file or folder."""

import re

JAWS = ("upper", "lower")
# The Beijing set has "uppper".
_WORDS = {"upper": re.compile("up+er|maxilla"), "lower": re.compile("lower|mandib")}
_LETTERS = {"upper": "U", "lower": "L"}


def jaw_of(name: str, *, letters: bool = True) -> str:
    """Find the jaw in a name by a part such as "maxilla", or by a U or L that is a word of its own.

    letters : False to look for words only, where L may be the left side
    returns : "upper", "lower", or "" if the name has neither or both
    """
    words = re.split(r"[^A-Za-z]+", name)
    for named in (
        [jaw for jaw in JAWS if _WORDS[jaw].search(name.lower())],
        [jaw for jaw in JAWS if letters and _LETTERS[jaw] in words],
    ):
        if named:
            return named[0] if len(named) == 1 else ""
    return ""


def without_jaw(name: str) -> str:
    """Remove the word or letter of the jaw from a name, so that the patient's part is left; it may be ""."""
    if not jaw_of(name):
        return name
    rest = re.sub(r"(up+er|lower|maxilla(ry)?|mandib(le|ular)?)[ _-]?(jaw|arch|scan)?", "", name, flags=re.I)
    rest = re.sub(r"(?<![A-Za-z])[UL](?![A-Za-z])", "", rest)
    return re.sub(r"[ _-]{2,}", "_", rest).strip(" ._-")

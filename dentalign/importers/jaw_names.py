"""Jaw that the name of a file or folder tells."""

import re

JAWS = ("upper", "lower")
# "uppper" stands in the Beijing set.
_WORDS = {"upper": re.compile("up+er|maxilla"), "lower": re.compile("lower|mandib")}
_LETTERS = {"upper": "U", "lower": "L"}


def jaw_of(name: str, *, letters: bool = True) -> str:
    """Find "upper" or "lower" in a name by a word, or by U or L alone; "" if it names none or both.

    letters : False where L may be the left side
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
    """Remove the word or letter that tells the jaw: what is left names the patient; "" if nothing is left."""
    if not jaw_of(name):
        return name
    rest = re.sub(r"(up+er|lower|maxilla(ry)?|mandib(le|ular)?)[ _-]?(jaw|arch|scan)?", "", name, flags=re.I)
    rest = re.sub(r"(?<![A-Za-z])[UL](?![A-Za-z])", "", rest)
    return re.sub(r"[ _-]{2,}", "_", rest).strip(" ._-")

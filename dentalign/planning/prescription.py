"""Prescription: the wishes of the person who plans a case, from a YAML file or from options of the command.

Every key is explained in docs/prescription.md.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from dentalign import params
from dentalign.params import Section
from dentalign.teeth import PRIMARY, PRIMARY_OFFSET, SLOT_INDEX, SLOTS, is_known, is_upper, successor

Arch = Literal["upper", "lower"]
Width = Literal["3-3", "6-6"]
Contact = tuple[int, int]
Millimetres = Annotated[float, Field(allow_inf_nan=False)]
Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Shift = tuple[Millimetres | None, Millimetres | None, Millimetres | None]

_FREE, _KEEP = "free", "keep"


def parse_teeth(text: str) -> tuple[int, ...]:
    """Parse FDI numbers and ranges such as "14,24" or "13-23,33-43"; sorted, each once.

    A range has all teeth between its ends in the order of the arch: 13-23 is 13 12 11 21 22 23.

    raises: ValueError that says which part cannot be read
    """
    numbers: set[int] = set()
    for word in (part.strip() for part in text.split(",")):
        if word:
            ends = [_tooth(end) for end in word.split("-")]
            if len(ends) > 2:
                raise ValueError(f"{word!r} is no range of teeth such as 13-23")
            numbers.update(ends if len(ends) == 1 else _between(*ends))
    return tuple(sorted(numbers))


def _tooth(word: object) -> int:
    plain = str(word).strip()
    if not (plain.isascii() and plain.isdigit() and is_known(int(plain))):
        raise ValueError(f"must be FDI numbers separated by commas, or ranges such as 13-23, got {plain!r}")
    return int(plain)


def _between(first: int, last: int) -> tuple[int, ...]:
    if is_upper(first) != is_upper(last):
        raise ValueError(f"{first}-{last}: both ends of a range must be in one arch")
    one, other = sorted(SLOT_INDEX[successor(fdi)] for fdi in (first, last))
    offset = PRIMARY_OFFSET if first in PRIMARY and last in PRIMARY else 0
    return (first, last, *(fdi + offset for fdi in SLOTS[one + 1 : other]))


def parse_arch_shift(text: str) -> dict[str, Shift]:
    """Parse shifts of arches such as "upper:0,3,0" or "upper:0,free,free lower:0,-1,0".

    returns : arch -> x, y, z in mm in the head frame (x patient's left, y posterior, z up); None where free
    raises  : ValueError that says which part cannot be read
    """
    shifts: dict[str, Shift] = {}
    for word in text.split():
        arch, colon, values = word.partition(":")
        if arch not in ("upper", "lower") or not colon:
            raise ValueError(f"must be an arch and its shift in mm, such as upper:0,3,0, got {word!r}")
        shifts[arch] = _shift(values)
    return shifts


def _shift(value: object) -> Shift:
    """Shift of an arch from three values, "x,y,z", or a mapping from x, y, z; those left out are free."""
    if isinstance(value, Mapping):
        if unknown := [str(key) for key in value if key not in ("x", "y", "z")]:
            raise ValueError(f"unknown direction {unknown[0]!r}, known are x, y, z")
        value = [value.get(key, _FREE) for key in "xyz"]
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or len(parts) != 3:
        raise ValueError("must be three numbers x, y, z in mm, each a number, keep or free")
    x, y, z = (_number(part) for part in parts)
    return x, y, z


def _number(value: object) -> float | None:
    """A length: a number, keep (0) or free (None)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        raise ValueError(f"must be a number in mm, keep or free, got {value!r}")
    plain = _FREE if value is None else str(value).strip()
    if plain in (_FREE, _KEEP):
        return None if plain == _FREE else 0.0
    try:
        return float(plain)
    except ValueError:
        raise ValueError(f"must be a number in mm, keep or free, got {plain!r}") from None


def _teeth(value: object) -> object:
    """FDI numbers of a YAML value: 14, "13-23", or a list of such."""
    parts = value if isinstance(value, list | tuple) else [value]
    return parse_teeth(",".join(str(part) for part in parts))


def _per_tooth(value: object) -> object:
    """A limit for all teeth, or FDI number -> limit from keys that are numbers or ranges."""
    if not isinstance(value, Mapping):
        return _limit(value)
    return {fdi: _limit(limit) for key, limit in value.items() for fdi in parse_teeth(str(key))}


def _limit(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"must be a number, 0 or more, got {value!r}")
    return float(value)


def _per_contact(value: object) -> object:
    """A limit for all contacts, or pair of FDI numbers -> limit from keys such as "11-21"."""
    if not isinstance(value, Mapping):
        return _limit(value)
    contacts = {}
    for key, limit in value.items():
        ends = list(key) if isinstance(key, tuple) else [_tooth(end) for end in str(key).split("-")]
        if len(ends) != 2 or is_upper(ends[0]) != is_upper(ends[1]):
            raise ValueError(f"{key!r} is no contact of two teeth of an arch, such as 11-21")
        contacts[contact(*ends)] = _limit(limit)
    return contacts


def _shifts(value: object) -> object:
    if not isinstance(value, Mapping):
        raise ValueError("must name the arch, such as `upper: [0, 3, 0]`")
    return {arch: _shift(shift) for arch, shift in value.items()}


def _widths(value: object) -> object:
    if not isinstance(value, Mapping):
        raise ValueError("must name the arch, such as `upper: {3-3: 1.5, 6-6: keep}`")
    found = {}
    for arch, widths in value.items():
        both = widths if isinstance(widths, Mapping) else {"3-3": widths, "6-6": widths}
        numbers = {name: _number(width) for name, width in both.items()}
        found[arch] = {name: number for name, number in numbers.items() if number is not None}
    return found


def _percent(value: object) -> object:
    """A percentage; `off` is False in YAML."""
    return 0.0 if value is False else value


def contact(one: int, other: int) -> Contact:
    """Put the two teeth of a contact into the order of their arch."""
    first, second = sorted((one, other), key=lambda fdi: SLOT_INDEX[successor(fdi)])
    return first, second


Teeth = Annotated[tuple[int, ...], BeforeValidator(_teeth)]
PerTooth = Annotated[Limit | dict[int, Limit] | None, BeforeValidator(_per_tooth)]


class Prescription(Section):
    """Wishes for the plan of one case; those left out are free.

    planner          : planner or protocol whose plans are to be followed, as named in training; None: any
    extract          : FDI numbers of teeth to extract, beside those that a plan in the file extracts
    fixed            : FDI numbers of teeth that must not move, such as implants
    only             : FDI numbers of teeth that may move; (): all. A primary tooth is meant by its own number
                       or by that of its successor
    max_movement_mm  : most that the centroid of a crown may move from T1, for all or by FDI number
    max_rotation_deg : most that a tooth may rotate from T1, about whatever axis, for all or by FDI number
    ipr_mm           : most overlap of neighbours at T2, which is enamel to remove: for all contacts, or by
                       contact, with 0 for those not named; None: as much as plans usually show
    arch_shift_mm    : arch -> x, y, z (head frame), mean shift of the centroids of its crowns; None: free
    arch_width_mm    : arch -> change of the distance of canines (3-3) and first molars (6-6); 0: keep
    overcorrection   : percent by which each rotation about a tooth's long axis is exaggerated; 0: none
    """

    planner: str | None = None
    extract: Teeth = ()
    fixed: Teeth = ()
    only: Teeth = ()
    max_movement_mm: PerTooth = None
    max_rotation_deg: PerTooth = None
    ipr_mm: Annotated[Limit | dict[Contact, Limit] | None, BeforeValidator(_per_contact)] = None
    arch_shift_mm: Annotated[dict[Arch, Shift], BeforeValidator(_shifts)] = Field(default={})
    arch_width_mm: Annotated[dict[Arch, dict[Width, Millimetres]], BeforeValidator(_widths)] = Field(
        default={}
    )
    overcorrection: Annotated[float, Field(ge=0, le=50), BeforeValidator(_percent)] = 0.0

    @model_validator(mode="after")
    def _no_contradiction(self) -> "Prescription":
        for one, other in (("extract", "fixed"), ("fixed", "only"), ("extract", "only")):
            if twice := sorted(set(getattr(self, one)) & set(getattr(self, other))):
                raise ValueError(f"teeth {', '.join(map(str, twice))} cannot be in both {one} and {other}")
        return self

    def may_move(self, fdi: int) -> bool:
        """True for a tooth that is neither fixed nor left out of `only`."""
        movable = {successor(number) for number in self.only}
        return fdi not in self.fixed and (not movable or successor(fdi) in movable)

    def most_movement_mm(self, fdi: int) -> float:
        """Cap on the movement of a tooth's centroid from T1, mm; infinite without one."""
        return _of_tooth(self.max_movement_mm, fdi)

    def most_rotation_deg(self, fdi: int) -> float:
        """Cap on the rotation of a tooth from T1, degrees; infinite without one."""
        return _of_tooth(self.max_rotation_deg, fdi)

    def allowed_overlap_mm(self, one: int, other: int, usual: float) -> float:
        """Most overlap of two neighbours, mm; `usual` where the prescription does not say."""
        if isinstance(self.ipr_mm, dict):
            return self.ipr_mm.get(contact(one, other), 0.0)
        return usual if self.ipr_mm is None else self.ipr_mm

    def joined(self, **given: Any) -> "Prescription":
        """Return the prescription with wishes of the command line added, by the names of the fields.

        Teeth and arches are added to those that are there; a planner replaces the one that is there. Values
        that are None or empty change nothing.

        raises: ParamError if the wishes contradict each other
        """
        values = self.model_dump()
        for name, value in given.items():
            if value:
                here = values[name]
                values[name] = (
                    {**here, **value} if isinstance(here, dict)
                    else (*here, *value) if isinstance(here, tuple)
                    else value
                )  # fmt: skip
        return params.parse(values, Prescription, "prescription: ")


def _of_tooth(limit: float | Mapping[int, float] | None, fdi: int) -> float:
    if isinstance(limit, Mapping):
        return limit.get(fdi, float("inf"))
    return float("inf") if limit is None else limit


def read(path: str | Path) -> Prescription:
    """Read a prescription from a YAML file.

    raises: ParamError, which names the file, the key, what is expected and, for an unknown key, the nearest
            known one
    """
    return params.parse(params.read_document(path), Prescription, f"{path}: ")

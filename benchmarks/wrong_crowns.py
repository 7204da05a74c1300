"""How many wrong crowns the checks of crowns find, and how many right ones they suspect.

    python benchmarks/wrong_crowns.py CASES [--mouths 200] [--buccal-axis=-y]

CASES is a case store (json/ and stl/) of good cases. Each mouth is checked as it is and changed in ways
that must pass, and then spoilt in each way, in memory. Of a kind that concerns the whole mouth the case
must be excluded; of one that concerns a tooth, drawn at random, that tooth must be dropped (or the case
excluded).
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dentalign.cases import case_document, case_list, crown_check
from dentalign.cases.crown_check import CrownShape
from dentalign.cases.crowns import Sampler
from dentalign.cases.findings import Findings
from dentalign.cases.reading import read_case
from dentalign.cases.settings import Limits, Sample
from dentalign.cases.sources.meshes import MeshStore
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, Mouth
from dentalign.teeth import SLOT_INDEX, SLOTS, antimere

Crowns = dict[int, Array]  # slot -> triangles (F, 3, 3), tooth-local mm, our frame
Rng = np.random.Generator
ROOT_MM = {True: (13, 13, 17, 14, 14, 13, 12, 11), False: (12.5, 14, 16, 14, 14.5, 14, 13, 11)}  # Wheeler
AROUND = 24  # corners of a root


@dataclass(frozen=True)
class Spoilt:
    """A way to spoil crowns.

    crown  : changes the crown of one slot of a mouth
    whole  : the mouth is spoilt, not a tooth of it
    told   : False for what geometry cannot tell
    right  : True for what must pass
    """

    crown: Callable[[Mouth, Crowns, int, Rng], Array | None]
    whole: bool = False
    told: bool = True
    right: bool = False


def axes(*signs: float) -> Callable[..., Array]:
    """Multiply the axes by signs; a reflection also turns the triangles, so that they face outwards."""

    def change(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array:
        changed = crowns[slot] * signs
        return changed[:, ::-1] if np.prod(signs) < 0 else changed

    return change


def in_head(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array:
    """Head coordinates."""
    return rigid.apply(mouth.pose[T1, slot], crowns[slot])


def in_jaw(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array:
    """Coordinates of a jaw as exports have it: some 27 mm behind the incisors."""
    jaw = rigid.from_rotation(
        rigid.rotation_matrix(np.array([0.01, -0.01, 0.01])), np.array([0.4, 27.0, -2.0])
    )
    return rigid.apply(rigid.inverse(jaw) @ mouth.pose[T1, slot], crowns[slot])


def turned(deg: float) -> Callable[..., Array]:
    """Turn about z."""

    def change(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array:
        return crowns[slot] @ rigid.rotation_matrix(np.radians([0.0, 0.0, deg])).T

    return change


def root(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array:
    """Closed root: a cone from under the crown to a blunt apex."""
    crown, fdi = crowns[slot].reshape(-1, 3), SLOTS[slot]
    low, high = crown.min(0), crown.max(0)
    neck = 0.85 * (high - low)[:2] / 2
    share = np.linspace(0, 1, 8)[:, None]
    angle = 2 * np.pi * np.arange(AROUND) / AROUND
    size = (1 - 0.8 * share**1.5) * rng.uniform(0.9, 1.1)
    x = (low + high)[0] / 2 + size * neck[0] * np.cos(angle)
    y = (low + high)[1] / 2 + size * neck[1] * np.sin(angle)
    length = ROOT_MM[fdi < 30][fdi % 10 - 1] * rng.uniform(0.9, 1.1)
    rings = np.stack([x, y, np.broadcast_to(low[2] + 0.8 - length * share, x.shape)], axis=-1)
    a, b = rings, np.roll(rings, -1, axis=1)
    sides = [np.stack([a[:-1], a[1:], b[1:]], 2), np.stack([a[:-1], b[1:], b[:-1]], 2)]
    ends = [np.stack([np.broadcast_to(a[k].mean(0), a[k].shape), a[k], b[k]], 1) for k in (0, -1)]
    return np.concatenate([part.reshape(-1, 3, 3) for part in (*sides, *ends)])


def with_root(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array:
    """Whole tooth."""
    return np.concatenate([crowns[slot], root(mouth, crowns, slot, rng)])


def of_antimere(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array | None:
    """The crown of the other side."""
    return crowns.get(SLOT_INDEX[antimere(SLOTS[slot])])


def of(kinds: Mapping[int, tuple[int, ...]]) -> Callable[..., Array | None]:
    """The crown of another tooth of the same quadrant: number -> numbers of which one is drawn.

    It is made 1 % smaller: such a mesh is found by its shape, and not because two teeth have it.
    """

    def change(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array | None:
        quadrant, number = divmod(SLOTS[slot], 10)
        other = 10 * quadrant + int(rng.choice(kinds[number])) if number in kinds else 0
        crown = crowns.get(SLOT_INDEX.get(other, -1))
        return None if crown is None else crown * 0.99

    return change


def only(
    numbers: tuple[int, ...], change: Callable[..., Array | None], upper: bool | None = None
) -> Callable[..., Array | None]:
    """Restrict a change to teeth of some numbers, and of one arch."""

    def restricted(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array | None:
        if SLOTS[slot] % 10 not in numbers or upper not in (None, SLOTS[slot] < 30):
            return None
        return change(mouth, crowns, slot, rng)

    return restricted


def scaled(factor: float) -> Callable[..., Array]:
    """Another unit."""
    return lambda mouth, crowns, slot, rng: crowns[slot] * factor


def other_axes(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array:
    """Axes of another convention: turned by 8 deg (standard deviation about each axis), origin 3 mm off."""
    turn = rigid.rotation_matrix(rng.normal(0, np.radians(8), 3))
    return crowns[slot] @ turn.T + [0, 0, rng.uniform(-3, 3)]


def open_at_gum(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array:
    """Cut open, up to 2 mm from the lowest point."""
    crown = crowns[slot]
    return crown[(crown[..., 2] > crown[..., 2].min() + rng.uniform(0.2, 2)).all(1)]


def with_gum(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array:
    """Open, with a rim of gum: the lowest 1 to 2.5 mm stretched outwards and downwards."""
    crown = open_at_gum(mouth, crowns, slot, rng)
    low, middle = crown[..., 2].min(), crown.reshape(-1, 3).mean(0)
    share = np.clip(1 - (crown[..., 2:] - low) / rng.uniform(1, 2.5), 0, 1)
    flared = middle + (crown - middle) * (1 + 0.25 * share)
    return np.asarray(np.concatenate([flared[..., :2], crown[..., 2:] - 1.2 * share], axis=-1))


def worn(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array:
    """Ground flat, up to 2 mm."""
    crown = crowns[slot].copy()
    top = crown[..., 2].max() - rng.uniform(0.5, 2)
    crown[..., 2] = np.minimum(crown[..., 2], top)
    return crown


def in_part(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array:
    """A side is missing, up to a quarter of the width."""
    crown, axis = crowns[slot], int(rng.integers(2))
    low, high = crown[..., axis].min(), crown[..., axis].max()
    kept = crown[..., axis] * (-1) ** int(rng.integers(2)) if axis else crown[..., axis]
    low, high = kept.min(), kept.max()
    return crown[(kept < high - rng.uniform(0.1, 0.25) * (high - low)).all(1)]


def coarse(mouth: Mouth, crowns: Crowns, slot: int, rng: Rng) -> Array:
    """Every fourth triangle, with noise of 0.1 mm."""
    crown = crowns[slot][::4]
    return np.asarray(crown + rng.normal(0, 0.1, crown.shape))


INCISORS, MOLARS = (1, 2), (6, 7)
OTHER_KIND = {**dict.fromkeys((1, 2, 3), (4, 5, 6, 7)), **dict.fromkeys((4, 5), (1, 2, 3, 6, 7))}
OTHER_KIND |= dict.fromkeys((6, 7), (1, 2, 3, 4, 5))
NEXT_OF_KIND = {1: (2,), 2: (1,), 4: (5,), 5: (4,), 6: (7,), 7: (6,)}

WAYS = {
    "right: axes of another convention": Spoilt(other_axes, whole=True, right=True),
    "right: open at the gum": Spoilt(open_at_gum, whole=True, right=True),
    "right: with a rim of gum": Spoilt(with_gum, whole=True, right=True),
    "right: worn": Spoilt(worn, whole=True, right=True),
    "right: in part": Spoilt(in_part, whole=True, right=True),
    "right: coarse and rough": Spoilt(coarse, whole=True, right=True),
    "all in head coordinates": Spoilt(in_head, whole=True),
    "all in jaw coordinates": Spoilt(in_jaw, whole=True),
    "all upside down (turned about x)": Spoilt(axes(1, -1, -1), whole=True),
    "all upside down (turned about y)": Spoilt(axes(-1, 1, -1), whole=True),
    "all upside down (z mirrored)": Spoilt(axes(1, 1, -1), whole=True),
    "all mirrored in x": Spoilt(axes(-1, 1, 1), whole=True),
    "all mirrored in y": Spoilt(axes(1, -1, 1), whole=True),
    "all turned by 180 deg about z": Spoilt(axes(-1, -1, 1), whole=True),
    "whole teeth": Spoilt(with_root, whole=True),
    "roots alone": Spoilt(root, whole=True),
    "all twice too large": Spoilt(scaled(2), whole=True),
    "all half as large": Spoilt(scaled(0.5), whole=True),
    "one in head coordinates": Spoilt(in_head),
    "one in jaw coordinates": Spoilt(in_jaw),
    "one upside down (turned about x)": Spoilt(axes(1, -1, -1)),
    "one upside down (turned about y)": Spoilt(axes(-1, 1, -1)),
    "one upside down (z mirrored)": Spoilt(axes(1, 1, -1)),
    "one turned by 180 deg about z": Spoilt(axes(-1, -1, 1)),
    "one mirrored in y": Spoilt(axes(1, -1, 1)),
    "the mesh of the other side (16 as 26)": Spoilt(of_antimere),
    "an upper molar mirrored": Spoilt(only(MOLARS, axes(-1, 1, 1), upper=True)),
    "of another kind of tooth": Spoilt(of(OTHER_KIND)),
    "one whole tooth": Spoilt(with_root),
    "a lower molar mirrored": Spoilt(only(MOLARS, axes(-1, 1, 1), upper=False), told=False),
    "a premolar or canine mirrored": Spoilt(only((3, 4, 5), axes(-1, 1, 1)), told=False),
    "an incisor mirrored": Spoilt(only(INCISORS, axes(-1, 1, 1)), told=False),
    "two teeth of a kind exchanged (24 and 25)": Spoilt(of(NEXT_OF_KIND), told=False),
    "a canine as an incisor": Spoilt(of({1: (3,), 2: (3,)}), told=False),
    "an incisor as a canine": Spoilt(of({3: (1, 2)}), told=False),
    "one turned by 20 deg about z": Spoilt(turned(20), told=False),
    "one turned by 90 deg about z": Spoilt(turned(90), told=False),
}


class Tally:
    """Counts over mouths."""

    def __init__(self) -> None:
        self.mouths, self.false_alarms, self.lines = 0, 0, list[str]()
        self.tried, self.found, self.accused = Counter[str](), Counter[str](), Counter[str]()
        self.codes = {name: Counter[str]() for name in WAYS}

    def add(self, mouth: Mouth, crowns: Crowns, case_id: str, seed: int) -> None:
        """Check a good mouth as it is, and spoilt in every way."""
        self.mouths += 1
        shapes = measured(crowns, mouth)
        code, dropped = verdict(mouth, shapes)
        if code or dropped:
            self.false_alarms += 1
            self.lines.append(f"{case_id}: {code or dropped}")
        for number, (name, way) in enumerate(WAYS.items()):
            rng = np.random.default_rng([seed, number])
            slots = [slot for slot in crowns if mouth.fdi[slot] < 50 and mouth.fdi[slot] % 10 < 8]
            slots = list(crowns) if way.whole else rng.permutation(slots).tolist()
            changed: Crowns = {}
            for slot in slots:
                if (new := way.crown(mouth, crowns, slot, rng)) is not None:
                    changed[slot] = new
                    if not way.whole:
                        break
            if not changed:
                continue
            self.tried[name] += 1
            try:
                code, dropped = verdict(mouth, {**shapes, **measured(changed, mouth)})
            except ToothDefect as defect:  # of the size: of each of them, if of one
                code, dropped = (defect.code, {}) if way.whole else ("", {next(iter(changed)): defect.code})
            hit = bool(code) if way.whole and not way.right else bool(code or set(dropped) & set(changed))
            self.found[name] += hit
            self.accused[name] += not way.whole and bool(set(dropped) - set(changed))
            self.codes[name].update(
                [code] if code else [dropped[slot] for slot in changed if slot in dropped]
            )
            if way.right:
                self.lines += [f"{case_id}, {name}: {code} {dropped}"] if code or dropped else []

    def __str__(self) -> str:
        text = [f"{'':44} {'tried':>6} {'found':>8}   codes"]
        for name, way in WAYS.items():
            if not self.tried[name]:
                continue
            share = self.found[name] / self.tried[name]
            goal = 0.99 if way.whole else 0.9
            mark = "" if not way.told or share >= goal or way.right else f"  below {goal:.0%}"
            codes = ", ".join(f"{code} {count}" for code, count in self.codes[name].most_common())
            others = f"; another tooth dropped {self.accused[name]}" if self.accused[name] else ""
            text.append(f"{name:44} {self.tried[name]:6} {share:8.1%}   {codes}{others}{mark}")
        text.append(f"good mouths: {self.mouths}, suspected: {self.false_alarms}")
        return "\n".join([*text, *self.lines])


SAMPLER = Sampler("+y", Sample(points=8, oversampling=2), Limits())


def measured(crowns: Crowns, mouth: Mouth) -> dict[int, CrownShape]:
    """Shapes by slot, as `read_crowns` measures them."""
    return {slot: SAMPLER.shape(crown, "", int(mouth.fdi[slot])) for slot, crown in crowns.items()}


def verdict(mouth: Mouth, shapes: dict[int, CrownShape]) -> tuple[str, dict[int, str]]:
    """Code that excludes the case or "", and codes of the slots that are dropped."""
    try:
        wrong = crown_check.wrong_crowns(mouth, shapes, SAMPLER.limits)
    except CaseDefect as defect:
        return defect.code, {}
    return "", {slot: defect.code for slot, defect in wrong.items()}


def from_store(store: Path, buccal_axis: str) -> Iterator[tuple[str, Mouth, Crowns, bool]]:
    """Read the usable cases of a store: id, mouth, crowns in our frame; True if reading dropped a crown."""
    sampler = Sampler(buccal_axis, SAMPLER.sample, SAMPLER.limits)  # type: ignore[arg-type]
    to_ours = np.diag([-1.0, -1, 1]) if buccal_axis == "-y" else np.eye(3)
    with MeshStore(str(store / "stl"), sampler.limits) as meshes:
        for case in case_list.find(store, "benchmark")[0]:
            file = store / "json" / f"{case.case_id}.json"
            try:
                document = case_document.read(file, case.case_id)
                findings = Findings(case.case_id, "benchmark")
                mouth, crowns = read_case(document, str(file), meshes, sampler, findings)
            except CaseDefect as defect:
                print(f"{case.case_id}: left out, {defect}", file=sys.stderr)
                continue
            # The reading path has the checks, too: what it dropped is not in the mouth any more.
            dropped = [line for line in findings.lines if line.code in crown_check.CODES]
            for line in dropped:
                print(f"{case.case_id}, right: tooth {line.tooth} {line.code}", file=sys.stderr)
            ours = {slot: crown @ to_ours for slot, crown in crowns.items()}
            yield case.case_id, mouth, ours, bool(dropped)


def measure(mouths: Iterable[tuple[str, Mouth, Crowns, bool]], most: int) -> Tally:
    """Check and spoil mouths."""
    tally = Tally()
    for number, (case_id, mouth, crowns, dropped) in enumerate(mouths):
        if number == most:
            break
        tally.false_alarms += dropped
        tally.add(mouth, crowns, case_id, number)
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", type=Path)
    parser.add_argument("--mouths", type=int, default=200)
    parser.add_argument("--buccal-axis", choices=("+y", "-y"), default="+y")
    options = parser.parse_args()
    print(measure(from_store(options.cases, options.buccal_axis), options.mouths))

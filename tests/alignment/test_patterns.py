"""Patterns of absent and extracted teeth: what is particular about one, and how many others are like it."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dentalign.alignment.patterns import ToothPatterns
from dentalign.teeth import SLOT_INDEX, SLOTS

Mask = NDArray[np.bool_]
THIRD_MOLARS = (18, 28, 38, 48)


def mouth(
    absent: tuple[int, ...] = (), extracted: tuple[int, ...] = (), third: bool = False
) -> tuple[Mask, Mask]:
    """Masks (32,) at T1 and T2; third molars absent unless wanted."""
    t1 = np.ones(len(SLOTS), bool)
    t1[[SLOT_INDEX[fdi] for fdi in (*absent, *(() if third else THIRD_MOLARS))]] = False
    t2 = t1.copy()
    t2[[SLOT_INDEX[fdi] for fdi in extracted]] = False
    return t1, t2


def of(*mouths: tuple[Mask, Mask]) -> ToothPatterns:
    return ToothPatterns.of(*(np.stack(masks) for masks in zip(*mouths, strict=True)))


LATERALS = [mouth(absent=(12,))] * 2 + [mouth(absent=(22,))] * 2
TRAINING = of(*[mouth()] * 20, *LATERALS, *[mouth(extracted=(34, 44))] * 5, *[mouth(extracted=(31,))] * 3)


def test_what_most_mouths_lack_is_nothing_particular() -> None:
    assert TRAINING.pattern(*mouth()) == ""
    assert TRAINING.mouths_alike(*mouth()) == 20
    assert TRAINING.pattern(*mouth(third=True)) == "present 18 28 38 48"


def test_absent_and_extracted_teeth_are_told_apart() -> None:
    assert TRAINING.pattern(*mouth(absent=(22, 12), extracted=(34, 44))) == "absent 12 22, extracted 34 44"
    assert TRAINING.mouths_alike(*mouth(extracted=(34, 44))) == 5
    assert TRAINING.mouths_alike(*mouth(absent=(34, 44))) == 0


def test_a_mouth_and_its_mirror_image_are_alike() -> None:
    assert TRAINING.mouths_alike(*mouth(absent=(12,))) == TRAINING.mouths_alike(*mouth(absent=(22,))) == 4


def test_single_teeth_that_are_known_do_not_make_their_combination_known() -> None:
    assert TRAINING.mouths_alike(*mouth(absent=(12, 22))) == 0


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_tooth_that_many_lack_is_particular_neither_way(share: float) -> None:
    lacking = round(20 * share)
    seen = of(*[mouth(absent=(15, 25))] * lacking, *[mouth()] * (20 - lacking))
    assert (seen.pattern(*mouth(absent=(15, 25))) == "") == (share > 0.2)
    assert seen.pattern(*mouth()) == ""


def test_the_patterns_go_through_plain_values() -> None:
    assert ToothPatterns(**asdict(TRAINING)) == TRAINING
    assert TRAINING.mouths == 32


def test_what_few_patients_lack_is_not_written_down() -> None:
    assert TRAINING.mouths_alike(*mouth(extracted=(31,))) == 0
    assert not any("31" in pattern for pattern in TRAINING.alike)


@pytest.mark.parametrize("wrong", [{"usual": ("",) * 3}, {"alike": {"absent 12": "many"}}, {"alike": []}])
def test_values_that_are_no_patterns_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"patterns|usual"):
        ToothPatterns(**wrong)

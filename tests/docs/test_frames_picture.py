"""docs/pictures/frames.svg: each movement it calls positive is positive in the table of movements."""

import numpy as np
import pytest

from dentalign.geometry.movement import movement
from tools.frames_picture import ANGLE_DEG, MOTIONS, TOOTH, Motion


@pytest.mark.parametrize("motion", MOTIONS, ids=lambda motion: motion.column)
def test_a_movement_drawn_as_positive_has_that_angle_and_no_other(motion: Motion) -> None:
    found = movement(TOOTH, np.eye(4), motion.pose, np.zeros((1, 3)))
    angles = {name: found[name] for name in ("tip_deg", "torque_deg", "rotation_deg")}
    assert angles == pytest.approx({name: ANGLE_DEG if name == motion.column else 0 for name in angles})


@pytest.mark.parametrize("motion", MOTIONS, ids=lambda motion: motion.column)
def test_a_movement_is_seen_along_its_axis(motion: Motion) -> None:
    assert np.abs(motion.axis @ motion.view.depth) == 1

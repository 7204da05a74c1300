"""Best rigid motion of each arch, and the displacement that it gives each tooth."""

import numpy as np
import pytest

from dentalign.geometry import rigid
from dentalign.geometry.arch_motion import arch_motion, of_teeth
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array
from dentalign.teeth import ARCHES, SLOT_COUNT, SLOT_INDEX

LOWER, UPPER = 0, 1


def _mouth() -> Array:
    return average_mouth().position[None].copy()


def _moved(
    t1: Array, arch: str, translation: list[float], rotation_vector: list[float], stays: Array
) -> Array:
    """Centroids after moving one arch about the centroid of its staying teeth."""
    t2, slots = t1.copy(), ARCHES[arch]
    centre = t1[0, slots][stays[0, slots]].mean(0)
    rotation = rigid.rotation_matrix(rotation_vector)
    t2[0, slots] = (t1[0, slots] - centre) @ rotation.T + centre + translation
    return t2


def test_arch_moved_as_a_whole_is_found_exactly_and_the_other_arch_stays() -> None:
    t1, stays = _mouth(), np.ones((1, SLOT_COUNT), bool)
    stays[0, [SLOT_INDEX[14], SLOT_INDEX[24]]] = False
    t2 = _moved(t1, "upper", [0.5, 4.0, -1.0], [0.1, -0.05, 0.02], stays)
    t2[~stays] = np.nan  # an extracted tooth has no place at T2
    motion = arch_motion(t1, t2, stays)
    assert motion[0, UPPER] == pytest.approx([0.5, 4.0, -1.0, 0.1, -0.05, 0.02], abs=1e-9)
    assert motion[0, LOWER] == pytest.approx(np.zeros(6), abs=1e-9)
    by_tooth = of_teeth(motion, t1, stays)
    assert by_tooth[stays][:, :3] == pytest.approx((t2 - t1)[stays], abs=1e-9)
    assert by_tooth[0, ARCHES["upper"], 3:] == pytest.approx(np.tile(motion[0, UPPER, 3:], (16, 1)))


def test_motion_is_the_best_of_all_rigid_motions_near_it() -> None:
    rng = np.random.default_rng(0)
    t1, stays = _mouth(), np.ones((1, SLOT_COUNT), bool)
    t2 = t1 + rng.normal(0, 1.5, t1.shape)
    motion = arch_motion(t1, t2, stays)

    def misfit(tried: Array) -> float:
        return float(np.square(t1 + of_teeth(tried, t1, stays)[..., :3] - t2).sum())

    step = np.array([0.05] * 3 + [0.005] * 3)
    assert all(misfit(motion) < misfit(motion + rng.normal(size=6) * step) for _ in range(50))


def test_motion_turns_with_the_frame() -> None:
    rng = np.random.default_rng(1)
    t1, stays = _mouth(), rng.random((1, SLOT_COUNT)) < 0.8
    t2 = t1 + rng.normal(0, 1.0, t1.shape)
    frame = rigid.rotation_matrix([0.4, -1.1, 0.7])
    turned = arch_motion(t1 @ frame.T + 7.0, t2 @ frame.T + 7.0, stays)
    vectors = arch_motion(t1, t2, stays).reshape(4, 3) @ frame.T
    assert turned.reshape(4, 3) == pytest.approx(vectors, abs=1e-9)


@pytest.mark.parametrize("staying", [[], [16], [16, 26], [12, 11, 21, 22]])
def test_arch_whose_rotation_the_teeth_do_not_tell_is_only_translated(staying: list[int]) -> None:
    t1, stays = _mouth(), np.zeros((1, SLOT_COUNT), bool)
    slots = [SLOT_INDEX[fdi] for fdi in staying]
    stays[0, slots] = True
    if len(slots) > 2:
        t1[0, slots, 1:] = [-40.0, 3.0]  # on one line from side to side
    t2 = t1 + np.array([0.0, 2.0, 0.0])
    t2[0, slots[1:], 2] += 0.4
    motion = arch_motion(t1, t2, stays)
    assert (motion[..., 3:] == 0).all() and (motion[0, LOWER] == 0).all()
    mean_shift = (t2 - t1)[0, slots].mean(0) if slots else np.zeros(3)
    assert motion[0, UPPER, :3] == pytest.approx(mean_shift)

"""Stages between T1 and T2: within the limits, and no tooth passes through another unless it is said."""

import numpy as np
import pytest
import trimesh

from dentalign.geometry import rigid
from dentalign.geometry.mesh_file import Surface
from dentalign.geometry.rigid import Array
from dentalign.planning import order_of_work, staging
from dentalign.planning.distance_field import signed_distance
from dentalign.planning.staging import TOLERANCE_MM, Predict, StagedPlan
from dentalign.teeth import SLOT_COUNT, SLOT_INDEX, SLOTS


def crown(width_mm: float = 4.0, depth_mm: float = 4.0, height_mm: float = 5.0) -> Surface:
    ball = trimesh.creation.icosphere(subdivisions=3)
    return np.asarray(ball.vertices) * (width_mm / 2, depth_mm / 2, height_mm / 2), np.asarray(ball.faces)


CROWN = crown()
NUMBERS = np.array(SLOTS)


def staged(
    t1: dict[int, tuple[float, float, float]],
    t2: dict[int, tuple[float, float, float]],
    held: tuple[int, ...] = (),
    limits: Predict | None = None,
) -> tuple[StagedPlan, Array]:
    """Plan of teeth of one shape, FDI number -> place; also T1 with the stages, (K + 1, 32, 4, 4)."""
    before, after = np.tile(np.eye(4), (2, SLOT_COUNT, 1, 1))
    mask, fixed = np.zeros((2, SLOT_COUNT), np.bool_)
    points = np.zeros((SLOT_COUNT, 3, 3))
    for fdi in t1:
        slot = SLOT_INDEX[fdi]
        mask[slot], fixed[slot] = True, fdi in held
        before[slot, :3, 3], after[slot, :3, 3] = t1[fdi], t2[fdi]
    crowns = {int(slot): CROWN for slot in np.flatnonzero(mask)}
    plan = staging.plan(before, after, mask, points, crowns, limits or Predict(), held=fixed)
    assert np.array_equal(plan.poses[-1], after)
    return plan, np.concatenate([before[None], plan.poses])


def deepest(poses: Array, one: int, other: int) -> float:
    """Deepest overlap of two crowns on the way beyond that at the ends, mm, by distances to the mesh."""
    depth = []
    for position in staging.between(poses, np.zeros((SLOT_COUNT, 3))):
        a, b = position[SLOT_INDEX[one]], position[SLOT_INDEX[other]]
        inside = [0.0]
        for there in (rigid.inverse(b) @ a, rigid.inverse(a) @ b):
            inside.append(-float(signed_distance(CROWN, rigid.apply(there, CROWN[0])).min()))
        depth.append(max(inside))
    return max(depth) - max(depth[0], depth[-1])


def steps(poses: Array) -> tuple[Array, Array]:
    """Translation (K, 32, 3), mm, and rotation (K, 32), degrees, of each step."""
    turn = np.swapaxes(poses[:-1, ..., :3, :3], -1, -2) @ poses[1:, ..., :3, :3]
    return np.diff(poses[..., :3, 3], axis=0), rigid.angle_deg(turn)


def within_limits(poses: Array, limits: Predict) -> bool:
    move, turn = steps(poses)
    return bool(
        np.linalg.norm(move, axis=-1).max() <= limits.max_step_mm + 1e-6
        and np.abs(move[..., 2]).max() <= limits.max_vertical_step_mm + 1e-6
        and turn.max() <= limits.max_step_deg + 1e-5
        and turn[:, [SLOT_INDEX[fdi] for fdi in (33, 34, 35, 43)]].max()
        <= limits.max_round_tooth_step_deg + 1e-5
    )


def test_a_lone_tooth_moves_evenly_in_no_more_stages_than_the_limits_need() -> None:
    plan, poses = staged({31: (0, 0, 0)}, {31: (0.9, 0.6, 0.25)})
    assert len(plan.poses) == plan.even_stages == 5  # 1.11 mm by 0.25 mm
    assert np.allclose(steps(poses)[0], steps(poses)[0][:1])
    assert len(staged({31: (0, 0, 0)}, {31: (0, 0, 0.95)})[0].poses) == 10  # 0.1 mm of intrusion a step
    assert within_limits(poses, Predict())


def test_a_mouth_that_is_not_to_change_has_one_stage_and_stays() -> None:
    place = {31: (0.0, 0.0, 0.0), 41: (4.0, 0.0, 0.0)}
    plan, poses = staged(place, place)
    assert len(plan.poses) == 1
    assert not plan.collisions
    assert np.array_equal(poses[0], poses[1])


def test_two_incisors_that_change_sides_go_round_each_other_or_are_named() -> None:
    plan, poses = staged({31: (-1.8, -1.3, 0), 41: (1.8, 1.3, 0)}, {31: (1.8, 1.3, 0), 41: (-1.8, -1.3, 0)})
    excess = deepest(poses, 31, 41)
    assert within_limits(poses, Predict())
    assert len(plan.poses) <= 1.5 * plan.even_stages
    assert excess <= TOLERANCE_MM or plan.collisions
    if plan.collisions:
        assert plan.collisions[0].slots == (SLOT_INDEX[31], SLOT_INDEX[41])
        assert plan.collisions[0].depth_mm - plan.collisions[0].allowed_mm == pytest.approx(excess, abs=0.01)


def test_a_tooth_waits_until_its_neighbour_has_made_space() -> None:
    """Tooth 31 follows 32 with less way to go: moving evenly it would run into 32."""
    before = {32: (-4.05, 0.0, 0.0), 31: (0.0, 2.2, 0.0)}
    plan, poses = staged(before, {32: (-8.0, 0.0, 0.0), 31: (-3.9, 0.0, 0.0)})
    assert not plan.collisions
    assert deepest(poses, 31, 32) <= TOLERANCE_MM
    assert within_limits(poses, Predict())


def test_a_blocked_out_canine_is_named_with_stage_and_depth() -> None:
    """Between two held neighbours there is less space than the canine needs, at T2 it stands beyond them."""
    before = {32: (-3.2, 0.0, 0.0), 34: (3.2, 0.0, 0.0), 33: (0.0, 3.6, 0.0)}
    plan, poses = staged(before, before | {33: (0.0, -3.6, 0.0)}, held=(32, 34))
    assert {collision.slots for collision in plan.collisions} == {
        (SLOT_INDEX[33], SLOT_INDEX[32]), (SLOT_INDEX[34], SLOT_INDEX[33])
    }  # fmt: skip
    for collision in plan.collisions:
        one, other = (SLOTS[slot] for slot in collision.slots)
        excess = deepest(poses, one, other)
        assert excess > TOLERANCE_MM
        assert collision.depth_mm - collision.allowed_mm == pytest.approx(excess, abs=0.01)
    said = " ".join(seen for *_, seen in order_of_work.collisions(plan, NUMBERS))
    assert f"at stage {plan.collisions[0].stage}" in said
    assert within_limits(poses, Predict())


def test_a_tooth_goes_round_a_fixed_one_that_does_not_move_by_a_bit() -> None:
    before = {31: (0.0, 0.0, 0.0), 32: (-3.4, 2.6, 0.0)}
    plan, poses = staged(before, before | {32: (-3.4, -2.6, 0.0)}, held=(31,))
    assert not plan.collisions
    assert deepest(poses, 31, 32) <= TOLERANCE_MM
    assert (poses[:, SLOT_INDEX[31]] == poses[0, SLOT_INDEX[31]]).all()
    assert within_limits(poses, Predict())


def test_the_order_of_work_says_who_moves_when_what_opens_and_how_much_enamel_goes() -> None:
    before = {33: (-4.0, 0.0, 0.0), 32: (0.0, 0.0, 0.0), 31: (4.0, 0.0, 0.0)}
    after = {33: (-5.0, 0.0, 0.0), 32: (0.0, 0.0, 0.0), 31: (3.7, 0.0, 0.0)}
    plan, _ = staged(before, after, held=(32,))
    mask = np.isin(NUMBERS, list(before))
    start = np.tile(np.eye(4), (SLOT_COUNT, 1, 1))
    for fdi, place in before.items():
        start[SLOT_INDEX[fdi], :3, 3] = place
    found = order_of_work.steps(start, plan, mask, np.zeros((SLOT_COUNT, 3, 3)))
    rows = order_of_work.rows(found, NUMBERS)
    assert len(rows) == 3 * len(plan.poses)
    assert {row["waits"] for row in rows if row["tooth"] == 32} == {1}
    ((contact, enamel_mm),) = order_of_work.enamel_to_remove(plan, NUMBERS)
    assert contact == "32-31"
    assert enamel_mm == pytest.approx(0.3, abs=0.03)
    words = " ".join(order_of_work.in_words(found, plan, NUMBERS))
    assert "4 stages" in words
    assert "Not moving: 32." in words
    assert "Spaces that open: 33-32" in words

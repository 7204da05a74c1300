"""Baselines: what the training cases do is what they predict, and what the plan tells is all that is told."""

from pathlib import Path

import numpy as np
import pytest

from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout, MouthStore
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.sampling import directions
from dentalign.mouth import Mouth, Mouths
from dentalign.teeth import ARCHES, SLOTS
from dentalign.validation import baselines

ROTATION_RAD, TRANSLATION_MM = np.array([0.1, -0.05, 0.2]), np.array([1.0, -2.0, 0.5])
SEEN = 5  # the only slot that the training cases have


def store_of(path: Path, movements: list[tuple[str, float]]) -> Path:
    """Cases, (split, share) each, whose tooth moves by a share of ROTATION_RAD and TRANSLATION_MM."""
    rng = np.random.default_rng(0)
    with mouth_store.create(path, Layout(16), {}) as writer:
        for number, (split, share) in enumerate(movements):
            points = (directions(16) * 4 + rng.normal(0, 5, 3)).astype(np.float32)
            t1 = rigid.from_rotation(rigid.rotation_matrix(rng.normal(0, 1, 3)), rng.normal(0, 30, 3))
            centroid = rigid.apply(t1, points.mean(0, keepdims=True))[0]
            rotation = rigid.rotation_matrix(share * ROTATION_RAD)
            motion = rigid.from_rotation(rotation, centroid - rotation @ centroid + share * TRANSLATION_MM)
            seen = np.arange(32) == SEEN
            mouth_points = np.zeros((32, 16, 3), np.float32)
            mouth_points[SEEN] = points
            pose = np.broadcast_to(np.eye(4), (2, 32, 4, 4)).copy()
            pose[:, SEEN] = t1, motion @ t1
            present = np.stack([seen, seen])
            writer.append(Mouth(mouth_points, pose, present, case_id=f"c{number}", split=split))
    return path


def test_the_mean_motion_is_that_of_the_training_cases_alone(tmp_path: Path) -> None:
    path = store_of(tmp_path / "l.h5", [("train", 0.5), ("test", 40.0), ("train", 1.5), ("val", -30.0)])
    with MouthStore(path) as store:
        motion = baselines.mean_motion(store)
    assert motion.motion[SEEN] == pytest.approx([*TRANSLATION_MM, *ROTATION_RAD], abs=1e-6)
    assert motion.teeth.tolist() == [2 if slot == SEEN else 0 for slot in range(len(SLOTS))]


def test_a_tooth_that_moves_as_the_mean_is_predicted_exactly_and_a_slot_never_seen_stays(
    tmp_path: Path,
) -> None:
    path = store_of(tmp_path / "l.h5", [("train", 1.0), ("test", 1.0)])
    with MouthStore(path) as store:
        t1, t2 = store.column("t1/pose"), store.column("t2/pose")
        predicted = baselines.mean_motion(store).predict(store.mouths())
    assert predicted[1, SEEN] == pytest.approx(t2[1, SEEN], abs=1e-5)
    others = np.arange(32) != SEEN
    assert predicted[:, others] == pytest.approx(t1[:, others], abs=1e-12)


def test_without_training_cases_nothing_moves(tmp_path: Path) -> None:
    with MouthStore(store_of(tmp_path / "l.h5", [("test", 1.0)])) as store:
        t1 = store.column("t1/pose")
        predicted = baselines.mean_motion(store).predict(store.mouths())
    assert predicted == pytest.approx(t1, abs=1e-9)


def test_arch_motion_moves_arches_as_the_plan_does_and_leaves_out_what_single_teeth_do() -> None:
    average = average_mouth()
    t1 = rigid.from_rotation(average.rotation, average.position)
    back = rigid.from_rotation(rigid.rotation_matrix([0.05, 0.02, -0.03]), [0.0, 3.0, 0.0])
    wholes = np.where(np.isin(np.arange(32), ARCHES["upper"])[:, None, None], back @ t1, t1)
    points = np.tile(directions(16).astype(np.float32), (1, 32, 1, 1))
    points -= points.mean(2, keepdims=True)
    present = np.ones((1, 2, 32), bool)
    moved = baselines.arch_motion(Mouths(points, np.stack([t1, wholes])[None], present))
    assert moved[0] == pytest.approx(wholes, abs=1e-5)

    single = wholes.copy()
    single[SEEN, :3, :3] = rigid.rotation_matrix([0.0, 0.0, 0.5]) @ single[SEEN, :3, :3]
    turned = baselines.arch_motion(Mouths(points, np.stack([t1, single])[None], present))
    assert turned == pytest.approx(moved, abs=1e-5)

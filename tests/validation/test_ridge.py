"""Ridge regression: it finds a linear rule, in any frame and on either side, and reads no pose of T2."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout, MouthStore
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array
from dentalign.geometry.sampling import directions
from dentalign.mouth import T1, T2, Mouth
from dentalign.teeth import MIRRORED_SLOT, SLOT_COUNT, SLOT_INDEX
from dentalign.validation import ridge
from dentalign.validation.baselines import mean_motion

TEETH = [SLOT_INDEX[fdi] for fdi in (36, 33, 31, 43, 46, 16, 13, 11, 21, 23, 26)]


def mouth(rng: np.random.Generator, split: str, number: int, noise_mm: float) -> Mouth:
    """Mouth whose plan undoes half of each tooth's displacement and rotation, and at 31 a third of 11's."""
    average = average_mouth()
    shift, turn = rng.normal(0, 1.5, (SLOT_COUNT, 3)), rng.normal(0, 0.05, (SLOT_COUNT, 3))
    displaced = (average.position + shift)[TEETH]  # not as a whole, which no plan undoes
    place = average.position[TEETH]
    shift[TEETH] = rigid.apply(rigid.fit(displaced, place), displaced) - place
    planned = shift / 2
    planned[SLOT_INDEX[31]] += shift[SLOT_INDEX[11]] / 3
    planned += rng.normal(0, noise_mm, planned.shape)
    t1 = rigid.from_rotation(rigid.rotation_matrix(turn) @ average.rotation, average.position + shift)
    t2 = rigid.from_rotation(
        rigid.rotation_matrix(turn / 2) @ average.rotation, average.position + shift - planned
    )
    there = np.isin(np.arange(SLOT_COUNT), TEETH)
    points = (directions(16) - directions(16).mean(0)).astype(np.float32) * 4
    made = Mouth(
        np.where(there[:, None, None], points, np.float32(0)),
        np.where(there[:, None, None], np.stack([t1, t2]), np.eye(4)),
        np.stack([there, there]),
        case_id=f"case-{number:03}",
        split=split,
    )
    return made.moved(rigid.from_rotation(rigid.rotation_matrix(rng.normal(0, 0.5, 3)), rng.normal(0, 20, 3)))


def store_of(path: Path, splits: dict[str, int], noise_mm: float = 0.0) -> Path:
    rng, number = np.random.default_rng(0), 0
    with mouth_store.create(path, Layout(16), {}) as writer:
        for split, count in splits.items():
            for _ in range(count):
                writer.append(mouth(rng, split, number, noise_mm))
                number += 1
    return path


def mean_error_mm(predicted: Array, true: Array) -> float:
    return float(np.linalg.norm((predicted - true)[:, TEETH, :3, 3], axis=-1).mean())


def test_linear_rule_between_teeth_is_found_where_the_mean_motion_is_of_no_use(tmp_path: Path) -> None:
    with MouthStore(store_of(tmp_path / "l.h5", {"train": 100, "val": 5, "test": 20})) as store:
        test = store.mouths(store.rows_of("test"))
        predicted = ridge.fit_ridge(store).predict(test)
        useless = mean_error_mm(mean_motion(store).predict(test), test.pose[:, T2])
    assert useless > 1.0
    assert mean_error_mm(predicted, test.pose[:, T2]) < 0.25 * useless


def test_prediction_follows_the_frame_and_the_mirror_and_reads_no_pose_of_the_plan(tmp_path: Path) -> None:
    with MouthStore(store_of(tmp_path / "l.h5", {"train": 30, "val": 5, "test": 1}, 0.3)) as store:
        fitted, given = ridge.fit_ridge(store), store.mouth(35)
        copies = (given, given.mirrored(), given.moved(rigid.from_rotation(np.eye(3)[[1, 2, 0]], [9, 8, 7])))
        with mouth_store.create(tmp_path / "c.h5", store.layout, {}) as writer:
            for made in copies:
                writer.append(made)
    with MouthStore(tmp_path / "c.h5") as store:
        mouths = store.mouths()
    plain, mirrored, moved = (pose[TEETH] for pose in fitted.predict(mouths))
    again = fitted.predict(mouths.without_plan())[0]
    assert again[TEETH] == pytest.approx(plain, abs=1e-12)
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    antimeres = [TEETH.index(MIRRORED_SLOT[slot]) for slot in TEETH if MIRRORED_SLOT[slot] in TEETH]
    kept = [k for k, slot in enumerate(TEETH) if MIRRORED_SLOT[slot] in TEETH]
    assert mirrored[kept] == pytest.approx(flip @ plain[antimeres] @ flip, abs=1e-4)
    frame = rigid.from_rotation(np.eye(3)[[1, 2, 0]], [9, 8, 7])
    assert moved == pytest.approx(frame @ plain, abs=0.01)  # a mouth is held a little upright, see the fit


def test_noisy_plans_get_a_stronger_penalty_than_clear_ones(tmp_path: Path) -> None:
    splits = {"train": 40, "val": 10}
    with (
        MouthStore(store_of(tmp_path / "a.h5", splits)) as clear,
        MouthStore(store_of(tmp_path / "b.h5", splits, noise_mm=6.0)) as noisy,
    ):
        assert ridge.fit_ridge(clear).strength < ridge.fit_ridge(noisy).strength


def test_slots_without_a_training_tooth_do_not_move(tmp_path: Path) -> None:
    with MouthStore(store_of(tmp_path / "l.h5", {"train": 5, "test": 1})) as store:
        mouths = store.mouths(store.rows_of("test"))
        fitted = ridge.fit_ridge(store)
    assert fitted.strength == max(ridge.STRENGTHS)  # no validation case to choose by
    unseen = np.setdiff1d(np.arange(SLOT_COUNT), [*TEETH, *MIRRORED_SLOT[TEETH]])
    everywhere = replace(mouths, present=np.ones_like(mouths.present))
    assert fitted.predict(everywhere)[:, unseen] == pytest.approx(mouths.pose[:, T1][:, unseen], abs=1e-6)

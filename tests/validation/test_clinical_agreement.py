"""Agreement of clinical measures between prediction and plan."""

from pathlib import Path

import numpy as np
import pytest

from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout, MouthStore
from dentalign.geometry import rigid
from dentalign.mouth import Mouth
from dentalign.teeth import ARCHES, SLOT_COUNT
from dentalign.validation.clinical_agreement import agreement
from tests.support.made_mouths import MadeMouth


def test_lower_arch_predicted_a_millimetre_too_far_back_is_an_overjet_error_of_one(tmp_path: Path) -> None:
    made = MadeMouth()
    points = np.zeros((SLOT_COUNT, 8, 3), np.float32)
    pose, present = np.stack([made.pose, made.pose]), np.stack([made.present, made.present])
    mouth = Mouth(points, pose, present, made.fdi, case_id="c", split="test", landmarks=made.landmarks())
    with mouth_store.create(tmp_path / "l.h5", Layout(8), {}) as writer:
        writer.append(mouth)
    predicted = made.pose.copy()
    back = rigid.from_rotation(np.eye(3), np.array([0.0, 1.0, 0.0]))
    predicted[ARCHES["lower"]] = back @ predicted[ARCHES["lower"]]
    with MouthStore(tmp_path / "l.h5") as store:
        assert store.attributes["landmark_names"].tolist()[0] == b"edge_middle"
        np.testing.assert_array_equal(store.mouth(0).landmarks, mouth.landmarks)
        block = agreement(store, np.array([0]), predicted[None])
    assert block["overjet_error_mm"] == pytest.approx(1.0, abs=0.05)
    assert block["width_66_upper_error_mm"] == pytest.approx(0.0, abs=0.01)
    assert set(block["within_normal"]) == {"t1", "predicted", "plan"}
    assert not any(name.startswith("bolton") and "error" in name for name in block)

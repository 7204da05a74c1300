"""Laws of the geometry, on what hypothesis makes up: motions, fits, slots, metrics, sampling."""

from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from dentalign.cases.poses import StagePoses
from dentalign.cases.slots import place, slot_of, without_rivals
from dentalign.geometry import rigid, sampling
from dentalign.mouth import T1
from dentalign.teeth import MIRRORED_SLOT, PRIMARY, SLOT_COUNT, SLOTS, antimere, is_upper, successor
from dentalign.validation import metrics

Array = rigid.Array
NEAR_MM = 1e-9

coordinate = st.floats(-200, 200, allow_nan=False, width=32)


@st.composite
def poses(draw: Any) -> Array:
    """A motion by up to 180 degrees about any axis and up to 200 mm, exactly none included."""
    q = draw(hnp.arrays(np.float64, 4, elements=st.floats(-1, 1, width=32)))
    assume(np.abs(q).max() > 1e-6)
    return rigid.from_quaternion(q, draw(hnp.arrays(np.float64, 3, elements=coordinate)))


def points(least: int = 1) -> st.SearchStrategy[Array]:
    shape = st.tuples(st.integers(least, 20), st.just(3))
    return hnp.arrays(np.float64, shape, elements=coordinate)


@st.composite
def solids(draw: Any) -> Array:
    """Points (P, 3) that leave no rotation open: at least 1 mm across in every direction."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = 10 ** draw(st.floats(0.5, 2))
    made: Array = rng.normal(size=(draw(st.integers(4, 40)), 3)) * size
    assume(np.linalg.svd(made - made.mean(0), compute_uv=False)[2] > 1.0)
    return made + draw(hnp.arrays(np.float64, 3, elements=coordinate))


def is_motion(pose: Array) -> bool:
    r = pose[:3, :3]
    right = np.allclose(r.T @ r, np.eye(3), atol=1e-12) and np.linalg.det(r) > 0.999
    return bool(right and (pose[3] == [0, 0, 0, 1]).all())


# --- SE(3)


@given(poses(), poses(), points())
def test_moving_by_a_product_is_moving_twice(a: Array, b: Array, p: Array) -> None:
    assert is_motion(a @ b)
    np.testing.assert_allclose(rigid.apply(a @ b, p), rigid.apply(a, rigid.apply(b, p)), atol=NEAR_MM)


@given(poses(), poses(), points())
def test_the_inverse_undoes_on_both_sides_and_turns_products_round(a: Array, b: Array, p: Array) -> None:
    for one in (rigid.inverse(a) @ a, a @ rigid.inverse(a)):
        np.testing.assert_allclose(one, np.eye(4), atol=NEAR_MM)
    np.testing.assert_allclose(rigid.inverse(a @ b), rigid.inverse(b) @ rigid.inverse(a), atol=NEAR_MM)
    np.testing.assert_allclose(rigid.apply(rigid.inverse(a), rigid.apply(a, p)), p, atol=NEAR_MM)


@given(poses(), points(2))
def test_a_motion_keeps_every_distance(pose: Array, p: Array) -> None:
    moved = rigid.apply(pose, p)
    before, after = (np.linalg.norm(q[:, None] - q[None], axis=-1) for q in (p, moved))
    np.testing.assert_allclose(after, before, atol=NEAR_MM)


@given(poses(), poses())
def test_the_angle_between_motions_is_a_metric_and_agrees_with_scipy(a: Array, b: Array) -> None:
    between = a[:3, :3].T @ b[:3, :3]
    angle = float(rigid.angle_deg(between))
    assert angle == pytest.approx(np.degrees(Rotation.from_matrix(between).magnitude()), abs=1e-5)
    assert angle == pytest.approx(float(rigid.angle_deg(between.T)), abs=1e-9)
    assert 0 <= angle <= 180 + 1e-9
    through = float(rigid.angle_deg(a[:3, :3])) + float(rigid.angle_deg(b[:3, :3]))
    assert angle <= through + 1e-6


# --- Kabsch


@given(solids(), poses())
def test_a_fit_finds_the_motion_whatever_it_is(p: Array, pose: Array) -> None:
    np.testing.assert_allclose(rigid.fit(p, rigid.apply(pose, p)), pose, atol=1e-8)


@given(solids(), poses(), st.floats(0, 5), st.integers(0, 2**32 - 1))
def test_a_fit_of_noisy_points_is_a_motion_that_no_other_beats(
    p: Array, pose: Array, noise_mm: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    target = rigid.apply(pose, p) + rng.normal(0, noise_mm, p.shape)

    def error(candidate: Array) -> float:
        return float(np.square(rigid.apply(candidate, p) - target).sum())

    found = rigid.fit(p, target)
    assert is_motion(found)
    least = error(found)
    assert least <= error(pose) + 1e-9
    for size in (1e-3, 0.1, 1.0):
        turn = rigid.rotation_matrix(rng.normal(size=3) * size)
        nudged = found @ rigid.from_rotation(turn, rng.normal(size=3) * size)
        assert least <= error(nudged) + 1e-9


@given(solids(), poses(), st.integers(0, 2))
def test_a_fit_to_a_mirror_image_never_mirrors_and_is_scipy_s(p: Array, pose: Array, axis: int) -> None:
    mirrored = p.copy()
    mirrored[:, axis] *= -1
    target = rigid.apply(pose, mirrored)
    found = rigid.fit(p, target)
    assert is_motion(found)
    _, expected = Rotation.align_vectors(target - target.mean(0), p - p.mean(0))
    residual = np.linalg.norm(rigid.apply(found, p) - target)
    assert residual == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(solids(), poses(), poses())
def test_a_fit_of_points_in_a_plane_finds_the_motion(p: Array, plane: Array, pose: Array) -> None:
    flat = p * [1, 1, 0]
    assume(np.linalg.svd(flat - flat.mean(0), compute_uv=False)[1] > 1.0)
    source = rigid.apply(plane, flat)
    found = rigid.fit(source, rigid.apply(pose, source))
    np.testing.assert_allclose(found, pose, atol=1e-7)
    assert is_motion(found)


@given(solids(), poses(), poses(), st.booleans())
def test_a_fit_of_points_on_a_line_or_in_a_point_is_a_motion_that_fits(
    p: Array, line: Array, pose: Array, one_point: bool
) -> None:
    source = rigid.apply(line, p * ([0, 0, 0] if one_point else [1, 0, 0]))
    target = rigid.apply(pose, source)
    found = rigid.fit(source, target)  # the rotation about the line is free, the fit is not
    assert is_motion(found)
    np.testing.assert_allclose(rigid.apply(found, source), target, atol=1e-7)


# --- slots

NUMBERS = (*SLOTS, *PRIMARY)


def test_slots_and_permanent_numbers_are_one_to_one_and_mirror_into_each_other() -> None:
    assert sorted(slot_of(fdi) for fdi in SLOTS) == list(range(SLOT_COUNT))
    assert (MIRRORED_SLOT[MIRRORED_SLOT] == np.arange(SLOT_COUNT)).all()
    for fdi in NUMBERS:
        assert slot_of(antimere(fdi)) == MIRRORED_SLOT[slot_of(fdi)]
        assert antimere(antimere(fdi)) == fdi
        assert is_upper(fdi) == (slot_of(fdi) >= SLOT_COUNT // 2)


@given(st.sets(st.sampled_from(NUMBERS), min_size=1), st.data())
def test_teeth_are_placed_one_to_a_slot_and_a_rival_is_named(numbers: set[int], data: st.DataObject) -> None:
    stays = data.draw(st.sets(st.sampled_from(sorted(numbers)), min_size=1))
    pose_of = {fdi: rigid.from_rotation(np.eye(3), [fdi, 0.0, 0.0]) for fdi in numbers}
    given_poses = StagePoses(pose_of, {fdi: pose_of[fdi] for fdi in stays}, {}, ())
    left = without_rivals(given_poses)
    assert {successor(fdi) for fdi in left.t1} == {successor(fdi) for fdi in numbers}
    assert left.t1.keys() | left.defects.keys() == numbers
    placed = place(left)
    before, after = placed.present
    assert {int(fdi) for fdi in placed.fdi[before]} == set(left.t1)
    assert {int(fdi) for fdi in placed.fdi[after]} == stays & set(left.t1)
    assert {successor(fdi) for fdi in placed.fdi[after].tolist()} == {successor(fdi) for fdi in stays}
    assert not (after & ~before).any()
    for slot in np.flatnonzero(before):
        assert slot_of(int(placed.fdi[slot])) == slot
        assert placed.pose[T1, slot, 0, 3] == placed.fdi[slot]
    empty = ~before
    assert (placed.pose[T1, empty] == np.eye(4)).all()
    assert not placed.fdi[empty].any()


# --- metrics


@st.composite
def mouths(draw: Any) -> tuple[Array, Array, Array]:
    """Tooth-local points (T, P, 3), and poses (T, 4, 4) predicted and true."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    teeth = draw(st.integers(1, 6))
    local = rng.normal(0, 4, size=(teeth, 12, 3))
    turn = draw(st.floats(0, 0.5))
    rotations = rigid.rotation_matrix(rng.normal(size=(2, teeth, 3)) * turn)
    made = rigid.from_rotation(rotations, rng.normal(size=(2, teeth, 3)) * 20)
    return local, made[0], made[1]


@given(mouths(), poses())
def test_no_metric_notices_a_motion_of_the_whole_scene(
    mouth: tuple[Array, Array, Array], motion: Array
) -> None:
    local, predicted, true = mouth
    group = np.arange(len(local)) % 2

    def figures(a: Array, b: Array) -> list[Array]:
        p, q = rigid.apply(a, local), rigid.apply(b, local)
        return [
            metrics.add_mm(p, q),
            metrics.pa_add_mm(p, q, group),
            metrics.rotation_error_deg(a, b),
            metrics.translation_error_mm(p, q),
            metrics.rigidity_residual_mm(p, q),
        ]

    before, after = figures(predicted, true), figures(motion @ predicted, motion @ true)
    for name, a, b in zip(("add", "pa", "rotation", "translation", "residual"), before, after, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-6, err_msg=name)
    assert (before[3] <= before[0] + NEAR_MM).all()  # a centroid moves no further than its points on average
    assert (before[0] <= before[4] + NEAR_MM).all()  # a mean is at most the root mean square
    assert (before[1] >= 0).all()


@given(mouths(), poses())
def test_what_is_moved_as_a_whole_costs_no_procrustes_aligned_error(
    mouth: tuple[Array, Array, Array], motion: Array
) -> None:
    local, _, true = mouth
    p, q = rigid.apply(motion @ true, local), rigid.apply(true, local)
    np.testing.assert_allclose(metrics.pa_add_mm(p, q, np.zeros(len(local), int)), 0, atol=1e-7)


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 20)), st.floats(0, 5))
def test_accuracy_rises_from_threshold_to_threshold_and_falls_with_the_error(add: Array, more: float) -> None:
    curve = metrics.accuracy(add)
    assert (np.diff(curve) >= 0).all()
    assert ((curve >= 0) & (curve <= 1)).all()
    assert metrics.add_auc_5mm(add + more) <= metrics.add_auc_5mm(add)
    assert metrics.add_auc_5mm(np.zeros_like(add)) == 1.0


# --- sampling


@st.composite
def meshes(draw: Any) -> Array:
    """Triangles (F, 3, 3): convex solids, plates, needles, doubled shells, soups with slivers and holes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    stretch = 10.0 ** rng.uniform(-1, 1, 3)
    kind = draw(st.sampled_from(["convex", "soup", "doubled", "plate", "one"]))
    if kind == "one":
        return rng.normal(size=(1, 3, 3)) * 5
    cloud = rng.normal(size=(draw(st.integers(5, 40)), 3)) * stretch
    hull = np.asarray(trimesh.convex.convex_hull(cloud).triangles)
    if kind == "soup":
        soup = rng.normal(size=(draw(st.integers(1, 30)), 3, 3)) * stretch
        soup[::3, 2] = soup[::3, 1]  # without area
        soup[-1] = rng.normal(size=(3, 3))
        return soup
    if kind == "doubled":
        return np.concatenate([hull, hull, hull[:, ::-1]])
    return hull * [1, 1, 1e-6] if kind == "plate" else hull


@given(meshes(), st.integers(4, 64).map(lambda n: 2 * n), st.integers(0, 5))
def test_sampling_gives_exactly_so_many_points_on_the_surface_and_evenly_spread(
    triangles: Array, count: int, seed: int
) -> None:
    sampled = sampling.sample_surface(triangles, count, 8, seed)
    assert sampled.shape == (count, 3)
    assert np.isfinite(sampled).all()
    np.testing.assert_array_equal(sampled, sampling.sample_surface(triangles, count, 8, seed))
    size = np.ptp(triangles.reshape(-1, 3), axis=0).max()
    surface = trimesh.Trimesh(**trimesh.triangles.to_kwargs(triangles), process=False)
    _, distance, _ = trimesh.proximity.closest_point_naive(surface, sampled)
    assert distance.max() < 1e-6 * size
    # Farthest points first: what a random choice would leave uncovered is within reach of a point.
    dense = sampling.sample_surface(triangles, 4 * count, 4, seed + 1)
    reach = cKDTree(sampled).query(dense)[0].max()
    area = (
        0.5
        * np.linalg.norm(
            np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1
        ).sum()
    )
    # The radius of discs that cover the area once over, and what a needle's length adds to it.
    assert reach <= 3.0 * np.sqrt(area / (np.pi * count)) + 4.0 * size / count
    assert {tuple(row) for row in sampling.order(sampled)} == {tuple(row) for row in sampled}

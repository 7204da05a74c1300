"""Rigid motions of space, SE(3), as (..., 4, 4) float64 matrices for column vectors; lengths in mm."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def from_quaternion(xyzw: ArrayLike, translation: ArrayLike) -> Array:
    """Make a pose from a quaternion and a translation.

    xyzw        : (..., 4) float, scalar last, any norm above 0 (it is normalised)
    translation : (..., 3) float, mm
    returns     : (..., 4, 4) float64
    raises      : ValueError where a quaternion has norm 0 or a number is not finite

    Source: Shuster 1993, "A Survey of Attitude Representations", eq. 97 (active form).
    """
    q = np.asarray(xyzw, dtype=np.float64)
    t = np.asarray(translation, dtype=np.float64)
    if not (np.isfinite(q).all() and np.isfinite(t).all()):
        raise ValueError("quaternion and translation must be finite")
    largest = np.abs(q).max(axis=-1, keepdims=True)  # divided out first: no overflow of the squares
    if (largest == 0).any():
        raise ValueError("a quaternion of norm 0 is not a rotation")
    q = q / largest
    x, y, z, w = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    pose = np.zeros((*q.shape[:-1], 4, 4))
    pose[..., 0, :3] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], -1)
    pose[..., 1, :3] = np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], -1)
    pose[..., 2, :3] = np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1)
    pose[..., :3, 3] = t
    pose[..., 3, 3] = 1.0
    return pose


def rotation_matrix(rotation_vector: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3), radians (Rodrigues' formula)."""
    v = np.asarray(rotation_vector, dtype=np.float64)
    half = 0.5 * np.linalg.norm(v, axis=-1, keepdims=True)
    xyzw = np.concatenate([0.5 * v * np.sinc(half / np.pi), np.cos(half)], axis=-1)
    return from_quaternion(xyzw, np.zeros(v.shape))[..., :3, :3]


def rotation_vector(rotation: ArrayLike) -> Array:
    """Rotation vectors (..., 3), radians, of rotation matrices (..., 3, 3); angle in [0, pi]."""
    from scipy.spatial.transform import Rotation

    r = np.asarray(rotation, dtype=np.float64)
    return Rotation.from_matrix(r.reshape(-1, 3, 3)).as_rotvec().reshape(r.shape[:-1])


def from_rotation(rotation: ArrayLike, translation: ArrayLike) -> Array:
    """Make poses (..., 4, 4) from rotation matrices (..., 3, 3) and translations (..., 3), mm."""
    r, t = np.asarray(rotation, dtype=np.float64), np.asarray(translation, dtype=np.float64)
    pose = np.zeros((*np.broadcast_shapes(r.shape[:-2], t.shape[:-1]), 4, 4))
    pose[..., :3, :3], pose[..., :3, 3], pose[..., 3, 3] = r, t, 1.0
    return pose


def unit(vectors: ArrayLike) -> NDArray[Any]:
    """Unit vectors (..., 3) of vectors (..., 3), of the same float type; a vector of length 0 stays 0."""
    v = np.asarray(vectors)
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    return np.asarray(v / np.where(length > 0, length, 1.0))


def inverse(pose: Array) -> Array:
    """Invert poses (..., 4, 4): inverse(pose) @ pose is the identity."""
    transposed = np.swapaxes(pose[..., :3, :3], -1, -2)
    return from_rotation(transposed, -(transposed @ pose[..., :3, 3:])[..., 0])


def apply(pose: ArrayLike, points: ArrayLike) -> Array:
    """Move points (..., P, 3) by poses (..., 4, 4); leading axes broadcast; returns a new array."""
    m, p = np.asarray(pose, dtype=np.float64), np.asarray(points, dtype=np.float64)
    return p @ np.swapaxes(m[..., :3, :3], -1, -2) + m[..., None, :3, 3]


def fit(source: ArrayLike, target: ArrayLike) -> Array:
    """Fit the pose that carries source points nearest to target points, by least squares.

    Row i of both arrays is the same spot. The result contains no reflection and no scaling.

    source, target : (..., P, 3) float, mm; P >= 3, not all on a line
    returns        : (..., 4, 4) float64; `apply(result, source)` is nearest to `target`
    raises         : ValueError if shapes differ, P < 3, or a coordinate is not finite

    Source: Kabsch 1976, doi:10.1107/S0567739476001873; sign step Umeyama 1991, doi:10.1109/34.88573.
    """
    a, b = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if a.shape != b.shape or a.shape[-1] != 3 or a.shape[-2] < 3:
        raise ValueError(f"source and target must both be (..., P >= 3, 3), got {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("points must be finite")
    a_mean, b_mean = a.mean(-2, keepdims=True), b.mean(-2, keepdims=True)
    u, _, vt = np.linalg.svd(np.swapaxes(b - b_mean, -1, -2) @ (a - a_mean))
    sign = np.ones(u.shape[:-1])
    sign[..., 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = (u * sign[..., None, :]) @ vt
    return from_rotation(rotation, b_mean[..., 0, :] - (rotation @ np.swapaxes(a_mean, -1, -2))[..., 0])


def angle_deg(rotation: ArrayLike) -> Array:
    """Geodesic angle in degrees (...) of rotation matrices (..., 3, 3).

    By the chord |R - I|_F = 2 sqrt(2) sin(angle / 2): exact near 0, where the arc cosine is not
    (Hartley et al. 2013, doi:10.1007/s11263-012-0601-0).
    """
    r = np.asarray(rotation, dtype=np.float64)
    chord = np.linalg.norm(r - np.eye(3), axis=(-2, -1)) / (2 * np.sqrt(2))
    trace = np.trace(r, axis1=-2, axis2=-1)
    return np.degrees(2 * np.arctan2(chord, np.sqrt(np.maximum(1 + trace, 0)) / 2))

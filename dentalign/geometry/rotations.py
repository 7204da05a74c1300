"""Rotations in torch, for networks: matrices (..., 3, 3) and rotation vectors (..., 3) in radians."""

import torch


def matrix(vector: torch.Tensor) -> torch.Tensor:
    """Rotation matrices of rotation vectors, radians (Rodrigues' formula); smooth at 0."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    angle = (vector.square().sum(-1) + 1e-12).sqrt()[..., None, None]
    half = torch.sin(angle / 2) / angle
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity + torch.sin(angle) / angle * cross + 2 * half.square() * (cross @ cross)


def vector(matrix: torch.Tensor) -> torch.Tensor:
    """Rotation vectors, radians, of rotation matrices; correct below 180 degrees, but 0 at 180."""
    axis = torch.stack(
        [
            matrix[..., 2, 1] - matrix[..., 1, 2],
            matrix[..., 0, 2] - matrix[..., 2, 0],
            matrix[..., 1, 0] - matrix[..., 0, 1],
        ],
        -1,
    )
    sine = axis.norm(dim=-1, keepdim=True) / 2
    cosine = (matrix.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1) / 2
    angle = torch.atan2(sine, cosine)
    return axis / 2 * torch.where(sine > 1e-6, angle / sine.clamp(min=1e-6), torch.ones_like(angle))


def nearest(matrix: torch.Tensor) -> torch.Tensor:
    """Rotation nearest to each matrix (..., 3, 3) by least squares (Umeyama 1991, doi:10.1109/34.88573)."""
    u, _, vt = torch.linalg.svd(matrix)
    sign = torch.ones_like(matrix[..., 0])
    sign[..., 2] = torch.det(u @ vt).sign()
    return (u * sign[..., None, :]) @ vt

"""The tooth encoder against a slow, obvious twin; its graph against scipy."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from dentalign.autoencoder.encoder import ChebyshevLayer, Encoder, EncoderConfig
from dentalign.autoencoder.neighbours import nearest_neighbours

CONFIG = EncoderConfig(points=40, neighbours=5, terms=6, hidden=8, features=7)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    made = Encoder(CONFIG)
    made.centre.copy_(torch.tensor([1.0, -20.0, 3.0]))
    made.scale.copy_(torch.tensor(15.0))
    return made.eval().requires_grad_(False)


def teeth(count: int, shift: float = 0.0) -> torch.Tensor:
    points = torch.randn(count, CONFIG.points, 3, generator=torch.Generator().manual_seed(1)) * 4
    return points + shift


def chebyshev_twin(layer: ChebyshevLayer, x: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """T_k of the matrix itself, by its eigenvalue-free recursion, in float64: sum_k T_k(-A) x W_k + b."""
    count = len(x)
    adjacency = np.zeros((count, count))
    for i in range(count):
        for j in neighbours[i]:
            adjacency[i, j] += 1 / len(neighbours[i])
    polynomials = [np.eye(count), -adjacency]
    while len(polynomials) < layer.terms:
        polynomials.append(2 * -adjacency @ polynomials[-1] - polynomials[-2])
    weight = layer.linear.weight.double().numpy()
    out = np.tile(layer.linear.bias.double().numpy(), (count, 1))
    for k in range(layer.terms):
        out += polynomials[k] @ x @ weight[:, k * x.shape[1] : (k + 1) * x.shape[1]].T
    return out


def twin(encoder: Encoder, points: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    x = (points - encoder.centre.double().numpy()) / float(encoder.scale)
    for layer in (encoder.first, encoder.second):
        x = chebyshev_twin(layer, x, neighbours)
        x = x / (1 + np.exp(-x))
    return chebyshev_twin(encoder.third, x, neighbours)


def test_the_encoder_agrees_with_its_slow_twin(encoder: Encoder) -> None:
    points = teeth(3)
    graph = nearest_neighbours(points, CONFIG.neighbours)
    found = encoder(points, graph).numpy()
    wanted = np.stack([twin(encoder, points[i].double().numpy(), graph[i].numpy()) for i in range(3)])
    assert np.abs(found - wanted).max() < 2e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("terms", [1, 2, 3, 6])
def test_a_layer_agrees_with_its_slow_twin_for_any_number_of_terms(terms: int) -> None:
    torch.manual_seed(terms)
    layer = ChebyshevLayer(3, 4, terms).double().requires_grad_(False)
    x = torch.randn(20, 3, dtype=torch.float64)
    neighbours = nearest_neighbours(x[None], 4)[0]
    wanted = chebyshev_twin(layer, x.numpy(), neighbours.numpy())
    np.testing.assert_allclose(layer(x[:, None], neighbours)[:, 0].numpy(), wanted, atol=1e-12)


def test_permuted_points_give_permuted_latents(encoder: Encoder) -> None:
    points = teeth(2)
    order = torch.randperm(CONFIG.points, generator=torch.Generator().manual_seed(2))
    plain = encoder(points, nearest_neighbours(points, CONFIG.neighbours))
    permuted = encoder(points[:, order], nearest_neighbours(points[:, order], CONFIG.neighbours))
    torch.testing.assert_close(permuted, plain[:, order], atol=2e-6, rtol=0)


def test_a_tooth_s_latent_does_not_depend_on_the_others_in_the_batch(encoder: Encoder) -> None:
    points = teeth(9)
    graph = nearest_neighbours(points, CONFIG.neighbours)
    together = encoder(points, graph)
    for i in range(9):
        alone = encoder(points[i : i + 1], graph[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=2e-6, rtol=0)


def test_the_latent_tells_where_the_tooth_stands(encoder: Encoder) -> None:
    points = teeth(1)
    graph = nearest_neighbours(points, CONFIG.neighbours)
    assert (encoder(points + 1.0, graph) - encoder(points, graph)).abs().max() > 1e-3


@pytest.mark.parametrize("shift", [0.0, 500.0, -3000.0])
def test_neighbours_are_scipy_s_also_far_from_the_origin(shift: float) -> None:
    points = teeth(4, shift)
    found = nearest_neighbours(points, 6).numpy()
    for cloud, graph in zip(points.double().numpy(), found, strict=True):
        wanted = cKDTree(cloud).query(cloud, 7)[1][:, 1:]
        assert (np.sort(graph) == np.sort(wanted)).all(1).mean() == 1


def test_among_many_points_the_neighbours_are_the_nearest_to_the_last_digits() -> None:
    points = torch.randn(6, 512, 3, generator=torch.Generator().manual_seed(4)) * 4
    graph = nearest_neighbours(points, 6)
    cloud, rows = points.double(), torch.arange(6)[:, None, None]
    found = (cloud[rows, graph] - cloud[:, :, None]).norm(dim=-1)
    wanted = torch.cdist(cloud, cloud).sort(2).values[:, :, 1:7]
    assert (found / wanted - 1).abs().max() < 6e-5  # an index takes 9 of the 31 bits of a squared distance


def test_no_point_is_its_own_neighbour_even_among_doubles() -> None:
    points = teeth(1)[:, :20].repeat(1, 2, 1)  # every point twice
    graph = nearest_neighbours(points, 3)[0]
    assert not (graph == torch.arange(40)[:, None]).any()
    assert all(len(set(row)) == 3 for row in graph.tolist())


def test_a_rigid_motion_leaves_the_graph_as_it_is() -> None:
    points = teeth(2)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3)))[0]
    moved = points @ turn.T + 30
    same = nearest_neighbours(points, 5).sort().values == nearest_neighbours(moved, 5).sort().values
    assert same.all()


def test_states_encoded_together_are_as_each_encoded_alone(encoder: Encoder) -> None:
    points = torch.stack([teeth(3), teeth(3, shift=4.0), teeth(3) * 1.1])
    graph = nearest_neighbours(points[0], CONFIG.neighbours)
    together = encoder.encode_states(points, graph)
    alone = torch.stack([encoder(state, graph) for state in points])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


def test_too_few_points_for_the_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="6 neighbours need 7 to 65,536 points"):
        nearest_neighbours(torch.zeros(1, 6, 3), 6)

"""The loss term for contacts: what it sees of overlaps and gaps, and which way it pushes."""

import numpy as np
import pytest
import torch

from dentalign.alignment.attention import contact_loss
from dentalign.alignment.attention.contact_loss import contact_error_mm, neighbours, planned_depth_mm
from dentalign.alignment.attention.posed_teeth import PosedTeeth, mirrored_points, thinned
from dentalign.geometry import rotations
from dentalign.geometry.contacts import contacts
from dentalign.geometry.sampling import directions
from dentalign.teeth import MIRRORED_SLOT, SLOT_COUNT, SLOT_INDEX

RADIUS_MM = 4.0
POINTS = 64
SPHERE = torch.from_numpy(RADIUS_MM * thinned(directions(256), POINTS)).float()
NORMALS = contact_loss.outward_normals(SPHERE, 256).expand(1, SLOT_COUNT, -1, -1)


def mouth(**place_mm: float) -> tuple[PosedTeeth, torch.Tensor]:
    """Spheres along x in the slots named such as t11=0.0; who is there."""
    centroid, there = torch.zeros(1, SLOT_COUNT, 3), torch.zeros(1, SLOT_COUNT, dtype=torch.bool)
    for name, x in place_mm.items():
        slot = SLOT_INDEX[int(name[1:])]
        centroid[0, slot, 0], there[0, slot] = x, True
    points = SPHERE.expand(1, SLOT_COUNT, -1, -1)
    return PosedTeeth(points, torch.eye(3).expand(1, SLOT_COUNT, 3, 3), centroid), there


def costs(found: PosedTeeth, planned: PosedTeeth, there: torch.Tensor) -> torch.Tensor:
    planned_mm = planned_depth_mm(planned, NORMALS, there)
    return contact_error_mm(found, NORMALS, planned_mm, neighbours(there, there))


APART = {"t12": -8.5, "t11": 0.0, "t21": 8.5}


@pytest.mark.parametrize("deep_mm", [0.3, 0.8, 1.5])
def test_an_overlap_that_is_not_planned_is_seen_as_deep_as_it_is_measured(deep_mm: float) -> None:
    planned, there = mouth(t11=0.0, t21=2 * RADIUS_MM)
    found, _ = mouth(t11=0.0, t21=2 * RADIUS_MM - deep_mm)
    seen = float(costs(found, planned, there).sum())
    whole = RADIUS_MM * directions(256)
    beside = whole + np.array([2 * RADIUS_MM - deep_mm, 0, 0])
    measured = contacts(np.stack([whole, beside]), np.array([[0, 1]]))[0]
    assert seen == pytest.approx(float(measured[0]), abs=0.2)


def test_a_gap_that_is_not_planned_costs_as_much_as_it_is_wide() -> None:
    planned, there = mouth(t11=0.0, t21=2 * RADIUS_MM)
    wider, _ = mouth(t11=0.0, t21=2 * RADIUS_MM + 0.7)
    assert float(costs(wider, planned, there).sum()) == pytest.approx(0.7, abs=0.1)


def test_what_is_planned_costs_nothing_overlap_or_gap() -> None:
    planned, there = mouth(t12=-6.0, t11=0.0, t21=12.0)
    assert float(costs(planned, planned, there).sum()) == 0


def test_the_gradient_pushes_both_neighbours_apart_and_nobody_else() -> None:
    planned, there = mouth(**APART)
    found, _ = mouth(**{**APART, "t21": 7.0})
    centroid = found.centroid.clone().requires_grad_(True)
    costs(found._replace(centroid=centroid), planned, there).sum().backward()  # 21 stands in 11
    assert centroid.grad is not None
    push = -centroid.grad[0, :, 0]
    assert push[SLOT_INDEX[21]] > 0.1
    assert push[SLOT_INDEX[11]] < -0.1
    assert push[SLOT_INDEX[12]] == 0  # as planned
    others = [slot for slot in range(SLOT_COUNT) if slot not in (SLOT_INDEX[11], SLOT_INDEX[21])]
    assert not push[others].any()


def test_neighbours_are_those_of_an_arch_with_empty_slots_between() -> None:
    there = torch.zeros(3, SLOT_COUNT, dtype=torch.bool)
    for mouth_number, teeth in enumerate(((11, 13, 41), (), (36, 34, 35))):
        there[mouth_number, [SLOT_INDEX[fdi] for fdi in teeth]] = True
    pairs = set(zip(*(part.tolist() for part in neighbours(there, there)), strict=True))
    assert pairs == {
        (0, SLOT_INDEX[13], SLOT_INDEX[11]),
        (2, SLOT_INDEX[36], SLOT_INDEX[35]),
        (2, SLOT_INDEX[35], SLOT_INDEX[34]),
    }


def test_a_tooth_that_is_left_out_makes_no_neighbours_of_those_beside_it() -> None:
    _, there = mouth(**APART)
    counted = there.clone()
    counted[0, SLOT_INDEX[11]] = False
    assert len(neighbours(there, counted).mouth) == 0
    counted[0, SLOT_INDEX[11]], counted[0, SLOT_INDEX[21]] = True, False
    pairs = neighbours(there, counted)
    assert (pairs.left.item(), pairs.right.item()) == (SLOT_INDEX[12], SLOT_INDEX[11])
    assert len(neighbours(counted, counted).mouth) == 1


def test_what_is_planned_is_known_of_each_tooth_to_the_one_before_it_and_to_the_one_after() -> None:
    planned, there = mouth(t12=-7.0, t11=0.0, t21=9.5)
    depth = planned_depth_mm(planned, NORMALS, there)[0]
    assert depth[SLOT_INDEX[12]].tolist() == pytest.approx([0, 1.0], abs=0.2)
    assert depth[SLOT_INDEX[11]].tolist() == pytest.approx([1.0, -1.5], abs=0.2)
    assert depth[SLOT_INDEX[21]].tolist() == pytest.approx([-1.5, 0], abs=0.2)
    assert not depth[~there[0]].any()


def test_a_mouth_without_neighbours_costs_nothing() -> None:
    planned, there = mouth(t11=0.0, t41=0.0)
    assert float(costs(planned, planned, there).sum()) == 0


@pytest.mark.parametrize(("sampled", "seen"), [(256, 64), (64, 64), (128, 64), (512, 64), (32, 32)])
def test_normals_point_outwards_whatever_the_points_are_taken_from(sampled: int, seen: int) -> None:
    sphere = torch.from_numpy(RADIUS_MM * thinned(directions(sampled), seen)).float()
    normals = contact_loss.outward_normals(sphere, sampled)
    assert (normals * sphere / RADIUS_MM).sum(-1).min() > 0.8


def plain_depth_mm(
    points: torch.Tensor, normals: torch.Tensor, vector: torch.Tensor, centroid: torch.Tensor, pair: list[int]
) -> torch.Tensor:
    """Depth () mm of one pair, in the mouth's own frame, by every distance."""
    depths = []
    for probing, standing in (pair, pair[::-1]):
        turned = points[probing] @ rotations.matrix(vector[probing]).mT
        turn = rotations.matrix(vector[standing])
        probes, surface = turned[::2] + centroid[probing], points[standing] @ turn.mT + centroid[standing]
        for probe in probes[(probes - centroid[standing]).norm(dim=1).argsort()[:16]]:
            nearest = int((surface - probe).norm(dim=1).argmin())
            depths.append((surface[nearest] - probe) @ (turn @ normals[standing, nearest]))
    return torch.stack(depths).max()


def uneven(points: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Crowns of which no two are alike, and what may be their normals: (1, 32, points, 3) each."""
    sphere = torch.from_numpy(RADIUS_MM * directions(points)).float().expand(1, SLOT_COUNT, -1, -1)
    crowns = sphere + 0.2 * torch.randn(sphere.shape, generator=generator)
    roughly = sphere / RADIUS_MM + 0.1 * torch.randn(sphere.shape, generator=generator)
    return crowns, torch.nn.functional.normalize(roughly, dim=-1)


@pytest.mark.parametrize("count", [POINTS, 16])
def test_it_is_the_plain_formula_in_double_precision_and_so_is_its_gradient(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    average, there = mouth(t13=-24, t12=-16, t11=-8, t21=0, t22=8, t43=0, t31=8)
    points, normals = uneven(count, generator)

    def shaken(by: float, about: torch.Tensor) -> torch.Tensor:
        return (about + by * torch.randn(about.shape, generator=generator)).requires_grad_(True)

    none = torch.zeros_like(average.centroid)
    found, planned = ((shaken(0.3, none), shaken(0.7, average.centroid)) for _ in range(2))
    teeth = [PosedTeeth(points, rotations.matrix(vector), centroid) for vector, centroid in (found, planned)]
    pairs = neighbours(there, there)
    costs = contact_error_mm(teeth[0], normals, planned_depth_mm(teeth[1], normals, there).detach(), pairs)
    gradients = torch.autograd.grad(costs.sum(), found)

    crowns = (points[0].double(), normals[0].double())
    plain = [
        [value.detach()[0].double().requires_grad_(True) for value in stage] for stage in (found, planned)
    ]
    wanted = []
    for pair in torch.stack(pairs[1:3], 1).tolist():
        depths = [plain_depth_mm(*crowns, vector, centroid, pair) for vector, centroid in plain]
        wanted.append((depths[0] - depths[1].detach()).abs())
    assert len(wanted) == 5
    torch.testing.assert_close(costs.detach().double(), torch.stack(wanted).detach(), atol=1e-5, rtol=0)
    plainly = torch.autograd.grad(torch.stack(wanted).sum(), plain[0])
    for mine, theirs in zip(gradients, plainly, strict=True):
        torch.testing.assert_close(mine[0].double(), theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [64, 30])  # halves of an odd number of points, too
def test_a_mouth_and_its_mirror_image_have_the_same_contacts(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    teeth, there = mouth(t13=-24, t12=-16, t11=-8, t21=0, t22=8, t43=0, t31=8)
    points, normals = uneven(count, generator)
    turn = rotations.matrix(0.3 * torch.randn(1, SLOT_COUNT, 3, generator=generator))
    teeth = PosedTeeth(points, turn, teeth.centroid)
    depth = planned_depth_mm(teeth, normals, there)
    other = planned_depth_mm(teeth.mirrored(), mirrored_points(normals), there[:, MIRRORED_SLOT])
    assert int((depth != 0).sum()) == 10
    torch.testing.assert_close(other[:, MIRRORED_SLOT].flip(-1), depth, atol=1e-5, rtol=0)


def test_the_nearest_point_is_that_of_plain_distances_in_double_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    surface = 4 * torch.randn(200, 64, 3, generator=generator)
    for away_mm in (0.0, 8.0, 60.0):  # a neighbour, and one that has lost its way
        probes = 4 * torch.randn(200, 32, 3, generator=generator) + torch.tensor([away_mm, 0, 0])
        apart = torch.cdist(probes.double(), surface.double())
        found = contact_loss._nearest(probes, surface)[..., None]
        assert (apart.gather(2, found)[..., 0] - apart.amin(2)).max() < 1e-4  # mm; ties may go either way

"""The loss term for contacts: what it sees of overlaps and gaps, and which way it pushes."""

import numpy as np
import pytest
import torch

from dentalign.geometry.contacts import contacts
from dentalign.geometry.tooth_points import directions
from dentalign.networks.pose_aligner import thinned
from dentalign.networks.tooth_attention import PosedTeeth
from dentalign.teeth import SLOT_COUNT, SLOT_INDEX
from dentalign.training import contact_error
from dentalign.training.contact_error import contact_error_mm, neighbours

RADIUS_MM = 4.0
POINTS = 64
SPHERE = torch.from_numpy(RADIUS_MM * thinned(directions(256), POINTS)).float()


def mouth(**place_mm: float) -> tuple[PosedTeeth, torch.Tensor]:
    """Spheres along x in the slots named such as t11=0.0; who is there."""
    middle, there = torch.zeros(1, SLOT_COUNT, 3), torch.zeros(1, SLOT_COUNT, dtype=torch.bool)
    for name, x in place_mm.items():
        slot = SLOT_INDEX[int(name[1:])]
        middle[0, slot, 0], there[0, slot] = x, True
    points = SPHERE.expand(1, SLOT_COUNT, -1, -1)
    return PosedTeeth(points, torch.eye(3).expand(1, SLOT_COUNT, 3, 3), middle), there


def costs(found: PosedTeeth, planned: PosedTeeth, there: torch.Tensor) -> torch.Tensor:
    return contact_error_mm(found, planned, neighbours(there), 256)


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
    middle = found.middle.clone().requires_grad_(True)
    costs(found._replace(middle=middle), planned, there).sum().backward()  # 21 stands in 11
    assert middle.grad is not None
    push = -middle.grad[0, :, 0]
    assert push[SLOT_INDEX[21]] > 0.1
    assert push[SLOT_INDEX[11]] < -0.1
    assert push[SLOT_INDEX[12]] == 0  # as planned
    others = [slot for slot in range(SLOT_COUNT) if slot not in (SLOT_INDEX[11], SLOT_INDEX[21])]
    assert not push[others].any()


def test_neighbours_are_those_of_an_arch_with_empty_slots_between() -> None:
    there = torch.zeros(3, SLOT_COUNT, dtype=torch.bool)
    for mouth_number, teeth in enumerate(((11, 13, 41), (), (36, 34, 35))):
        there[mouth_number, [SLOT_INDEX[fdi] for fdi in teeth]] = True
    pairs = set(zip(*(part.tolist() for part in neighbours(there)[:3]), strict=True))
    assert pairs == {
        (0, SLOT_INDEX[13], SLOT_INDEX[11]),
        (2, SLOT_INDEX[36], SLOT_INDEX[35]),
        (2, SLOT_INDEX[35], SLOT_INDEX[34]),
    }


def test_what_fills_the_pairs_up_to_a_fixed_number_costs_nothing_and_pushes_nobody() -> None:
    planned, there = mouth(**APART)
    found, _ = mouth(**{**APART, "t21": 7.0})
    pushes = []
    for as_many in (False, True):
        middle = found.middle.clone().requires_grad_(True)
        pairs = neighbours(there, as_many)
        cost = contact_error_mm(found._replace(middle=middle), planned, pairs, 256)
        assert len(cost) == (30 if as_many else 2)
        cost.sum().backward()
        pushes.append((float(cost.sum().detach()), middle.grad))
    assert pushes[0][0] == pytest.approx(pushes[1][0])
    torch.testing.assert_close(pushes[0][1], pushes[1][1])


def test_a_mouth_without_neighbours_costs_nothing() -> None:
    planned, there = mouth(t11=0.0, t41=0.0)
    assert float(costs(planned, planned, there).sum()) == 0


@pytest.mark.parametrize(("sampled", "seen"), [(256, 64), (64, 64), (128, 64), (512, 64), (32, 32)])
def test_normals_point_outwards_whatever_the_points_are_taken_from(sampled: int, seen: int) -> None:
    sphere = torch.from_numpy(RADIUS_MM * thinned(directions(sampled), seen)).float()
    normals = contact_error.outward_normals(sphere, sampled)
    assert (normals * sphere / RADIUS_MM).sum(-1).min() > 0.8


def test_the_nearest_point_is_that_of_plain_distances_in_double_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    surface = 4 * torch.randn(200, 64, 3, generator=generator)
    for away_mm in (0.0, 8.0, 60.0):  # a neighbour, and one that has lost its way
        probes = 4 * torch.randn(200, 32, 3, generator=generator) + torch.tensor([away_mm, 0, 0])
        apart = torch.cdist(probes.double(), surface.double())
        found = contact_error._nearest(probes, surface)[..., None]
        assert (apart.gather(2, found)[..., 0] - apart.amin(2)).max() < 1e-4  # mm; ties may go either way

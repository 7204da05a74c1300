"""The training mouths of the model `attention`, kept on disk: memory does not grow with their number."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.alignment.attention.contact_loss import outward_normals
from dentalign.alignment.attention.model import mirrored, mirrored_places, mirrored_points, moved, teeth_of
from dentalign.alignment.attention.network import PosedTeeth, to_standard_place
from dentalign.dataset.mouth_store import MouthStore
from dentalign.files.row_file import RowFile
from dentalign.mouth import T1, T2
from dentalign.teeth import MIRRORED_SLOT, SLOT_COUNT

_AT_ONCE = 64  # mouths


class Examples(NamedTuple):
    """N mouths at T1 and T2; `t2.points` are those of `t1`.

    normals        : (N, 32, p, 3) outward at the points, tooth-local, see `outward_normals`
    planned_mm     : (N, 32, 2) how deep each tooth is to stand in the one before it and in the one after it
    present, stays : (N, 32) bool, at T1, and at T1 and T2
    """

    t1: PosedTeeth
    t2: PosedTeeth
    normals: torch.Tensor
    planned_mm: torch.Tensor
    present: torch.Tensor
    stays: torch.Tensor

    def at(self, rows: slice) -> "Examples":
        """Some of them."""
        t1, t2 = (PosedTeeth(*(part[rows] for part in teeth)) for teeth in (self.t1, self.t2))
        return Examples(t1, t2, *(part[rows] for part in self[2:]))

    def to(self, device: torch.device) -> "Examples":
        """The same on another device."""
        t1 = PosedTeeth(*(part.to(device) for part in self.t1))
        t2 = PosedTeeth(t1.points, self.t2.rotation.to(device), self.t2.middle.to(device))
        return Examples(t1, t2, *(part.to(device) for part in self[2:]))

    def mirrored(self) -> "Examples":
        """Their mirror images."""
        there = (self.present[:, MIRRORED_SLOT], self.stays[:, MIRRORED_SLOT])
        t1, normals = mirrored(self.t1), mirrored_points(self.normals)
        t2 = PosedTeeth(t1.points, *mirrored_places(*self.t2[1:]))
        planned_mm = self.planned_mm[:, MIRRORED_SLOT].flip(-1)  # who came before comes after
        return Examples(t1, t2, normals, planned_mm, *there)

    def in_standard_place(self, reference: torch.Tensor) -> "Examples":
        """The whole mouths moved, T2 with T1, to where T1 stands best by the reference (32, 3), mm."""
        motion = to_standard_place(self.t1.middle, self.present, reference)
        return self._replace(t1=moved(self.t1, *motion), t2=moved(self.t2, *motion))


class ExamplesOnDisk:
    """Mouths in a temporary file, `points` points of a tooth."""

    def __init__(self, folder: Path, points: int):
        parts = {
            **dict.fromkeys(("points", "normals"), ("<f4", (SLOT_COUNT, points, 3))),
            **{f"{stage}_rotation": ("<f4", (SLOT_COUNT, 3, 3)) for stage in ("t1", "t2")},
            **{f"{stage}_middle": ("<f4", (SLOT_COUNT, 3)) for stage in ("t1", "t2")},
            "planned_mm": ("<f4", (SLOT_COUNT, 2)),
            "present": ("?", (SLOT_COUNT,)),
            "stays": ("?", (SLOT_COUNT,)),
        }
        self._dtype = np.dtype([(name, *kind) for name, kind in parts.items()])
        self._file, self._count = RowFile.temporary(folder, self._dtype), 0

    @classmethod
    def read(cls, store: MouthStore, rows: NDArray[np.intp], points: int, folder: Path) -> "ExamplesOnDisk":
        """The mouths of some rows as they stand."""
        made = cls(folder, points)
        for start in range(0, len(rows), _AT_ONCE):
            mouths = store.mouths(rows[start : start + _AT_ONCE])
            (t1, _), (t2, _) = (teeth_of(mouths.points, mouths.pose[:, stage], points) for stage in (T1, T2))
            present, stays = torch.from_numpy(mouths.present[:, T1]), torch.from_numpy(mouths.stays)
            normals = outward_normals(t1.points, store.layout.points)
            t2 = t2._replace(points=t1.points)
            unknown = torch.zeros(len(normals), SLOT_COUNT, 2)
            made.put(start, Examples(t1, t2, normals, unknown, present, stays))
        return made

    def __len__(self) -> int:
        return self._count

    def put(self, start: int, examples: Examples) -> None:
        """Write mouths at a number and after it."""
        values = np.empty(len(examples.present), self._dtype)
        values["points"] = examples.t1.points.cpu()
        for stage in ("t1", "t2"):
            values[f"{stage}_rotation"] = getattr(examples, stage).rotation.cpu()
            values[f"{stage}_middle"] = getattr(examples, stage).middle.cpu()
        for name in Examples._fields[2:]:
            values[name] = getattr(examples, name).cpu()
        self._file.write(start, values)
        self._count = max(self._count, start + len(values))

    def at(self, rows: torch.Tensor) -> Examples:
        """Some of them, by their numbers."""
        return _examples(self._file.read(rows.numpy()))

    def parts(self, device: torch.device) -> Iterator[tuple[int, Examples]]:
        """All of them, part by part: the number of the first, and the mouths on a device."""
        for start in range(0, self._count, _AT_ONCE):
            values = self._file.read_from(start, min(_AT_ONCE, self._count - start))
            yield start, _examples(values).to(device)


def _examples(values: NDArray[np.void]) -> Examples:
    part = {name: torch.from_numpy(np.ascontiguousarray(values[name])) for name in values.dtype.names or ()}
    t1, t2 = (PosedTeeth(part["points"], part[f"{s}_rotation"], part[f"{s}_middle"]) for s in ("t1", "t2"))
    return Examples(t1, t2, *(part[name] for name in Examples._fields[2:]))

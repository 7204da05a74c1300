"""The per-shard manifest: poses of every tooth, and the hash of its mesh, on which the shard depends."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dentalign.cases.left_out import LeftOut, from_list, to_list
from dentalign.errors import DentalignError
from dentalign.files import atomic
from dentalign.geometry.rigid import Array

FORMAT_VERSION = 2


@dataclass(frozen=True)
class ToothEntry:
    """A tooth that is used.

    slot        : 0..31
    fdi         : number as in the files (55 in the slot of 15)
    mesh        : name of its mesh, `<case_id>/<FDI>.stl`
    mesh_sha256 : of the mesh when the manifest was made, without its free text (`stl.mesh_sha256`)
    t1, t2      : (4, 4) float64, tooth-local (buccal +y) -> head, mm; t2 is None for an extraction
    """

    slot: int
    fdi: int
    mesh: str
    mesh_sha256: str
    t1: Array
    t2: Array | None


@dataclass(frozen=True)
class DroppedTooth:
    """A tooth that stands in a slot and cannot be used, which is not the same as an empty slot."""

    slot: int
    fdi: int


@dataclass(frozen=True)
class CaseEntry:
    """A case, its split, its teeth in the order of the slots, and the teeth dropped.

    teeth_at_t1 : how many teeth its document has at T1, those dropped and those without a slot included
    """

    case_id: str
    split: str
    teeth: tuple[ToothEntry, ...]
    dropped: tuple[DroppedTooth, ...]
    teeth_at_t1: int


@dataclass(frozen=True)
class Manifest:
    """The cases of a shard, sorted by id, and what was left out of those that belong to it.

    listed : how many rows of the case list belong to the shard
    """

    shard: str
    cases: tuple[CaseEntry, ...]
    left_out: tuple[LeftOut, ...]
    listed: int

    def save(self, path: str | Path) -> None:
        """Write it; the same content gives the same bytes."""
        document = {
            "format_version": FORMAT_VERSION,
            "shard": self.shard,
            "listed": self.listed,
            "cases": [_case_as_json(case) for case in sorted(self.cases, key=lambda case: case.case_id)],
            "left_out": to_list(self.left_out),
        }
        document["sha256"] = _sha256(document)
        atomic.write_text(path, json.dumps(document, allow_nan=False, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Manifest":
        """Read one; raises DentalignError if the file is none of this format, or damaged."""
        try:
            document = json.loads(Path(path).read_bytes())
            if document["format_version"] != FORMAT_VERSION:
                raise DentalignError(
                    f"{path}: manifest of format {document['format_version']}, not {FORMAT_VERSION}"
                )
            if document.pop("sha256") != _sha256(document):
                raise ValueError("damaged")
            cases = tuple(_case_from_json(case) for case in document["cases"])
            left_out = tuple(from_list(document["left_out"]))
            return cls(str(document["shard"]), cases, left_out, int(document["listed"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = type(error).__name__
            raise DentalignError(
                f"{path}: no manifest of rigid_transforms ({reason}); run that stage again"
            ) from error


def path_of(directory: str | Path, shard: str) -> Path:
    """Where the manifest of a shard lies in the output folder of rigid_transforms."""
    return Path(directory) / f"{shard}.json"


def _sha256(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _case_as_json(case: CaseEntry) -> dict[str, Any]:
    return {
        "case_id": case.case_id,
        "split": case.split,
        "teeth_at_t1": case.teeth_at_t1,
        "teeth": [
            {
                "slot": tooth.slot,
                "fdi": tooth.fdi,
                "mesh": tooth.mesh,
                "mesh_sha256": tooth.mesh_sha256,
                "t1": tooth.t1.tolist(),
                "t2": None if tooth.t2 is None else tooth.t2.tolist(),
            }
            for tooth in sorted(case.teeth, key=lambda tooth: tooth.slot)
        ],
        "dropped": [{"slot": tooth.slot, "fdi": tooth.fdi} for tooth in _by_slot(case.dropped)],
    }


def _case_from_json(case: dict[str, Any]) -> CaseEntry:
    teeth = tuple(
        ToothEntry(
            slot=int(tooth["slot"]),
            fdi=int(tooth["fdi"]),
            mesh=str(tooth["mesh"]),
            mesh_sha256=str(tooth["mesh_sha256"]),
            t1=_pose(tooth["t1"]),
            t2=None if tooth["t2"] is None else _pose(tooth["t2"]),
        )
        for tooth in case["teeth"]
    )
    dropped = tuple(DroppedTooth(int(tooth["slot"]), int(tooth["fdi"])) for tooth in case["dropped"])
    return CaseEntry(str(case["case_id"]), str(case["split"]), teeth, dropped, int(case["teeth_at_t1"]))


def _pose(rows: Any) -> Array:
    pose = np.array(rows, dtype=np.float64)
    if pose.shape != (4, 4):
        raise ValueError("a pose is 4 x 4")
    return pose


def _by_slot(teeth: Iterable[DroppedTooth]) -> list[DroppedTooth]:
    return sorted(teeth, key=lambda tooth: (tooth.slot, tooth.fdi))

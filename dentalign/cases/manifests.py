"""Manifest of a shard: poses of every tooth, and the hash of its mesh, so that DVC sees changed meshes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dentalign.cases.left_out import LeftOut, from_list, to_list
from dentalign.errors import DentalignError
from dentalign.files import atomic
from dentalign.files.hashing import sha256
from dentalign.mouth import EXPORTED_NAMES, T1, T2, Mouth
from dentalign.teeth import SLOT_COUNT

FORMAT_VERSION = 3
_BEFORE_SHA256 = ', "sha256": '  # of the text without this last key


@dataclass(frozen=True)
class ManifestCase:
    """Usable case of a manifest.

    mouth       : poses in our frames, without points
    mesh_sha256 : slot -> SHA-256 of the mesh file without its free text (`mesh_file.mesh_sha256`)
    teeth_at_t1 : number of teeth in its document at T1, dropped teeth and teeth without a slot included
    """

    mouth: Mouth
    mesh_sha256: Mapping[int, str]
    teeth_at_t1: int


@dataclass(frozen=True)
class Manifest:
    """Usable cases of a shard, and what was left out of the shard.

    cases    : sorted by id
    left_out : lines of cases and unusable rows that belong to the shard
    listed   : number of rows of the case list that belong to the shard
    keep     : `fetch.keep`, the kinds of points that the mouths may have from their export
    """

    shard: str
    cases: tuple[ManifestCase, ...]
    left_out: tuple[LeftOut, ...]
    listed: int
    keep: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the manifest; the same content gives the same bytes."""
        document = {
            "format_version": FORMAT_VERSION,
            "shard": self.shard,
            "listed": self.listed,
            **({"keep": self.keep} if self.keep else {}),
            "cases": [_as_json(case) for case in sorted(self.cases, key=lambda case: case.mouth.case_id)],
            "left_out": to_list(self.left_out),
        }
        text = json.dumps(document, allow_nan=False)
        atomic.write_text(path, f'{text[:-1]}{_BEFORE_SHA256}"{sha256(text)}"}}\n')

    @classmethod
    def load(cls, path: str | Path) -> "Manifest":
        """Read a manifest; raises DentalignError if the file is damaged, or not a manifest of this format."""
        try:
            text = Path(path).read_text(encoding="utf-8")
            document = json.loads(text)
            if document["format_version"] != FORMAT_VERSION:
                raise DentalignError(
                    f"{path}: manifest of format {document['format_version']}, not {FORMAT_VERSION}; run "
                    "rigid_transforms again"
                )
            if document["sha256"] != sha256(text.rpartition(_BEFORE_SHA256)[0] + "}"):
                raise ValueError("damaged")
            cases = tuple(_from_json(case) for case in document["cases"])
            left_out = tuple(from_list(document["left_out"]))
            keep = tuple(document.get("keep", ()))
            return cls(str(document["shard"]), cases, left_out, int(document["listed"]), keep)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = type(error).__name__
            raise DentalignError(
                f"{path}: not a manifest of rigid_transforms ({reason}); run that stage again"
            ) from error


def path_of(directory: str | Path, shard: str) -> Path:
    """Path of a shard's manifest in the output folder of rigid_transforms."""
    return Path(directory) / f"{shard}.json"


def _as_json(case: ManifestCase) -> dict[str, Any]:
    mouth = case.mouth
    teeth = [
        {
            "slot": slot,
            "fdi": int(mouth.fdi[slot]),
            "dropped": bool(mouth.dropped[slot]),
            "mesh_sha256": case.mesh_sha256.get(slot),
            "t1": mouth.pose[T1, slot].tolist() if mouth.present[T1, slot] else None,
            "t2": mouth.pose[T2, slot].tolist() if mouth.present[T2, slot] else None,
            **_exported(mouth, slot),
        }
        for slot in range(SLOT_COUNT)
        if mouth.present[:, slot].any() or mouth.dropped[slot]
    ]
    return {
        "case_id": mouth.case_id,
        "split": mouth.split,
        **({"planner": mouth.planner} if mouth.planner else {}),
        "teeth_at_t1": case.teeth_at_t1,
        "teeth": teeth,
    }


def _exported(mouth: Mouth, slot: int) -> dict[str, Any]:
    """Points and width, mm, that the export gives of a tooth; {} without any."""
    points = zip(EXPORTED_NAMES, mouth.exported_landmarks[slot].tolist(), strict=True)
    found = {name: point for name, point in points if np.isfinite(point).all()}
    width = float(mouth.bolton_mm[slot])
    kept: dict[str, Any] = {"exported": found} if found else {}
    return kept | ({"bolton_mm": width} if np.isfinite(width) else {})


def _from_json(case: dict[str, Any]) -> ManifestCase:
    mouth = Mouth.empty(case_id=str(case["case_id"]), split=str(case["split"]))
    mouth = replace(mouth, planner=str(case.get("planner", "")))
    hashes = {}
    for tooth in case["teeth"]:
        slot = int(tooth["slot"])
        mouth.fdi[slot], mouth.dropped[slot] = int(tooth["fdi"]), bool(tooth["dropped"])
        for stage, name in ((T1, "t1"), (T2, "t2")):
            if tooth[name] is not None:
                mouth.present[stage, slot], mouth.pose[stage, slot] = True, np.array(tooth[name])
        if tooth["mesh_sha256"] is not None:
            hashes[slot] = str(tooth["mesh_sha256"])
        for name, point in tooth.get("exported", {}).items():
            mouth.exported_landmarks[slot, EXPORTED_NAMES.index(name)] = point
        mouth.bolton_mm[slot] = tooth.get("bolton_mm", np.nan)
    return ManifestCase(mouth, hashes, int(case["teeth_at_t1"]))

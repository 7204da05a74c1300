"""A case document with predicted stages, in the spelling in which the case came."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from dentalign.cases import case_document
from dentalign.cases.case_document import CaseDocument
from dentalign.cases.stage_poses import jaw_pose
from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.teeth import is_upper

_SPELLINGS = ("ToothTransforms", "RelativeToothTransformsHead", "RelativeToothTransforms")
_JAWS = ("MandibularTransform", "MaxillaryTransform")


def with_stages(document: CaseDocument, stages: Sequence[Mapping[int, Array]]) -> dict[str, Any]:
    """The document with T1 and the given stages behind it; the last of them is T2.

    Other stages of the document are left away: they lead to another T2. Jaw poses stay those of T1.

    document : allow-listed fields, as read
    stages   : FDI number -> (4, 4), tooth-local (frame of the file) -> head, mm; in their order
    returns  : plain JSON values, allow-listed fields only
    """
    plain = case_document.as_json(document)
    first = plain["Staging"][0]
    spelling = next(name for name in _SPELLINGS if name in first)
    to_jaw: dict[bool, Array] = {}
    if spelling == _SPELLINGS[2]:  # in the others a jaw's pose may be anything
        for upper in {is_upper(fdi) for poses in stages for fdi in poses}:
            to_jaw[upper] = rigid.inverse(jaw_pose(document, document.staging[0], upper))
    number = first.get("Stage", 0)
    first["Stage"] = number if isinstance(number, int) else 0
    staging = [first]
    for poses in stages:
        stage: dict[str, Any] = {"Stage": first["Stage"] + len(staging)}
        stage |= {name: first[name] for name in _JAWS if name in first}
        stage[spelling] = {
            str(fdi): _as_json(to_jaw[is_upper(fdi)] @ pose if to_jaw else pose)
            for fdi, pose in sorted(poses.items())
        }
        staging.append(stage)
    return {**plain, "T2Stage": str(len(staging) - 1), "Staging": staging}


def _as_json(pose: Array) -> dict[str, dict[str, float]]:
    xyzw = Rotation.from_matrix(pose[:3, :3]).as_quat(canonical=True)
    return {
        "translation": _rounded("xyz", pose[:3, 3]),
        "rotation": _rounded("xyzw", xyzw),
    }


def _rounded(names: str, values: Array) -> dict[str, float]:
    """A nanometre, or a rotation of as little, is beyond any scanner."""
    return {name: float(value) for name, value in zip(names, np.round(values, 9) + 0.0, strict=True)}

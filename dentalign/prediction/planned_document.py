"""Case document with predicted stages, in the spelling in which the case came."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from dentalign.cases.case_document import CaseDocument, Pose
from dentalign.cases.poses import jaw_pose
from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.teeth import is_upper

_SPELLINGS = ("teeth", "teeth_head", "teeth_jaw")  # fields of case_document.Stage


def with_stages(document: CaseDocument, stages: Sequence[Mapping[int, Array]]) -> CaseDocument:
    """Replace the stages of a document by T1 and the given ones; the last of them is T2.

    Other stages of the document are left away: they lead to another T2. Jaw poses stay those of T1.

    document : as read; T1 has tooth poses in one spelling
    stages   : FDI number -> (4, 4), tooth-local (frame of the file) -> head, mm; in their order
    """
    first = document.staging[0]
    spelling = next(name for name in _SPELLINGS if getattr(first, name))
    to_jaw: dict[bool, Array] = {}
    if spelling == "teeth_jaw":  # in the others a jaw's pose may be anything
        for upper in {is_upper(fdi) for poses in stages for fdi in poses}:
            to_jaw[upper] = rigid.inverse(jaw_pose(document, first, upper))
    number = first.stage if first.stage is not None and first.stage.is_integer() else 0.0
    staging = [first.model_copy(update={"stage": number})]
    for poses in stages:
        teeth = {
            str(fdi): as_pose(to_jaw[is_upper(fdi)] @ pose if to_jaw else pose)
            for fdi, pose in sorted(poses.items())
        }
        staging.append(first.model_copy(update={"stage": number + len(staging), spelling: teeth}))
    # Some planning systems name the last stage by the number of stages, and count like that when they read.
    counts = document.t2_stage == len(document.staging)
    t2_stage = float(len(staging) if counts else len(staging) - 1)
    return document.model_copy(update={"t2_stage": t2_stage, "staging": staging})


def as_pose(pose: Array) -> Pose:
    """Spell a pose (4, 4), mm, as documents do; rounded: a nanometre is beyond any scanner."""
    xyzw = Rotation.from_matrix(pose[:3, :3]).as_quat(canonical=True)
    return Pose.model_validate(
        {"translation": _rounded("xyz", pose[:3, 3]), "rotation": _rounded("xyzw", xyzw)}
    )


def _rounded(names: str, values: Array) -> dict[str, float]:
    return dict(zip(names, (np.round(values, 9) + 0.0).tolist(), strict=True))

"""Case document with predicted treatment stages.

Their tooth poses are in the same field as in the input: ToothTransforms, RelativeToothTransformsHead or
RelativeToothTransforms.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from dentalign.cases.case_document import CaseDocument, Pose
from dentalign.cases.poses import jaw_pose
from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.teeth import is_upper

_POSE_FIELDS = ("teeth", "teeth_head", "teeth_jaw")  # of case_document.Stage


def with_stages(document: CaseDocument, stages: Sequence[Mapping[int, Array]]) -> CaseDocument:
    """Replace the treatment stages after T1 by new ones, of which the last is T2.

    The other treatment stages of the document are removed, as they lead to another T2. All stages have the
    jaw poses of T1.

    document : as read; T1 has tooth poses in one field only
    stages   : poses at each new stage, in order: FDI -> (4, 4), tooth-local axes of the file -> head, mm
    """
    first = document.staging[0]
    field = next(name for name in _POSE_FIELDS if getattr(first, name))
    to_jaw: dict[bool, Array] = {}
    if field == "teeth_jaw":  # with the other fields a jaw's pose is not used
        for upper in {is_upper(fdi) for poses in stages for fdi in poses}:
            to_jaw[upper] = rigid.inverse(jaw_pose(document, first, upper))
    number = first.stage if first.stage is not None and first.stage.is_integer() else 0.0
    staging = [first.model_copy(update={"stage": number})]
    first = first.model_copy(update={"landmarks": None})  # they stand at T1 only
    for poses in stages:
        teeth = {
            str(fdi): as_pose(to_jaw[is_upper(fdi)] @ pose if to_jaw else pose)
            for fdi, pose in sorted(poses.items())
        }
        staging.append(first.model_copy(update={"stage": number + len(staging), field: teeth}))
    # In the files of some planning systems T2Stage is the number of stages, not the index of the last one.
    counts = document.t2_stage == len(document.staging)
    t2_stage = float(len(staging) if counts else len(staging) - 1)
    return document.model_copy(update={"t2_stage": t2_stage, "staging": staging})


def as_pose(pose: Array) -> Pose:
    """Convert a pose (4, 4), mm, to the translation and quaternion of a document, rounded to 9 decimals."""
    xyzw = Rotation.from_matrix(pose[:3, :3]).as_quat(canonical=True)
    return Pose.model_validate(
        {"translation": _rounded("xyz", pose[:3, 3]), "rotation": _rounded("xyzw", xyzw)}
    )


def _rounded(names: str, values: Array) -> dict[str, float]:
    return dict(zip(names, (np.round(values, 9) + 0.0).tolist(), strict=True))

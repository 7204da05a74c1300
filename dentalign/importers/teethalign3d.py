"""Importer of TeethAlign3D (ICCV 2025): crowns at T1 in one frame, and a matrix T1 -> T2 per tooth.

    data_001/crown/up/1.stl .. 16.stl    data_001/crown/down/17.stl .. 32.stl    data_001/target_matrix.txt

Teeth have Universal numbers. Two conventions of the set are found from the data of several cases: the
patient's side on which number 1 is, and the point that a matrix rotates about (`matrix_reading`). A case that
clearly contradicts them is left out. A missing tooth may have a row without a matrix, or an empty mesh.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from trimesh import Trimesh

from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry.rigid import Array
from dentalign.importers import crown_cutting, matrix_reading
from dentalign.importers.base import FoundCase, ImportedCase, Importer
from dentalign.importers.frames import ScannedMouth
from dentalign.importers.matrix_reading import OriginScores
from dentalign.importers.source_folder import AGAIN, MAX_TABLE_MB, SourceFolder
from dentalign.numbering import from_universal
from dentalign.running.progress import track
from dentalign.teeth import antimere

CASE = re.compile(r"data_(\d+)")
FOLDERS = {"up": range(1, 17), "down": range(17, 33)}
MATRICES = "target_matrix.txt"
SIDE, ORIGIN = "number 1 is the third molar on the patient's", "matrices rotate about"
UNCLEAR = "unclear"
OTHER_SIDE = {"right": "left", "left": "right", "": ""}
AS_PUBLISHED = "nothing: the data set has it so"
VOTES = 24  # cases at most from which the conventions are found
SURE_SHARE = 0.75  # of the cases that show a convention must show the same one
RIGID = 1e-3  # deviation of a rotation from orthonormal, beyond rounding in any file


class TeethAlign3D(Importer):
    """Importer of crowns with a matrix for each.

    matrices : point that the matrices rotate about, a key of `matrix_reading.ORIGINS`; "" to find it from the
               data
    """

    name = "teethalign3d"
    missing = "no folder with crown/ and target_matrix.txt; unpack the archive and name its folder"

    def __init__(self, matrices: str = ""):
        self._given = matrices
        self._decided: dict[str, str] = {}

    def find(self, source: SourceFolder) -> list[FoundCase]:
        """Find the folders data_NNN, usable or not, and all other folders with crowns or matrices."""
        inside = [name for part in (MATRICES, "crown") for name in source.find(f"*/**/{part}")]
        folders = {name.rpartition("/")[0] for name in inside}
        folders |= {name for name in source.find("**/data_*") if CASE.fullmatch(name.rpartition("/")[2])}
        found = []
        for name in folders:
            files = [f"{name}/crown/{jaw}/{number}.stl" for jaw in FOLDERS for number in FOLDERS[jaw]]
            case_id = f"teethalign3d-{name.rpartition('/')[2].removeprefix('data_')}"
            found.append(FoundCase(case_id, case_id, name, (f"{name}/{MATRICES}", *files)))
        return sorted(found, key=lambda case: (case.case_id, case.place))

    def prepare(self, source: SourceFolder, found: list[FoundCase]) -> dict[str, str]:
        """Find the side of number 1 and the origin of the matrices from 24 cases at most, evenly spread."""
        voters = found[:: max(1, math.ceil(len(found) / VOTES))]
        votes: dict[str, list[str]] = {SIDE: [], ORIGIN: [self._given] if self._given else []}
        for case in track(voters, "conventions", total=len(voters)):
            try:
                mouth, matrices = _read_files(source, case, from_universal)
                votes[SIDE].append(_side(mouth, ""))
                if not self._given:
                    votes[ORIGIN].append(matrix_reading.score(matrices, mouth.crowns).best)
            except CaseDefect:
                continue  # `read` lists the case with the reason
        self._decided = {name: _decided(values) for name, values in votes.items()}
        return dict(self._decided)

    def read(self, source: SourceFolder, case: FoundCase) -> ImportedCase:
        """Read a case; raises CaseDefect if a file is damaged, or the case contradicts the set."""
        file = source.location(case.place)
        from_left = self._decided[SIDE] == "left"
        to_fdi = (lambda number: antimere(from_universal(number))) if from_left else from_universal
        mouth, matrices = _read_files(source, case, to_fdi)
        side = _side(mouth, file)
        side = OTHER_SIDE[side] if from_left else side
        self._refuse_other_side(side, file)
        scores = matrix_reading.score(matrices, mouth.crowns)
        motions = matrix_reading.motions(self._origin(scores, file), matrices, mouth.crowns)
        frame = mouth.frame(file)
        poses = mouth.tooth_poses(frame)
        return ImportedCase(
            crowns=mouth.local_crowns(poses),
            t1={fdi: frame.to_head @ pose for fdi, pose in poses.items()},
            t2={fdi: frame.to_head @ motions[fdi] @ pose for fdi, pose in poses.items()},
            lost=mouth.lost,
            notes={
                "side of number 1 by this case": side or UNCLEAR,
                "origin of the matrices by this case": scores.best or UNCLEAR,
                "crowns open at the gum": "yes" if mouth.axes else "no",
            },
            figures={
                f"gap and overlap of neighbours at T2, rotated about the {name} (mm)": value
                for name, value in scores.misfit_mm.items()
            },
        )

    def _refuse_other_side(self, side: str, file: str) -> None:
        """Raise CaseDefect if the side of the set is unclear, or the case contradicts it."""
        decided = self._decided[SIDE]
        if decided == UNCLEAR:
            seen = "no case of the set shows whether number 1 is on the patient's right or left"
            fix = "import it together with cases that have both arches"
            raise CaseDefect("sides_unclear", seen, fix, file=file)
        if side and side != decided:
            seen = f"number 1 is on the patient's {side} in this case, and on the {decided} in the set"
            raise CaseDefect("sides_differ", seen, "leave it out, or import it alone", file=file)

    def _origin(self, scores: OriginScores, file: str) -> str:
        """Origin of the set, if the case allows it; raises CaseDefect."""
        origin = self._decided[ORIGIN]
        figures = ", ".join(f"{name} {value:.2f} mm" for name, value in scores.misfit_mm.items())
        figures = f"gap and overlap of neighbours at T2: {figures}"
        if origin == UNCLEAR and scores.alike:
            return "origin"  # either is the same here
        if origin == UNCLEAR:
            seen = f"both origins of the matrices are plausible ({figures})"
            fix = "import it with cases of larger rotations, or name the origin with --matrices"
            raise CaseDefect("matrix_ambiguous", seen, fix, file=file)
        if not self._given and scores.best not in ("", origin):
            seen = f"the origin of the set's matrices, {origin}, is not plausible for this case ({figures})"
            raise CaseDefect("matrix_differs", seen, "leave it out, or import it alone", file=file)
        return origin


def _read_files(
    source: SourceFolder, case: FoundCase, to_fdi: Callable[[int], int]
) -> tuple[ScannedMouth, dict[int, Array]]:
    """Crowns at T1 and matrices, by FDI number, of the teeth that have both."""
    name, *meshes = case.files
    rows, lost = parse_matrices(source.read(name, MAX_TABLE_MB), source.location(name))
    crowns, matrices = {}, {}
    for number, mesh in enumerate(meshes, 1):
        fdi, there = to_fdi(number), source.has(mesh)
        crown = _crown(source, mesh, fdi) if there or rows.get(number) is not None else None
        matrix = rows.get(number)
        if crown is not None and matrix is not None:
            crowns[fdi], matrices[fdi] = crown, matrix
        elif crown is not None and number not in rows:
            seen = f"tooth {number} has a mesh and no row in {MATRICES}, which may be truncated"
            raise source.defect("no_matrix", name, seen, number)
        elif crown is not None:
            seen = f"the row of tooth {number} has no matrix"
            lost.append(ToothDefect("no_matrix", seen, AS_PUBLISHED, file=source.location(name), tooth=fdi))
        elif there or number in rows:
            seen = (
                f"tooth {number} has an empty mesh" if there else f"the row of tooth {number} has no matrix"
            )
            file = source.location(mesh if there else name)
            lost.append(ToothDefect("no_tooth", seen, "nothing: the tooth is missing", file=file, tooth=fdi))
    if not crowns:
        raise source.defect("damaged_matrices", name, "no tooth has both a mesh and a matrix")
    return ScannedMouth(crowns, tuple(lost)), matrices


def _crown(source: SourceFolder, mesh: str, fdi: int) -> Trimesh | None:
    """Read a crown; None if the file has no triangle, as the set has it for a missing tooth."""
    try:
        return crown_cutting.surface(source.triangles(mesh, fdi))
    except CaseDefect as defect:
        if defect.code == "empty_file":
            return None
        raise


def parse_matrices(data: bytes, file: str) -> tuple[dict[int, Array | None], list[ToothDefect]]:
    """Parse the table of matrices.

    data    : bytes of target_matrix.txt
    file    : its path, for defects
    returns : Universal number -> (4, 4) as in the file, with the translation in the last row, or None for a
              row without a matrix; defects of rows whose number is no Universal number
    raises  : CaseDefect if a row is damaged, or no row has a matrix
    """

    def defect(line: int, seen: str) -> CaseDefect:
        return CaseDefect("damaged_matrices", f"line {line}: {seen}", AGAIN, file=file)

    rows: dict[int, Array | None] = {}
    others = []
    for line, text in enumerate(data.decode("utf-8-sig", errors="replace").splitlines(), 1):
        words = text.replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            raise defect(line, "a word that is no number") from None
        if len(values) not in (1, 17) or not np.isfinite(values).all():
            raise defect(line, f"{len(values)} numbers; a tooth number and 16 finite numbers are needed")
        if not values[0].is_integer():
            raise defect(line, "the tooth number is no whole number")
        number = int(values[0])
        if not 1 <= number <= 32:
            seen = f"line {line}: {number} is no Universal number from 1 to 32"
            name = f"number {number}"  # not to be taken for an FDI number
            others.append(ToothDefect("unknown_tooth", seen, AS_PUBLISHED, file=file, tooth=name))
            continue
        if number in rows:
            raise defect(line, f"a second row of tooth {number}")
        rows[number] = None
        if len(values) == 17:
            matrix = values[1:].reshape(4, 4)
            rotation = matrix[:3, :3]
            if np.abs(matrix[:, 3] - [0, 0, 0, 1]).max() > RIGID:
                raise defect(line, f"tooth {number}: the fourth column is not 0 0 0 1")
            if np.abs(rotation @ rotation.T - np.eye(3)).max() > RIGID or np.linalg.det(rotation) < 0:
                raise defect(line, f"tooth {number}: no rotation, but a reflection, a scale or a shear")
            u, _, vt = np.linalg.svd(rotation)
            matrix[:3, :3] = u @ vt  # exactly a rotation again, after the rounding of the file
            rows[number] = matrix
    if all(matrix is None for matrix in rows.values()):
        raise CaseDefect("damaged_matrices", "the file has no matrix", AGAIN, file=file)
    return rows, others


def _side(mouth: ScannedMouth, file: str) -> str:
    """Side of number 1: "right" as in the notation, "left", or "" if unclear."""
    return {1: "right", -1: "left", 0: ""}[mouth.frame(file).sides]


def _decided(votes: Iterable[str]) -> str:
    """Value that nearly all votes have, empty ones not counted, or UNCLEAR."""
    counts = Counter(vote for vote in votes if vote)
    for value, count in counts.most_common(1):
        if count >= SURE_SHARE * counts.total():
            return value
    return UNCLEAR

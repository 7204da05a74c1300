"""TeethAlign3D (ICCV 2025): crowns at T1 in one frame, Universal numbers, and a matrix T1 -> T2 per tooth.

    data_001/crown/up/1.stl .. 16.stl    data_001/crown/down/17.stl .. 32.stl    data_001/target_matrix.txt

Two things about it are decided from the data, for the whole set at once, because a set has one convention:
the patient's side of number 1, and the meaning of a matrix (`matrix_reading`). A case that clearly
contradicts the set is left out.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from dentalign.errors import CaseDefect
from dentalign.geometry.rigid import Array
from dentalign.importers import crown_cutting, matrix_reading
from dentalign.importers.base import FoundCase, ImportedCase, Importer
from dentalign.importers.frames import ScannedMouth
from dentalign.importers.matrix_reading import ReadingScores
from dentalign.importers.source_folder import AGAIN, MAX_TABLE_MB, SourceFolder
from dentalign.numbering import from_universal
from dentalign.running.progress import track
from dentalign.teeth import antimere

CASE = re.compile(r"data_(\d+)")
FOLDERS = {"up": range(1, 17), "down": range(17, 33)}
MATRICES = "target_matrix.txt"
SIDE, READING = "number 1 is the third molar on the patient's", "matrices"
UNCLEAR = "unclear"
VOTES = 24  # cases that decide for the set
SURE_SHARE = 0.75  # of the votes that tell; cases that contradict are left out
RIGID = 1e-3  # deviation of a rotation from orthonormal, beyond rounding in any file


class TeethAlign3D(Importer):
    """Crowns with a matrix each; `matrices` is one of `matrix_reading.READINGS`, or "": the data decide."""

    name = "teethalign3d"
    missing = "no folder data_NNN with crown/ and target_matrix.txt; unpack the archive and name its folder"

    def __init__(self, matrices: str = ""):
        self._given = matrices
        self._decided: dict[str, str] = {}

    def find(self, source: SourceFolder) -> list[FoundCase]:
        """Find every folder data_NNN, usable or not."""
        found = []
        for name in source.find("**/data_*"):
            if match := CASE.fullmatch(name.rpartition("/")[2]):
                files = [f"{name}/crown/{jaw}/{number}.stl" for jaw in FOLDERS for number in FOLDERS[jaw]]
                case_id = f"teethalign3d-{match[1]}"
                found.append(FoundCase(case_id, case_id, name, (f"{name}/{MATRICES}", *files)))
        return sorted(found, key=lambda case: (case.case_id, case.place))

    def prepare(self, source: SourceFolder, found: list[FoundCase]) -> dict[str, str]:
        """Let evenly spread cases decide the side of number 1 and the reading of the matrices."""
        voters = found[:: max(1, math.ceil(len(found) / VOTES))]
        votes: dict[str, list[str]] = {SIDE: [], READING: [self._given] if self._given else []}
        for case in track(voters, "conventions", total=len(voters)):
            try:
                mouth, matrices = _read_files(source, case)
                votes[SIDE].append(_side(mouth, ""))
                if not self._given:
                    votes[READING].append(matrix_reading.score(matrices, mouth.crowns).best)
            except CaseDefect:
                continue  # `read` tells why
        self._decided = {name: _decided(values) for name, values in votes.items()}
        return dict(self._decided)

    def read(self, source: SourceFolder, case: FoundCase) -> ImportedCase:
        """Read the case in our frames; raises CaseDefect if a file is bad, or it contradicts the set."""
        file = source.location(case.place)
        mouth, matrices = _read_files(source, case)
        side = _side(mouth, file)
        self._refuse_other_side(side, file)
        if self._decided[SIDE] == "left":
            mouth = ScannedMouth({antimere(fdi): crown for fdi, crown in mouth.crowns.items()})
            matrices = {antimere(fdi): matrix for fdi, matrix in matrices.items()}
        scores = matrix_reading.score(matrices, mouth.crowns)
        motions = matrix_reading.motions(self._reading(scores, file), matrices, mouth.crowns)
        frame = mouth.frame(file)
        poses = mouth.tooth_poses(frame)
        return ImportedCase(
            crowns=mouth.local_crowns(poses),
            t1={fdi: frame.to_head @ pose for fdi, pose in poses.items()},
            t2={fdi: frame.to_head @ motions[fdi] @ pose for fdi, pose in poses.items()},
            notes={
                "the side of number 1, by this case alone": side or "not told",
                "the matrices, by this case alone": scores.best or "not told",
                "crowns open at the gum": "yes" if mouth.axes else "no",
            },
            figures={
                f"gap and overlap of neighbours at T2, read as {name} (mm)": value
                for name, value in scores.misfit_mm.items()
            },
        )

    def _refuse_other_side(self, side: str, file: str) -> None:
        """Raise CaseDefect if the side of the set is unclear, or the case contradicts it."""
        decided = self._decided[SIDE]
        if decided == UNCLEAR:
            seen = "nothing in the set says whether number 1 is on the patient's right or left"
            fix = "import it together with cases that have both arches"
            raise CaseDefect("sides_unclear", seen, fix, file=file)
        if side and side != decided:
            seen = f"by its coordinates number 1 is on the patient's {side}, in the set on the {decided}"
            raise CaseDefect("sides_differ", seen, "leave it out, or import it alone", file=file)

    def _reading(self, scores: ReadingScores, file: str) -> str:
        """Reading of the set, if the case allows it; raises CaseDefect."""
        reading = self._decided[READING]
        figures = ", ".join(f"{name} {value:.2f} mm" for name, value in scores.misfit_mm.items())
        if reading == UNCLEAR and scores.alike:
            return "rows"  # any reading is the same here
        if reading == UNCLEAR:
            seen = f"two readings of the matrices give a plausible arch: {figures}"
            fix = "import it together with cases of larger rotations, or say --matrices if you know"
            raise CaseDefect("matrix_ambiguous", seen, fix, file=file)
        if not self._given and scores.best not in ("", reading):
            seen = f"read as {reading}, as in the set, the arch at T2 is not plausible: {figures}"
            raise CaseDefect("matrix_differs", seen, "leave it out, or import it alone", file=file)
        return reading


def _read_files(source: SourceFolder, case: FoundCase) -> tuple[ScannedMouth, dict[int, Array]]:
    """Crowns at T1 and matrices by FDI number; number 1 is the patient's right, as in the notation."""
    name = f"{case.place}/{MATRICES}"
    rows = parse_matrices(source.read(name, MAX_TABLE_MB), source.location(name))
    crowns = {}
    for jaw, numbers in FOLDERS.items():
        for number in numbers:
            mesh = f"{case.place}/crown/{jaw}/{number}.stl"
            if number in rows:
                fdi = from_universal(number)
                crowns[fdi] = crown_cutting.surface(source.triangles(mesh, fdi))
            elif source.has(mesh):
                seen = f"tooth {number} has a mesh and no row in {MATRICES}, which may be truncated"
                raise source.defect("no_matrix", name, seen, number)
    return ScannedMouth(crowns), {from_universal(number): matrix for number, matrix in rows.items()}


def parse_matrices(data: bytes, file: str) -> dict[int, Array]:
    """Parse the table of matrices: Universal number -> (4, 4) as written, translation in the last row."""

    def defect(line: int, seen: str) -> CaseDefect:
        return CaseDefect("damaged_matrices", f"line {line}: {seen}", AGAIN, file=file)

    rows: dict[int, Array] = {}
    for line, text in enumerate(data.decode("utf-8-sig", errors="replace").splitlines(), 1):
        words = text.replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            raise defect(line, "something that is no number") from None
        if len(values) != 17 or not np.isfinite(values).all():
            raise defect(line, f"{len(values)} numbers; a tooth number and 16 finite numbers are wanted")
        number, matrix = values[0], values[1:].reshape(4, 4)
        if not number.is_integer() or not 1 <= number <= 32:
            raise defect(line, "no tooth number from 1 to 32")
        if int(number) in rows:
            raise defect(line, f"tooth {int(number)} stands there twice")
        if np.abs(matrix[:, 3] - [0, 0, 0, 1]).max() > RIGID:
            raise defect(line, f"tooth {int(number)}: the fourth column is not 0 0 0 1")
        rotation = matrix[:3, :3]
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > RIGID or np.linalg.det(rotation) < 0:
            raise defect(line, f"tooth {int(number)}: no rotation (a reflection, scaled, or sheared)")
        u, _, vt = np.linalg.svd(rotation)
        matrix[:3, :3] = u @ vt  # exactly a rotation again, after the rounding of the file
        rows[int(number)] = matrix
    if not rows:
        raise CaseDefect("damaged_matrices", "the file has no matrix", AGAIN, file=file)
    return rows


def _side(mouth: ScannedMouth, file: str) -> str:
    """Side of number 1: "right" as in the notation, "left", or "" if the case does not tell."""
    return {1: "right", -1: "left", 0: ""}[mouth.frame(file).sides]


def _decided(votes: Iterable[str]) -> str:
    """Value of nearly all votes that tell one, or UNCLEAR."""
    counts = Counter(vote for vote in votes if vote)
    for value, count in counts.most_common(1):
        if count >= SURE_SHARE * counts.total():
            return value
    return UNCLEAR

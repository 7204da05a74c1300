"""TeethAlign3D (ICCV 2025): crowns at T1 in one frame, Universal numbers, and a matrix T1 -> T2 per tooth.

    data_001/crown/up/1.stl .. 16.stl    data_001/crown/down/17.stl .. 32.stl    data_001/target_matrix.txt

Two things about it are decided from the data, for the whole set at once, because a set has one convention:
whether number 1 is the patient's right or left, and how a matrix is meant (`matrix_reading`). A case that
clearly says otherwise than the set is left out.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from dentalign.errors import CaseDefect
from dentalign.geometry import stl
from dentalign.geometry.rigid import Array
from dentalign.importers import matrix_reading, mouth_frame, tooth_frame
from dentalign.importers.imported_case import Found, ImportedCase, Surface
from dentalign.importers.source_folder import AGAIN, MAX_TABLE_MB, SourceFolder
from dentalign.numbering import from_universal
from dentalign.running.progress import track
from dentalign.teeth import antimere

CASE = re.compile(r"data_\d+")
FOLDERS = {"up": range(1, 17), "down": range(17, 33)}
MATRICES = "target_matrix.txt"
SIDE, READING = "number 1 is the third molar on the patient's", "matrices"
UNCLEAR = "unclear"
ASKED = 24  # cases that decide for the set
SURE_SHARE = 0.75  # of those that tell; the others are left out
RIGID = 1e-3  # of a rotation from orthonormal, beyond rounding in any file


class TeethAlign3D:
    """The data set; `matrices` names a reading of `matrix_reading.READINGS`, or "" to let the data decide."""

    name = "teethalign3d"
    shapes_only = False
    missing = "no folder data_NNN with crown/ and target_matrix.txt; unpack the archive and name its folder"

    def __init__(self, matrices: str = ""):
        self._asked_for = matrices
        self._decided: Mapping[str, str] = {}
        self._judged: dict[str, matrix_reading.Judged] = {}

    def find(self, source: SourceFolder) -> list[Found]:
        """Every folder data_NNN, broken or not."""
        found = []
        for name, _, _ in source.folders():
            last = name.rpartition("/")[2]
            if CASE.fullmatch(last):
                files = [f"{name}/crown/{jaw}/{number}.stl" for jaw in FOLDERS for number in FOLDERS[jaw]]
                case_id = f"teethalign3d-{last.removeprefix('data_')}"
                found.append(Found(case_id, case_id, name, (f"{name}/{MATRICES}", *files)))
        return sorted(found, key=lambda case: (case.case_id, case.place))

    def prepare(self, source: SourceFolder, found: list[Found]) -> dict[str, str]:
        """Ask evenly spread cases for the side of number 1 and the reading of the matrices."""
        step = max(1, math.ceil(len(found) / ASKED))
        sides: list[str] = []
        readings: list[str] = []
        for case in track(found[::step], "conventions", total=len(found[::step])):
            try:
                crowns, matrices = self._files(source, case)
                sides.append(_side(crowns))
                if not self._asked_for:
                    readings.append(self._judge(case, matrices, crowns).best)
            except CaseDefect:
                continue  # `read` says why
        self._decided = {SIDE: _decided(sides), READING: self._asked_for or _decided(readings)}
        return dict(self._decided)

    def read(self, source: SourceFolder, case: Found) -> ImportedCase:
        """The case in our frames; raises CaseDefect where a file is bad, or it contradicts the set."""
        file = source.location(case.place)
        crowns, matrices = self._files(source, case)
        own_side = _side(crowns, file)
        self._agree(own_side, file)
        if self._decided[SIDE] == "left":
            crowns = {antimere(fdi): crown for fdi, crown in crowns.items()}
            matrices = {antimere(fdi): matrix for fdi, matrix in matrices.items()}
        judged = self._judge(case, matrices, crowns)
        reading = self._reading(judged, matrices, crowns, file)
        axes = _axes(crowns)
        mouth = mouth_frame.find_mouth(_centres(crowns), axes, file)
        frames = tooth_frame.tooth_frames(crowns, axes, mouth)
        moved = matrix_reading.motions(reading, matrices, crowns)
        return ImportedCase(
            crowns={fdi: tooth_frame.local(crown, frames[fdi]) for fdi, crown in crowns.items()},
            t1={fdi: mouth.to_head @ frames[fdi] for fdi in crowns},
            t2={fdi: mouth.to_head @ moved[fdi] @ frames[fdi] for fdi in crowns},
            notes={
                "the side of number 1, by this case alone": own_side or "not told",
                "the matrices, by this case alone": judged.best or "not told",
                "crowns open at the gum": "yes" if axes else "no",
            },
            figures={
                f"gap and overlap of neighbours at T2, read as {name} (mm)": value
                for name, value in judged.misfit_mm.items()
            },
        )

    def same_patient(self, source: SourceFolder, case: Found) -> tuple[str, ...]:
        """One case, one patient: nothing published says otherwise."""
        return ()

    def _judge(
        self, case: Found, matrices: Mapping[int, Array], crowns: Mapping[int, Surface]
    ) -> matrix_reading.Judged:
        """Judge a case once; exchanged sides change nothing, as neighbours stay neighbours."""
        if case.place not in self._judged:
            self._judged[case.place] = matrix_reading.judge(matrices, crowns)
        return self._judged[case.place]

    def _agree(self, own_side: str, file: str) -> None:
        side = self._decided[SIDE]
        if side == UNCLEAR:
            seen = "nothing in the set says whether number 1 is on the patient's right or left"
            raise CaseDefect(
                "sides_unclear", seen, "import it together with cases that have both arches", file=file
            )
        if own_side and own_side != side:
            seen = f"by its coordinates number 1 is on the patient's {own_side}, in the set on the {side}"
            raise CaseDefect("sides_differ", seen, "leave it out, or import it alone", file=file)

    def _reading(
        self,
        judged: matrix_reading.Judged,
        matrices: Mapping[int, Array],
        crowns: Mapping[int, Surface],
        file: str,
    ) -> str:
        reading, misfit = self._decided[READING], judged.misfit_mm
        if reading == UNCLEAR:
            if matrix_reading.apart_mm(matrices, crowns) <= matrix_reading.ALIKE_MM:
                return "rows"  # any reading is the same here
            seen = "two readings of the matrices give a plausible arch: " + _figures(misfit)
            mend = "import it together with cases of larger rotations, or say --matrices if you know"
            raise CaseDefect("matrix_ambiguous", seen, mend, file=file)
        if not self._asked_for and judged.best not in ("", reading):
            seen = f"read as {reading}, as in the set, the arch at T2 is not plausible: {_figures(misfit)}"
            raise CaseDefect("matrix_differs", seen, "leave it out, or import it alone", file=file)
        return reading

    def _files(self, source: SourceFolder, case: Found) -> tuple[dict[int, Surface], dict[int, Array]]:
        """Crowns at T1 and matrices by FDI number; number 1 is the patient's right, as in the notation."""
        name = f"{case.place}/{MATRICES}"
        rows = _matrices(source.read(name, MAX_TABLE_MB), source.location(name))
        crowns = {}
        for jaw, numbers in FOLDERS.items():
            for number in numbers:
                mesh = f"{case.place}/crown/{jaw}/{number}.stl"
                if number not in rows:
                    if source.has(mesh):
                        seen = f"tooth {number} has a mesh and no row in {MATRICES}, which may be cut short"
                        raise CaseDefect("no_matrix", seen, AGAIN, file=source.location(name), tooth=number)
                    continue
                fdi = from_universal(number)
                crowns[fdi] = Surface(*stl.merged(source.triangles(mesh, fdi)))
        return crowns, {from_universal(number): matrix for number, matrix in rows.items()}


def _matrices(data: bytes, file: str) -> dict[int, Array]:
    """Universal number -> (4, 4) as written, shift in the last row."""

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
        raise CaseDefect("damaged_matrices", "no row", AGAIN, file=file)
    return rows


def _centres(crowns: Mapping[int, Surface]) -> dict[int, Array]:
    return {fdi: tooth_frame.centroid(crown) for fdi, crown in crowns.items()}


def _axes(crowns: Mapping[int, Surface]) -> dict[int, Array]:
    axes = {fdi: tooth_frame.crown_axis(crown) for fdi, crown in crowns.items()}
    return {fdi: axis for fdi, axis in axes.items() if axis is not None}


def _side(crowns: Mapping[int, Surface], file: str = "") -> str:
    """Where number 1 is: "right" as in the notation, "left", or "" where the case does not tell."""
    sides = mouth_frame.find_mouth(_centres(crowns), _axes(crowns), file).sides
    return {1: "right", -1: "left", 0: ""}[sides]


def _decided(votes: Iterable[str]) -> str:
    """What nearly all of those say that say something, or UNCLEAR."""
    counts = Counter(vote for vote in votes if vote)
    for value, count in counts.most_common(1):
        if count >= SURE_SHARE * counts.total():
            return value
    return UNCLEAR


def _figures(misfit_mm: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f} mm" for name, value in misfit_mm.items())

"""Importer of crowns: one mesh file per tooth, all of a mouth in one frame, no JSON; makes cases at T1.

    <case>/AAnL_end_18.stl    <case>/tooth_11.ply    <case>/upper/3.OBJ    or the same without <case>

The tooth number in a file's name is an FDI or a Universal number; any text may precede or follow it. Files
that are no crowns (gum, roots, bases) are listed in left_out.csv.
"""

import re
from collections import defaultdict
from dataclasses import replace

from trimesh import Trimesh

from dentalign.errors import CaseDefect, ToothDefect
from dentalign.importers import crown_cutting, tooth_numbers
from dentalign.importers.base import FoundCase, ImportedCase, Importer
from dentalign.importers.case_at_t1 import case_at_t1
from dentalign.importers.frames import ScannedMouth
from dentalign.importers.jaw_names import jaw_of, without_jaw
from dentalign.importers.source_folder import SourceFolder
from dentalign.importers.tooth_numbers import NUMBERING

PARTS = ("crown", "crowns", "teeth", "up", "down")  # beside "upper", "lower" and the like
SUFFIXES = (".stl", ".ply", ".obj")
NO_CROWN = {"root", "gum", "gingiva", "gingival", "base", "bone", "canal", "pulp", "bracket", "attachment"}


class Crowns(Importer):
    """Importer of crowns that are named by tooth numbers.

    numbering : "fdi", "universal", or "" to find the notation from the numbers
    """

    name = "crowns"
    downloaded = False
    without_t2 = True
    missing = f"no mesh ({', '.join(SUFFIXES)}) with a tooth number in its name"

    def __init__(self, numbering: str = ""):
        self._numbering = numbering
        self.options = f" {numbering}"

    def find(self, source: SourceFolder) -> list[FoundCase]:
        """Find the folders with meshes; `upper`, `roots`, `gum` and the like belong to the folder above."""
        cases: dict[str, list[str]] = defaultdict(list)
        for file in source.find("**/*"):
            if file.lower().endswith(SUFFIXES):
                folder = file.rpartition("/")[0]
                while folder and _is_part(folder.rpartition("/")[2]):
                    folder = folder.rpartition("/")[0]
                cases[folder].append(file)
        whole = source.folder.resolve().name
        ids = {folder: folder.replace("/", "-") or whole for folder in cases}
        return [
            FoundCase(ids[folder], ids[folder], folder, tuple(files))
            for folder, files in sorted(cases.items())
        ]

    def read(self, source: SourceFolder, case: FoundCase) -> ImportedCase:
        """Read the crowns of a mouth and find the head frame and the tooth-local frames."""
        place = source.location(case.place)
        inside = {file: file.removeprefix(case.place).rpartition(".")[0] for file in case.files}
        # A word that is in every name, such as that of a clinic, does not count.
        telling = not all(map(_says_no_crown, inside.values()))
        named = {file: name for file, name in inside.items() if not (telling and _says_no_crown(name))}
        numbers = tooth_numbers.in_names({f: name.rpartition("/")[2] for f, name in named.items()}, place)
        if not numbers:
            seen, fix = "no file's name has a tooth number", "name the crowns <number>.stl"
            raise CaseDefect("numbers_unclear", seen, fix, file=place)
        by_jaw: dict[str, set[int]] = defaultdict(set)
        for file, number in numbers.items():
            by_jaw[jaw_of(inside[file], letters=False)].add(number)
        notation = tooth_numbers.notation_of(by_jaw, self._numbering, place)
        lost = [_not_a_crown(file, source) for file in case.files if file not in numbers]
        crowns: dict[int, Trimesh] = {}
        files: dict[int, str] = {}
        for file, number in numbers.items():
            fdi = tooth_numbers.to_fdi(number, notation)
            if fdi is None:
                seen = f"{number} is no tooth number in the notation {notation}"
                fix = "correct the number in the file's name, or name the notation with --numbering"
                name = f"number {number}"
                lost.append(ToothDefect("unknown_tooth", seen, fix, file=source.location(file), tooth=name))
                continue
            if fdi in files:
                seen = f"two files are tooth {fdi} (FDI): {inside[files[fdi]]} and {inside[file]}"
                raise CaseDefect("several_files", seen, "keep one of them", file=place)
            files[fdi] = file
            try:
                crowns[fdi] = crown_cutting.surface(source.triangles(file, fdi))
            except CaseDefect as defect:  # here one file costs its tooth
                lost.append(ToothDefect(defect.code, defect.seen, defect.fix, file=defect.file, tooth=fdi))
        if not crowns:
            raise CaseDefect("too_many_lost", "no crown can be read", "export the crowns again", file=place)
        one = case_at_t1(ScannedMouth(crowns, tuple(lost)), place, by_numbers=True)
        return replace(one, notes={**one.notes, NUMBERING: notation})


def _is_part(folder: str) -> bool:
    """True for a folder that holds a part of a mouth: the crowns of a jaw, roots, gum."""
    return _says_no_crown(folder) or folder.lower() in PARTS or not without_jaw(folder)


def _says_no_crown(name: str) -> bool:
    """True if a word of a name is in NO_CROWN: `UpperGum`, `11_roots`, but not `Gumbert`."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return bool({word.lower().removesuffix("s") for word in words} & NO_CROWN)


def _not_a_crown(file: str, source: SourceFolder) -> ToothDefect:
    name = file.rpartition("/")[2]
    seen = "by its name the file is no crown, or its name has no tooth number"
    fix = "nothing, if it is no crown; else name it <number>.stl"
    return ToothDefect("not_a_crown", seen, fix, file=source.location(file), tooth=name)

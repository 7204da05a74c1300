"""How near the clinical measures from shape come to the truth of generated cases, and to their landmarks.

    python benchmarks/clinical.py CASES GENERATOR [--cases 300]

CASES is a case store (json/, stl/, manifest.json) that `make_cases.py --clinic hard --reality` of the folder
GENERATOR made. Measured at T1:

overjet, overbite   : from shape, in the axes of the generator's fitted arches, against the truth of
                      manifest.json; teeth that the plan extracts are left out, as they are there
overjet_mm, overbite_mm : as reports show them, in our own axes and with all teeth, against the same truth
midline             : from shape, in our own axes, against the truth
widths, molar_relation, class : from shape against the same formula on the `Landmarks` of the export, which
                      `fetch.keep: [landmarks]` keeps
independent         : the same from these landmarks by a second program, here, against the measures from them

Of each case are printed the seconds by the clock, and in brackets those of the processor, which others that
use it do not stretch: for landmarks of the crowns and measures, and for all from the files on.
"""

import argparse
import importlib
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from dentalign.cases import case_document
from dentalign.cases.crowns import Sampler
from dentalign.cases.findings import Findings
from dentalign.cases.reading import read_case
from dentalign.cases.settings import Limits, Sample
from dentalign.cases.sources.meshes import MeshStore
from dentalign.clinical import bite, measures
from dentalign.clinical.mouth_points import NotMeasurable, mouth_points
from dentalign.errors import CaseDefect
from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouth

WITHIN_MM = {"midline": 0.5, "widths": 0.5, "molar_relation": 0.5, "independent": 0.05}  # others 0.3
LIMIT_S = 0.3
CLASSES = ["I", "II", "III"]


def main() -> None:
    """Measure the cases and print how near they come."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("cases_dir", metavar="CASES", type=Path)
    parser.add_argument("generator", metavar="GENERATOR", type=Path)
    parser.add_argument("--cases", type=int, default=300)
    given = parser.parse_args()
    sys.path.insert(0, str(given.generator))
    generator = importlib.import_module("make_cases")
    model = generator.ShapeModel()
    manifest = json.loads((given.cases_dir / "manifest.json").read_text())
    sampler = Sampler("+y", Sample(points=8, oversampling=2), Limits())
    off: dict[str, list[float]] = defaultdict(list)
    pairs: list[tuple[str, str]] = []
    seconds: list[Array] = []
    with MeshStore(str(given.cases_dir / "stl"), Limits()) as meshes:
        for case_id in sorted(manifest)[: given.cases]:
            file = given.cases_dir / "json" / f"{case_id}.json"
            began = _clocks()
            document = case_document.parse(file.read_bytes(), case_id, ends_only=True, keep=["landmarks"])
            plain = document.model_copy(
                update={"staging": [s.model_copy(update={"landmarks": None}) for s in document.staging]}
            )
            findings = Findings(case_id, "benchmark")
            try:
                mouth, crowns = read_case(plain, str(file), meshes, sampler, findings)
            except CaseDefect as defect:
                print(f"{case_id}: left out: {defect.seen}")
                continue
            read = _clocks()
            landmarks = mouth.landmarks.copy()
            for slot, triangles in crowns.items():
                landmarks[slot] = sampler.landmarks(triangles, int(mouth.fdi[slot]))
            marked = _clocks()
            at_t1 = (landmarks, mouth.pose[T1], mouth.present[T1], mouth.fdi)
            found = measures.measure(*at_t1)["measures"]
            ended = _clocks()
            # Reading has found the landmarks once already.
            took = np.array([ended - read, (ended - marked) + (read - began)])
            seconds.append(took)
            told, _ = read_case(document, str(file), meshes, sampler, findings)
            (own, own_cpu), (whole, whole_cpu) = took
            print(
                f"{case_id}: {own:.3f} s ({own_cpu:.3f}), from its files {whole:.3f} s ({whole_cpu:.3f})",
                *findings.lines,
                flush=True,
            )
            truth = manifest[case_id]["truth"]
            compare_with_truth(off, mouth, found, truth, generator.arch_axes(model, _teeth(generator, mouth)))
            for name in ("overjet", "overbite"):
                if f"{name}_mm" in found and truth.get(f"{name}_mm_t1") is not None:
                    off[f"{name}_mm"].append(found[f"{name}_mm"] - truth[f"{name}_mm_t1"])
            exported = json.loads(file.read_text())["Staging"][0]["Landmarks"]
            compare_with_export(off, pairs, told, found, exported)
    for name, values in off.items():
        limit = WITHIN_MM.get(name, 0.3)
        share = float((np.abs(values) <= limit).mean())
        most = float(np.quantile(np.abs(values), 0.95))
        print(
            f"{name:15} n {len(values):5}  median {np.median(values):6.2f} mm  95 % {most:.2f} mm"
            f"  within {limit:g} mm: {100 * share:.1f} %"
        )
    print(f"molar class     n {len(pairs):5}  kappa {kappa(pairs):.3f}")
    for number, name in enumerate(("landmarks and measures", "from the files")):
        for kind, clock in enumerate(("clock", "processor")):
            took = np.array(seconds)[:, number, kind]
            median, slow, most = np.quantile(took, [0.5, 0.95, 1])
            share = 100 * float((took < LIMIT_S).mean())
            print(
                f"seconds by the {clock}, {name}: median {median:.3f}, 95 % {slow:.3f}, most {most:.3f};"
                f" under {LIMIT_S:g} s: {share:.1f} %"
            )


def _clocks() -> Array:
    """Seconds by the clock and of the processor (2,)."""
    return np.array([time.perf_counter(), time.process_time()])


def _teeth(generator: Any, mouth: Mouth) -> list[Any]:
    """Teeth at T1 as the generator has them; without crowns, as only their positions count."""
    slots = np.flatnonzero(mouth.present[T1]).tolist()
    poses = [(int(mouth.fdi[slot]), mouth.pose[T1, slot]) for slot in slots]
    return [generator.Tooth(fdi, None, None, pose[:3, :3], pose[:3, 3]) for fdi, pose in poses]


def compare_with_truth(
    off: dict[str, list[float]], mouth: Mouth, found: dict[str, Any], truth: dict[str, Any], axes: Array
) -> None:
    """Add the differences of one case from the generator's truth; `axes` (3, 3) are those of its arches."""
    for arch in ("upper", "lower"):
        name = f"{arch}_midline_mm"
        if name in found and truth.get(f"{name}_t1") is not None:
            off["midline"].append(found[name] - truth[f"{name}_t1"])
    if truth.get("overjet_mm_t1") is None:
        return
    try:
        staying = mouth.present[T1] & mouth.present[T2]
        points = mouth_points(mouth.landmarks, mouth.pose[T1], staying, mouth.fdi, axes)
        overjet, overbite = bite.overjet_and_overbite_mm(points, level_mm=0.0)
    except NotMeasurable:
        return
    off["overjet"].append(overjet - truth["overjet_mm_t1"])
    off["overbite"].append(overbite - truth["overbite_mm_t1"])


def compare_with_export(
    off: dict[str, list[float]],
    pairs: list[tuple[str, str]],
    mouth: Mouth,
    found: dict[str, Any],
    exported: dict[str, Any],
) -> None:
    """Add the differences of the measures from shape, `found`, from those of the exported landmarks.

    mouth    : read with the landmarks of the export
    exported : FDI number -> name -> point, as in the file
    """
    heads: dict[int, dict[str, Array]] = {}
    for slot in np.flatnonzero(mouth.present[T1]).tolist():
        fdi = int(mouth.fdi[slot])
        points = {name: np.array([p[axis] for axis in "xyz"]) for name, p in exported[str(fdi)].items()}
        heads[fdi] = {name: rigid.apply(mouth.pose[T1, slot], p[None])[0] for name, p in points.items()}
    at_t1 = (mouth.landmarks, mouth.pose[T1], mouth.present[T1], mouth.fdi)
    theirs = measures.measure(*at_t1)["measures"]
    frame = mouth_points(*at_t1).frame
    for name in theirs.keys() & found.keys():
        if name.startswith("width"):
            off["widths"].append(found[name] - theirs[name])
        elif name.startswith("molar_relation") and name.endswith("mm"):
            off["molar_relation"].append(found[name] - theirs[name])
        elif name.startswith("molar_relation"):
            pairs.append((found[name], theirs[name]))
    for name, value in independent(heads, frame).items():
        off["independent"].append(theirs[name] - value)


def independent(heads: dict[int, dict[str, Array]], frame: Array) -> dict[str, float]:
    """Widths and molar relations by the documented formulas, from the exported points in the head frame."""
    values = {}
    for arch, right, left in (("upper", 10, 20), ("lower", 40, 30)):
        for position in (3, 4, 5, 6):
            if right + position in heads and left + position in heads:
                way = heads[right + position]["BCPoint"] - heads[left + position]["BCPoint"]
                values[f"width_{position}{position}_{arch}_mm"] = float(np.sqrt((way**2).sum()))
    back = frame[:, 1]
    for side, upper, lower in (("right", 16, 46), ("left", 26, 36)):
        if upper in heads and lower in heads:
            groove = heads[lower]["BCPoint"] @ back / 2 + heads[lower]["DBCPoint"] @ back / 2
            values[f"molar_relation_{side}_mm"] = float(groove - heads[upper]["BCPoint"] @ back)
    return values


def kappa(pairs: list[tuple[str, str]]) -> float:
    """Cohen's kappa of two classifications."""
    table = np.zeros((3, 3))
    for one, other in pairs:
        table[CLASSES.index(one), CLASSES.index(other)] += 1
    table /= table.sum()
    by_chance = float(table.sum(0) @ table.sum(1))
    return (float(np.trace(table)) - by_chance) / (1 - by_chance)


if __name__ == "__main__":
    main()

"""Small downloads in the published layouts of public data sets, made of the demo clinic's patients.

Every maker takes a mouth that stands somewhere in space, as a scanner would have it. `Made` says where the
vertices of each tooth are at T1 and at T2, so that a test can hold what was imported against it.
"""

import json
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray

from dentalign.cases import case_document
from dentalign.cases.poses import stage_poses
from dentalign.demo_clinic import clinic
from dentalign.geometry import rigid, stl
from dentalign.numbering import to_universal
from dentalign.teeth import is_upper

Array = NDArray[np.float64]
Faces = NDArray[np.int64]
SEED = 11
GUM_AT = 0.2  # share of a crown's height below which the gum covers it


def elsewhere(seed: int, turn_deg: float = 70.0, shift_mm: float = 40.0) -> Array:
    """A rigid motion (4, 4) from head coordinates to those of a scanner."""
    axis, shift = np.random.default_rng(seed).normal(size=(2, 3))
    turn = axis / np.linalg.norm(axis) * np.radians(turn_deg)
    return rigid.from_rotation(rigid.rotation_matrix(turn), shift / np.linalg.norm(shift) * shift_mm)


@dataclass(frozen=True)
class Made:
    """FDI -> vertices (V, 3), mm, at T1 and, where the tooth stays, at T2; height (V,) above the root end."""

    t1: Mapping[int, Array]
    t2: Mapping[int, Array]
    faces: Mapping[int, Faces]
    height: Mapping[int, Array]


def mouth(index: int, place: Array, share: float = 1.0) -> Made:
    """Patient `index` of the demo clinic at `place`, with that share of the planned motion."""
    case = clinic.make_case(index, SEED)
    crowns = case.patient.mouth
    t2 = {fdi: place @ _part_way(case.t1[fdi], pose, share) for fdi, pose in case.t2.items()}
    return Made(
        t1={fdi: rigid.apply(place @ case.t1[fdi], crown.vertices) for fdi, crown in crowns.items()},
        t2={fdi: rigid.apply(pose, crowns[fdi].vertices) for fdi, pose in t2.items()},
        faces={fdi: crown.faces for fdi, crown in crowns.items()},
        height={fdi: crown.vertices[:, 2] - crown.vertices[:, 2].min() for fdi, crown in crowns.items()},
    )


def only(made: Made, keep: Container[int]) -> Made:
    """The mouth without other teeth: quicker to import."""
    return Made(*({fdi: one for fdi, one in values.items() if fdi in keep} for values in vars(made).values()))


def _part_way(t1: Array, t2: Array, share: float) -> Array:
    turn = rigid.rotation_vector(t1[:3, :3].T @ t2[:3, :3]) * share
    shift = t1[:3, 3] + share * (t2[:3, 3] - t1[:3, 3])
    return rigid.from_rotation(t1[:3, :3] @ rigid.rotation_matrix(turn), shift)


def moved(teeth: Mapping[int, Array], motion: Array) -> dict[int, Array]:
    """All teeth moved alike."""
    return {fdi: rigid.apply(motion, vertices) for fdi, vertices in teeth.items()}


def teethalign3d(
    root: Path,
    number: int,
    made: Made,
    *,
    origin: str = "origin",
    sides: Callable[[int], int] = lambda fdi: fdi,
) -> Path:
    """Write `data_NNN` with the teeth that stay; returns the folder.

    origin : about what the matrices rotate, as in dentalign.importers.matrix_reading.ORIGINS
    sides  : antimere numbers the teeth by the viewer's left and right instead of the patient's
    """
    folder = root / f"data_{number:03d}"
    rows = []
    for fdi in sorted(made.t2, key=lambda fdi: int(to_universal(sides(fdi)))):
        named = int(to_universal(sides(fdi)))
        jaw = "up" if named <= 16 else "down"
        for kind in ("crown", "tooth"):
            (folder / kind / jaw).mkdir(parents=True, exist_ok=True)
            stl.write_binary(folder / kind / jaw / f"{named}.stl", made.t1[fdi], made.faces[fdi])
        motion = rigid.fit(made.t1[fdi], made.t2[fdi])
        rotation, shift = motion[:3, :3], motion[:3, 3]
        if origin == "tooth":
            middle = np.unique(made.t1[fdi], axis=0).mean(0)
            shift = rotation @ middle + shift - middle
        matrix = np.eye(4)
        matrix[:3, :3], matrix[3, :3] = rotation.T, shift  # points are rows
        rows.append(" ".join([str(named), *(f"{value:.8f}" for value in matrix.ravel())]))
    (folder / "target_matrix.txt").write_text("\n".join([*rows, ""]))
    return folder


@dataclass(frozen=True)
class Difference:
    """An imported case against the truth: largest distance of a vertex, mm, and largest wrong turn, degrees.

    The head frame is the importer's own, so all is compared after one rigid fit of T1.
    """

    t1_mm: float
    t2_mm: float
    turn_deg: float
    t1_teeth: frozenset[int]
    t2_teeth: frozenset[int]


def difference(
    store: Path, case_id: str, made: Made, *, gum_at: float | None = None, refit: bool = False
) -> Difference:
    """Hold an imported case against the mouth it was made of.

    gum_at : where a scan was cut, None for whole crowns
    refit  : fit T2 anew, where the scans after stood elsewhere
    """
    poses = stage_poses(case_document.read(store / "json" / f"{case_id}.json", case_id))
    assert poses.t2 is not None
    there: dict[str, list[Array]] = {"t1": [], "true t1": [], "t2": [], "true t2": []}
    turns = []
    for fdi, pose in poses.t1.items():
        mesh = store / "stl" / case_id / f"{fdi}.stl"
        local = stl.read_triangles(mesh.read_bytes(), file=str(mesh), tooth=fdi).reshape(-1, 3)
        kept = made.faces[fdi]
        if gum_at is not None:
            kept = kept[(made.height[fdi] > gum_at * made.height[fdi].max())[kept].all(1)]
        there["t1"].append(rigid.apply(pose, local))
        there["true t1"].append(made.t1[fdi][kept].reshape(-1, 3))
        if fdi in poses.t2 and fdi in made.t2:
            there["t2"].append(rigid.apply(poses.t2[fdi], local))
            there["true t2"].append(made.t2[fdi][kept].reshape(-1, 3))
    t1, true_t1, t2, true_t2 = (np.concatenate(points) for points in there.values())
    to_head = rigid.fit(true_t1, t1)
    t2_to_head = rigid.fit(true_t2, t2) if refit else to_head
    for now, true in zip(there["t2"], there["true t2"], strict=True):
        turn = rigid.fit(rigid.apply(t2_to_head, true), now)
        turns.append(float(rigid.angle_deg(turn[:3, :3])))
    return Difference(
        t1_mm=float(np.linalg.norm(rigid.apply(to_head, true_t1) - t1, axis=1).max()),
        t2_mm=float(np.linalg.norm(rigid.apply(t2_to_head, true_t2) - t2, axis=1).max()),
        turn_deg=max(turns),
        t1_teeth=frozenset(poses.t1),
        t2_teeth=frozenset(poses.t2),
    )


@dataclass(frozen=True)
class Scan:
    """One jaw: vertices (V, 3) mm, faces (F, 3), and a tooth number for each vertex (0 is gum)."""

    vertices: Array
    faces: Faces
    labels: NDArray[np.int64]


def scan(teeth: Mapping[int, Array], made: Made, jaw: str, gum_at: float = GUM_AT) -> Scan:
    """The crowns of one jaw, open at the gum, and a patch of gum."""
    gum = trimesh.creation.icosphere(subdivisions=2, radius=5.0)
    numbers = sorted(fdi for fdi in teeth if is_upper(fdi) == (jaw == "upper"))
    vertices = [np.asarray(gum.vertices) + np.mean([teeth[fdi].mean(0) for fdi in numbers], axis=0)]
    faces, labels = [np.asarray(gum.faces)], [np.zeros(len(gum.vertices), dtype=np.int64)]
    for fdi in numbers:
        above = made.height[fdi] > gum_at * made.height[fdi].max()
        kept = made.faces[fdi][above[made.faces[fdi]].all(1)]
        used, index = np.unique(kept, return_inverse=True)
        faces.append(index.reshape(-1, 3) + sum(map(len, vertices)))
        vertices.append(teeth[fdi][used])
        labels.append(np.full(len(used), fdi))
    return Scan(np.concatenate(vertices), np.concatenate(faces), np.concatenate(labels))


def finer(coarse: Scan, seed: int) -> Scan:
    """Another triangulation of the same surface: twice as fine, vertices and faces shuffled."""
    mesh = trimesh.Trimesh(coarse.vertices, coarse.faces, process=False)
    vertices, faces, index = trimesh.remesh.subdivide(
        mesh.vertices, mesh.faces, vertex_attributes={"label": coarse.labels[:, None].astype(float)}
    )
    labels = index["label"][:, 0].round().astype(np.int64)  # each piece has one label
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(vertices))
    back = np.argsort(order)
    return Scan(vertices[order], back[faces][rng.permutation(len(faces))], labels[order])


def beijing_scans(folder: Path, scans: Mapping[str, Scan], names: Mapping[str, str] | None = None) -> None:
    """Write the two scans of a mouth and their labels."""
    folder.mkdir(parents=True)
    for jaw, one in scans.items():
        stem = (names or {"upper": "0_U", "lower": "0_L"})[jaw]
        stl.write_binary(folder / f"{stem}.stl", one.vertices, one.faces)
        stored = one.vertices.astype(np.float32).astype(float)
        document = {
            "segmentation": {
                str(fdi): {"vertices": stored[one.labels == fdi].tolist()}
                for fdi in np.unique(one.labels)
                if fdi
            },
            "landmarks": [],
        }
        (folder / f"{stem}.json").write_text(json.dumps(document))


def beijing(folder: Path, made: Made, after: str = "final", place_after: Array | None = None) -> Path:
    """Write a patient's pair, `ori` and `after`; returns the patient's folder.

    place_after : how the scans after stand against those before
    """
    if not (folder / "ori").exists():
        beijing_scans(folder / "ori", {jaw: scan(made.t1, made, jaw) for jaw in ("upper", "lower")})
    t2 = moved(made.t2, np.eye(4) if place_after is None else place_after)
    beijing_scans(folder / after, {jaw: scan(t2, made, jaw) for jaw in ("upper", "lower")})
    return folder


def teeth3ds(folder: Path, patient: str, made: Made, jaw: str) -> Path:
    """Write `<patient>/<patient>_<jaw>.obj` and its labels; returns the path of the OBJ."""
    one = scan(made.t1, made, jaw)
    colours = "0.60 0.50 0.40"
    lines = [f"v {x:.6f} {y:.6f} {z:.6f} {colours}" for x, y, z in one.vertices]
    lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in one.faces + 1]
    normals = trimesh.Trimesh(one.vertices, one.faces, process=False).vertex_normals
    lines[len(one.vertices) : len(one.vertices)] = [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in normals]
    place = folder / patient / f"{patient}_{jaw}"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.with_suffix(".obj").write_text("\n".join([*lines, ""]))
    numbers = {0: 0} | {int(fdi): at for at, fdi in enumerate(np.unique(one.labels[one.labels > 0]), 1)}
    labels = {
        "id_patient": patient,
        "jaw": jaw,
        "labels": one.labels.tolist(),
        "instances": [numbers[int(label)] for label in one.labels],
    }
    place.with_suffix(".json").write_text(json.dumps(labels))
    return place.with_suffix(".obj")

"""Blender: place the crowns of a case at T1 and at the T2 that `dentalign serve` predicts.

    blender --python examples/blender_plan.py -- FOLDER [http://127.0.0.1:8000]

FOLDER has a mesh for each crown and <case_id>.json, or crowns alone, all in one frame. Frame 1 of the
timeline is T1, frame 2 is T2. Needs Blender 4.1 or newer, and nothing else in its Python.
"""

import io
import json
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import bpy
from mathutils import Matrix

MESHES = (".stl", ".ply", ".obj")


def predict(folder: Path, server: str) -> zipfile.ZipFile:
    """Send the files of a folder; returns the zip with all files of the prediction."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in (".json", *MESHES):
                packed.write(file, Path(folder.name) / file.relative_to(folder))
    headers = {"Content-Type": "application/zip"}
    request = urllib.request.Request(f"{server}/predict?answer=zip", body.getvalue(), headers)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return zipfile.ZipFile(io.BytesIO(answer.read()))
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code}: {error.read().decode()}")


def load(file: Path) -> bpy.types.Object:
    """Import a mesh file as one object, its coordinates as they are."""
    if file.suffix.lower() == ".stl":
        bpy.ops.wm.stl_import(filepath=str(file))
    elif file.suffix.lower() == ".ply":
        bpy.ops.wm.ply_import(filepath=str(file))
    else:
        bpy.ops.wm.obj_import(filepath=str(file), forward_axis="Y", up_axis="Z")
    return bpy.context.object


def place(answer: zipfile.ZipFile, folder: Path, temporary: Path) -> int:
    """Load the crowns and give them their poses at T1 (frame 1) and T2 (frame 2); returns their number."""
    answer.extractall(temporary)
    found = json.loads((temporary / "answer.json").read_text(encoding="utf-8"))
    # For crowns alone the answer has them in tooth-local coordinates; with a JSON they are so in the folder.
    local = temporary / "crowns" / found["case_id"]
    files = (local if local.is_dir() else folder).rglob("*")
    crowns = {file.stem: file for file in files if file.suffix.lower() in MESHES}
    teeth = [tooth for tooth in found["teeth"] if str(tooth["fdi"]) in crowns]
    for tooth in teeth:
        crown = load(crowns[str(tooth["fdi"])])
        crown.name, crown.rotation_mode = f"{tooth['fdi']} {tooth['fate']}", "QUATERNION"
        for frame, pose in enumerate((tooth["pose_t1"], tooth.get("pose_t2", tooth["pose_t1"])), 1):
            crown.matrix_world = Matrix(pose)
            for channel in ("location", "rotation_quaternion"):
                crown.keyframe_insert(channel, frame=frame)
    return len(teeth)


words = sys.argv[sys.argv.index("--") + 1 :]
case, address = Path(words[0]).resolve(), (words[1:] or ["http://127.0.0.1:8000"])[0]
with tempfile.TemporaryDirectory() as name:
    print(f"{place(predict(case, address), case, Path(name))} crowns placed")

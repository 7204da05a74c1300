"""Recognition of files that bear the name of a mesh and are something else."""

import re

from dentalign.errors import ToothDefect

_START = 65_536  # bytes that are looked at: an OBJ may begin with many comments
UTF8_BOM = b"\xef\xbb\xbf"
_EXPORT = "export the mesh itself"
_UNPACK = "unpack it"

# What a file begins with, what it then is, and the fix. The first one that fits counts.
_OTHERS = [
    (re.compile(begins, re.IGNORECASE), what, fix)
    for begins, what, fix in (
        (rb"\x1f\x8b", "a gzip file", _UNPACK),
        (rb"PK(\x03\x04|\x05\x06)", "a zip archive", _UNPACK),
        (rb"BZh|\xfd7zXZ|7z\xbc\xaf\x27|Rar!|\x28\xb5\x2f\xfd", "a compressed file", _UNPACK),
        (rb"version https?://(git-lfs|hawser)\.github\.com/", "a Git LFS pointer", "run `git lfs pull`"),
        (rb"\S*annex/objects/\S", "a git-annex pointer", "run `git annex get` on it"),
        (rb"\s*<[^\0]{0,1000}?<?(!doctype html|html|head|body)\b", "a web page",
         "check the address of the meshes, or the token"),
        (rb"\s*<[?!a-z]", "an XML document", _EXPORT),
        (rb"\s*[{\[]", "a JSON document", _EXPORT),
        (rb"\xff\xfe|\xfe\xff", "a text in UTF-16", "save it as plain ASCII"),
        (rb"OFF\s", "an OFF file", "export the mesh as STL, PLY or OBJ"),
        (rb"# vtk DataFile", "a VTK file", "export the mesh as STL, PLY or OBJ"),
        (rb"glTF", "a glTF file", "export the mesh as STL, PLY or OBJ"),
        (rb"%PDF|\x89PNG|\xff\xd8\xff", "a picture or PDF", _EXPORT),
    )
]  # fmt: skip
_MESHES = {
    "ply": re.compile(rb"ply\s"),
    "stl": re.compile(rb"[^\0]*?\bfacet\s+(normal|outer)\b", re.IGNORECASE),
    "obj": re.compile(rb"([^\0]*?[\r\n])?[ \t]*v[ \t]+[-+.\d]\S*[ \t]+[-+.\d]\S*[ \t]+[-+.\d]"),
}


def refuse_other(data: bytes, kind: str, *, file: str, tooth: int) -> None:
    """Refuse a file whose beginning says that it is no mesh, or one of another format.

    kind   : "stl", "ply" or "obj", the format that its name promises
    raises : ToothDefect that names what it is, with the fix
    """
    start = data[:_START].removeprefix(UTF8_BOM)
    if _MESHES[kind].match(start):
        return
    found = next(((what, fix) for begins, what, fix in _OTHERS if begins.match(start)), None)
    if found is None:
        other = next((name for name, begins in _MESHES.items() if begins.match(start)), None)
        if other is None:
            return
        found = f"{other.upper()} text", f"give it the extension .{other}"
    what, fix = found
    article = "a" if kind == "ply" else "an"
    raise ToothDefect("not_a_mesh", f"not {article} {kind.upper()}: {what}", fix, file=file, tooth=tooth)

"""Recognition of files whose name is that of a mesh and whose content is something else."""

import re

from dentalign.errors import ToothDefect

_START = 65_536  # bytes that are looked at: an OBJ may begin with many comments
UTF8_BOM = b"\xef\xbb\xbf"
_EXPORT = "export the mesh itself"
_UNPACK = "unpack it"

# Pattern of the beginning of a file, what such a file is, and the fix; the first match counts. The header of
# a binary STL may be any text, but zeros follow.
_OTHERS = [
    (re.compile(begins, re.IGNORECASE), what, fix)
    for begins, what, fix in (
        (rb"\x1f\x8b", "a gzip file", _UNPACK),
        (rb"PK(\x03\x04|\x05\x06)", "a zip archive", _UNPACK),
        (rb"BZh|\xfd7zXZ|7z\xbc\xaf\x27|Rar!|\x28\xb5\x2f\xfd", "a compressed file", _UNPACK),
        (rb"version https?://(git-lfs|hawser)\.github\.com/", "a Git LFS pointer", "run `git lfs pull`"),
        (rb"\S*annex[/\\]objects[/\\]\S", "a git-annex pointer", "run `git annex get` on it"),
        (rb"\s*<[^\0]{0,1000}?<?(!doctype html|html|head|title|body|script)\b", "a web page",
         "check the address of the meshes, or the token"),
        (rb"\s*<[?!a-z][^\0]*\Z", "an XML document", _EXPORT),
        (rb"\s*[{\[][^\0]*\Z", "a JSON document", _EXPORT),
        (rb"\xff\xfe|\xfe\xff", "a text in UTF-16", "save it as plain ASCII"),
        (rb"OFF\s", "an OFF file", "export the mesh as STL, PLY or OBJ"),
        (rb"# vtk DataFile", "a VTK file", "export the mesh as STL, PLY or OBJ"),
        (rb"glTF", "a glTF file", "export the mesh as STL, PLY or OBJ"),
        (rb"%PDF|\x89PNG|\xff\xd8\xff", "a picture or PDF", _EXPORT),
    )
]  # fmt: skip
_ARTICLES = {"stl": "an", "ply": "a", "obj": "an"}
_MESHES = {
    "ply": re.compile(rb"ply\s"),
    "stl": re.compile(rb"[^\0]*?\bfacet\s+(normal|outer)\b", re.IGNORECASE),
    "obj": re.compile(rb"([^\0]*?[\r\n])?[ \t]*v[ \t]+[-+.\d]\S*[ \t]+[-+.\d]\S*[ \t]+[-+.\d]"),
}


def is_whole_binary_stl(data: bytes) -> bool:
    """True for a binary STL of the size that its count promises, whatever text its header holds."""
    return len(data) == 84 + 50 * int.from_bytes(data[80:84], "little")


def refuse_other(data: bytes, kind: str, *, file: str, tooth: int) -> None:
    """Refuse a file whose beginning is not that of a mesh of this format, but of a known other kind of file.

    kind   : "stl", "ply" or "obj", the extension of the file's name
    raises : ToothDefect that names the kind of the content, and the fix
    """
    start = data[:_START].removeprefix(UTF8_BOM)
    found = next((name for name in (kind, *_MESHES) if _MESHES[name].match(start)), "")
    if is_whole_binary_stl(data):
        found = "stl"
    if found == kind:
        return
    what, fix = next(((what, fix) for begins, what, fix in _OTHERS if begins.match(start)), ("", ""))
    if found:
        what, fix = f"{_ARTICLES[found]} {found.upper()} file", f"give it the extension .{found}"
    if what:
        seen = f"not {_ARTICLES[kind]} {kind.upper()}: {what}"
        raise ToothDefect("not_a_mesh", seen, fix, file=file, tooth=tooth)

"""Unpacking of an uploaded zip, in which nothing is trusted: names, sizes, counts, links."""

import errno
import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from dentalign.serving.limits import Refused, ServerLimits

MESHES = (".stl", ".ply", ".obj")
_PART = re.compile(r"[\w .()+-]+")  # of a path: no separators, no drive, no control characters
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x07"
_DIRECTORY_BYTES = 400  # of the zip's directory, for an entry: more than a sensible name needs
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 1 << 20
# What zipfile and zlib raise over a damaged zip.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, OSError,
)  # fmt: skip
_SMALL = 1 << 16  # bytes: below that no ratio is looked at


def unpack(upload: Path, folder: Path, limits: ServerLimits) -> Path | None:
    """Unpack an upload: at most one JSON and the crowns of one mouth.

    upload  : the zip
    folder  : new folder; the JSON is written into it, and the crowns into `crowns/` in it: under their own
              names where there is a JSON, else with the folders of the zip
    returns : the JSON; None if there is none
    raises  : Refused, if it is no zip, too large, or has names or entries that no case has
    """
    _refuse_large_directory(upload, limits)
    try:
        with zipfile.ZipFile(upload) as packed:
            entries = [entry for entry in packed.infolist() if not entry.is_dir()]
            _check_sizes(entries, limits)
            names = {_checked(entry): entry for entry in entries}
            if len(names) < len(entries):
                raise Refused(422, "the zip has a file twice")
            names = {name: names[name] for name in names if not _is_hidden(name)}
            documents = [name for name in names if name.suffix.lower() == ".json"]
            if len(documents) > 1:
                raise Refused(422, f"the zip has {len(documents)} JSON files: send one case at a time")
            written: set[Path] = set()
            left = int(limits.unpacked_mb * 1e6)
            for name, entry in names.items():
                crown = folder / "crowns" / (name.name if documents else name)
                target = folder / name.name if name in documents else crown
                if name.suffix.lower() not in (".json", *MESHES) or target in written:
                    seen = "is there twice" if target in written else "is neither a JSON nor a crown"
                    fix = "the zip may have <case_id>.json and <FDI>.stl, .ply or .obj"
                    raise Refused(422, f"{name.name} {seen}: {fix}")
                written.add(target)
                target.parent.mkdir(parents=True, exist_ok=True)
                left = _write(packed, entry, target, left)
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise Refused(507, "the server's disk is full: make room, then send the case again") from None
        raise Refused(422, f"the body is no zip that can be read ({type(error).__name__})") from None
    if not (folder / "crowns").is_dir():
        raise Refused(422, "the zip has no crowns: <FDI>.stl, .ply or .obj")
    return folder / documents[0].name if documents else None


def _refuse_large_directory(upload: Path, limits: ServerLimits) -> None:
    """Refuse a zip with a large directory of entries, which zipfile would read as a whole."""
    with open(upload, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 65557))  # the record at the end, and the longest comment behind it
        tail = file.read()
    # zipfile takes the record without a comment, else the last one: both are looked at.
    for place in {len(tail) - 22, tail.rfind(_END)}:
        if place >= 0 and tail[place : place + 4] == _END and len(tail) >= place + 22:
            count, directory = struct.unpack("<HL", tail[place + 10 : place + 16])
            if count > limits.files or directory > limits.files * _DIRECTORY_BYTES:
                raise Refused(413, f"the zip has more than {limits.files} entries, or very long names")
            if tail[max(0, place - 20) : place][:4] == _END_64:
                raise Refused(422, "the zip is in the format ZIP64, which no case needs")


def _check_sizes(entries: list[zipfile.ZipInfo], limits: ServerLimits) -> None:
    if len(entries) > limits.files:
        raise Refused(413, f"the zip has {len(entries)} files, more than {limits.files}")
    if (total := sum(entry.file_size for entry in entries)) > limits.unpacked_mb * 1e6:
        raise Refused(413, f"the files are {total / 1e6:.0f} MB unpacked, over {limits.unpacked_mb:g} MB")
    for entry in entries:
        if entry.file_size > max(_SMALL, limits.ratio * entry.compress_size):
            raise Refused(413, f"a file is packed more than {limits.ratio:g} times smaller than it is")


def _checked(entry: zipfile.ZipInfo) -> PurePosixPath:
    """Check name and kind of an entry; returns its path."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or entry.flag_bits & 1 or entry.compress_type not in _READABLE:
        raise Refused(422, "the zip has a link, an encrypted file, or one packed in an unusual way")
    parts = entry.filename.split("/")
    if not all(_PART.fullmatch(part) and part.strip(". ") for part in parts):
        raise Refused(422, "the zip has a name that is absolute, has .. in it, or is no file name")
    return PurePosixPath(*parts)


def _is_hidden(name: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.parts)


def _write(packed: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int) -> int:
    """Write a file of at most `left` bytes; returns what is left of them."""
    with packed.open(entry) as source, open(target, "xb") as file:
        shutil.copyfileobj(source, file, _CHUNK)  # zipfile reads no more than the size that was checked
        return left - file.tell()

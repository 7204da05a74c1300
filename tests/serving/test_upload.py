"""Unpacking of an uploaded zip: what a case is, and what is refused before it costs anything."""

import errno
import io
import shutil
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from dentalign.serving.limits import Refused, ServerLimits
from dentalign.serving.upload import unpack

LIMITS = ServerLimits(unpacked_mb=2, files=20)


def packed(files: dict[str, bytes], **options: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = options.get("mode", stat.S_IFREG | 0o644) << 16
            file.writestr(entry, content)
    return out.getvalue()


def unpacked(tmp_path: Path, content: bytes) -> Path | None:
    (tmp_path / "upload.zip").write_bytes(content)
    return unpack(tmp_path / "upload.zip", tmp_path / "case", LIMITS)


def names(tmp_path: Path) -> set[str]:
    return {file.relative_to(tmp_path / "case").as_posix() for file in (tmp_path / "case").rglob("*.*")}


def test_a_case_in_folders_is_unpacked_flat(tmp_path: Path) -> None:
    files = {"x/7.json": b"{}", "x/crowns/11.stl": b"a", "__MACOSX/x/._11.stl": b"", "x/.DS_Store": b""}
    assert unpacked(tmp_path, packed(files)) == tmp_path / "case" / "7.json"
    assert names(tmp_path) == {"7.json", "crowns/11.stl"}


def test_crowns_without_a_json_keep_their_folders(tmp_path: Path) -> None:
    assert unpacked(tmp_path, packed({"p 7/upper/11.stl": b"a", "p 7/lower/31.PLY": b"b"})) is None
    assert names(tmp_path) == {"crowns/p 7/upper/11.stl", "crowns/p 7/lower/31.PLY"}


def _with_directory_of_zip64() -> bytes:
    content = packed({"11.stl": b"a"})
    end = content.rfind(b"PK\x05\x06")
    return content[:end] + b"PK\x06\x07" + bytes(16) + content[end:]


def _with_a_false_size() -> bytes:
    content = bytearray(packed({"11.stl": bytes(1_500_000)}))
    place = content.rfind(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<L", 10)  # says that it is 10 bytes long
    return bytes(content)


def _with_damaged_content() -> bytes:
    content = bytearray(packed({"11.stl": bytes(range(256)) * 40}))
    content[45:60] = b"\xff" * 15
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (packed({"../11.stl": b"a"}), "absolute"),
        (packed({"a/../../11.stl": b"a"}), "absolute"),
        (packed({"/etc/11.stl": b"a"}), "absolute"),
        (packed({"C:\\11.stl": b"a"}), "absolute"),
        (packed({"a\\..\\11.stl": b"a"}), "absolute"),
        (packed({"11.stl": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777), "link"),
        (packed({"11.stl": b""}, mode=stat.S_IFIFO), "link"),
        (packed({"11.stl": bytes(1_900_000)}), "times smaller"),
        (packed({f"{k}.stl": bytes(100) * 1000 for k in range(11, 19)} | {"x.stl": bytes(1_900_000)}), "MB"),
        (packed({f"{k}.stl": b"a" for k in range(21)}), "entries"),
        (packed({f"{'n' * 60_000}.stl": b"a"}), "entries"),
        (_with_directory_of_zip64(), "ZIP64"),
        (_with_a_false_size(), "no zip"),
        (_with_damaged_content(), "no zip"),
        (packed({"11.stl": b"a", "a.json": b"{}", "b.json": b"{}"}), "2 JSON"),
        (packed({"a/11.stl": b"a", "b/11.stl": b"b", "a.json": b"{}"}), "there twice"),
        (packed({"11.exe": b"a"}), "neither"),
        (packed({"a.json": b"{}"}), "no crowns"),
        (b"PK", "no zip"),
        (packed({"11.stl": b"a" * 1000})[:-30], "no zip"),
    ],
)
def test_a_hostile_zip_is_refused_and_nothing_is_written_beside_its_folder(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        unpacked(tmp_path, content)
    assert {path.name for path in tmp_path.iterdir()} <= {"upload.zip", "case"}


def test_a_full_disk_is_not_blamed_on_the_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(Refused, match="disk is full") as refused:
        unpacked(tmp_path, packed({"11.stl": b"a"}))
    assert refused.value.status == 507

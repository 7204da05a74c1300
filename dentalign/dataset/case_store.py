"""HDF5 files with one row a case: clouds, latents, and the shards joined.

Frames and units: `points` tooth-local mm; `t1/pose`, `t2/pose` tooth-local -> head, mm; absent
teeth are masked out and their numbers are zero (poses: identity).

`checksums` (N, C) uint32 holds the CRC-32 of each row's value in each column, the columns sorted by name;
the attribute `attributes_crc32` that of the other attributes. All that is read is checked: a cut or
changed file is named, never taken for data.
"""

import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dentalign.atomic import replacing
from dentalign.errors import DentalignError
from dentalign.locks import exclusive
from dentalign.teeth import SLOT_COUNT, SLOTS

FORMAT_VERSION = 2

Row = dict[str, Any]

_TEXT = h5py.string_dtype("utf-8")
# Of each column, bytes; holds the chunk that is being filled. HDF5's 1 MiB fills as the rows come.
_CHUNK_CACHE = 300_000

_CHECKSUMS, _ATTRIBUTES_CRC32 = "checksums", "attributes_crc32"


@dataclass(frozen=True)
class Layout:
    """Which columns a file has; `features` 0 means clouds without latents."""

    points: int
    features: int = 0

    def columns(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Name -> (shape of one row, dtype)."""
        teeth = (SLOT_COUNT,)
        columns: dict[str, tuple[tuple[int, ...], Any]] = {
            "case_id": ((), _TEXT),
            "split": ((), _TEXT),
            "fdi": (teeth, np.uint8),
            "dropped": (teeth, np.bool_),
            "points": ((SLOT_COUNT, self.points, 3), np.float32),
        }
        for stage in ("t1", "t2"):
            columns[f"{stage}/mask"] = (teeth, np.bool_)
            columns[f"{stage}/pose"] = ((SLOT_COUNT, 4, 4), np.float64)
            if self.features:
                columns[f"{stage}/latents"] = ((SLOT_COUNT, self.points, self.features), np.float16)
        return columns


class _TellsLater(io.FileIO):
    """A file that keeps its failure to write to itself until it is asked.

    On a full disk HDF5 can neither go on nor close a file, and crashes as Python ends.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            done = 0
            while self.failure is None and done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self.tell() if self.failure else super().truncate(size)
        except OSError as error:
            self.failure = error
            return self.tell()

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done = super().readinto(view) or 0
        view[done:] = bytes(len(view) - done)  # what could not be written
        return len(view)


class CaseWriter:
    """Appends rows; memory does not grow with their number."""

    def __init__(self, file: h5py.File, layout: Layout, stream: _TellsLater):
        self._file, self._stream = file, stream
        self._layout = layout.columns()
        self._columns = {}
        for name, (shape, dtype) in layout.columns().items():
            width = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
            chunk = max(1, min(64, 262_144 // max(width, 1)))
            self._columns[name] = file.create_dataset(
                name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(chunk, *shape), track_times=False
            )
        width = len(self._columns)
        self._checksums = file.create_dataset(
            _CHECKSUMS, (0, width), np.uint32, maxshape=(None, width), chunks=(64, width), track_times=False
        )
        self.rows = 0

    def append(self, row: Row) -> None:
        """Add one case; `row` holds exactly the layout's columns."""
        if row.keys() != self._columns.keys():
            raise ValueError(f"a row needs the columns {sorted(self._columns)}, got {sorted(row)}")
        checksums = []
        for name, dataset in sorted(self._columns.items()):
            dtype = self._layout[name][1]
            value = row[name] if dtype is _TEXT else np.ascontiguousarray(row[name], dtype)
            dataset.resize(self.rows + 1, axis=0)
            dataset[self.rows] = value
            checksums.append(_crc32(value))
        self._checksums.resize(self.rows + 1, axis=0)
        self._checksums[self.rows] = checksums
        self.rows += 1
        if self._stream.failure:
            raise self._stream.failure

    def set_attribute(self, name: str, value: str) -> None:
        """Add an attribute that is known only after the rows."""
        self._file.attrs[name] = value


@contextmanager
def create(path: str | Path, layout: Layout, attributes: dict[str, Any]) -> Iterator[CaseWriter]:
    """Write a file, all or nothing; the same rows in the same order give the same bytes."""
    with exclusive(path), replacing(path) as part, _TellsLater(part, "w+") as stream:
        try:
            with h5py.File(stream, "w", rdcc_nbytes=_CHUNK_CACHE) as file:
                file.attrs["format_version"] = FORMAT_VERSION
                file.attrs["slots"] = np.array(SLOTS, dtype=np.int64)
                for name, value in sorted(attributes.items()):
                    file.attrs[name] = value
                yield CaseWriter(file, layout, stream)
                file.attrs[_ATTRIBUTES_CRC32] = _attributes_crc32(dict(file.attrs))
        finally:
            if stream.failure:
                raise stream.failure


def require_shards(stores: Sequence["CaseStore"], names: Sequence[str]) -> None:
    """Make sure that the files are exactly the shards of params.yaml; raises DentalignError."""
    found = [str(store.attributes["shard"]) for store in stores]
    if sorted(found) != sorted(names):
        raise DentalignError(
            f"params.shards names {len(names)} shards ({', '.join(names)}), but {len(found)} came "
            f"({', '.join(found)}): name each shard's file in dvc.yaml under autoencoder_cases and "
            "concat_hdf5, there in `cmd` and in `deps`"
        )


class CaseStore:
    """A file opened for reading."""

    def __init__(self, path: str | Path):
        self.path = str(path)
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise DentalignError(f"{path}: cannot be read as HDF5 ({str(error).splitlines()[0]})") from None
        try:
            with self._named():
                self._open()
        except DentalignError:
            self.close()
            raise

    def _open(self) -> None:
        self.attributes: dict[str, Any] = dict(self._file.attrs)
        version = self.attributes.get("format_version")
        if version != FORMAT_VERSION:
            raise DentalignError(
                f"{self.path}: format_version {version}, this program reads {FORMAT_VERSION}; "
                "`dvc repro` makes it again, or use the program that made it"
            )
        if self.attributes.pop(_ATTRIBUTES_CRC32) != _attributes_crc32(self.attributes):
            raise self._damaged("its attributes do not fit their checksum")
        features = self._file["t1/latents"].shape[-1] if "t1/latents" in self._file else 0
        self.layout = Layout(self._file["points"].shape[2], features)
        names = sorted(self.layout.columns())
        self._checksums = dict(zip(names, self._file[_CHECKSUMS][:].T, strict=True))
        self.case_ids: list[str] = [value.decode("utf-8") for value in self.column("case_id")]
        self.splits: list[str] = [value.decode("utf-8") for value in self.column("split")]

    def __len__(self) -> int:
        return len(self.case_ids)

    def __enter__(self) -> "CaseStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def row(self, index: int, columns: Sequence[str] = ()) -> Row:
        """The columns of one case, all of them or those that are named."""
        rows = slice(index, index + 1) if index >= 0 else slice(index, index + 1 or None)
        known = {"case_id": self.case_ids[index], "split": self.splits[index]}  # read and checked on opening
        names = columns or self.layout.columns()
        return {name: known[name] if name in known else self.column(name, rows)[0] for name in names}

    def column(self, name: str, rows: NDArray[np.intp] | slice = slice(None)) -> NDArray[Any]:
        """One column for increasing row numbers, or for all; raises DentalignError where it is damaged."""
        with self._named():
            values = np.asarray(self._file[name][rows])
            wanted = self._checksums[name][rows]
            for number, (value, checksum) in enumerate(zip(values, wanted, strict=True)):
                if _crc32(value) != checksum:
                    row = np.arange(len(self._checksums[name]))[rows][number]
                    raise self._damaged(f"row {row} of {name} does not fit its checksum")
        return values

    def rows_of(self, split: str) -> NDArray[np.intp]:
        """Row numbers of a split, increasing."""
        return np.flatnonzero(np.array(self.splits) == split)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Whatever HDF5 trips over in a damaged file, it is this file's fault."""
        try:
            yield
        except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
            raise self._damaged(f"{type(error).__name__} on reading") from error

    def _damaged(self, how: str) -> DentalignError:
        return DentalignError(f"{self.path}: damaged, {how}; delete it, then `dvc repro` makes it again")

    def json_attribute(self, name: str) -> Any:
        """An attribute that holds JSON."""
        return json.loads(self.attributes[name])


def _crc32(value: Any) -> int:
    """Of one column's value in one row: an array, or a text as str or UTF-8 bytes."""
    return zlib.crc32(value.encode("utf-8") if isinstance(value, str) else value)


def _attributes_crc32(attributes: dict[str, Any]) -> np.uint32:
    plain = {name: np.asarray(value).tolist() for name, value in attributes.items()}
    return np.uint32(zlib.crc32(json.dumps(plain, sort_keys=True).encode("utf-8")))

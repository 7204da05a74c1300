"""HDF5 files with one row a case: clouds, latents, and the shards joined.

Frames and units: `points` tooth-local mm; `t1/pose`, `t2/pose` tooth-local -> head, mm; absent
teeth are masked out and their numbers are zero (poses: identity).

`checksums` (N, C) uint32 holds the CRC-32 of each row's value in each column, the columns sorted by name;
the attribute `attributes_crc32` that of the other attributes. All that is read is checked: a cut or
changed file is named, never taken for data.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from dentalign.atomic import replacing
from dentalign.dataset.hdf5_stream import TellsLater
from dentalign.errors import DentalignError
from dentalign.locks import exclusive
from dentalign.teeth import SLOT_COUNT, SLOTS

FORMAT_VERSION = 2

Row = dict[str, Any]

_TEXT = h5py.string_dtype("utf-8")
_MOST_ROWS, _CHUNK_BYTES = 64, 262_144  # of a chunk
# HDF5 keeps no chunks: they are written whole, and what is read lies in the system's cache.
_CHUNK_CACHE = 0

_TEXTS_AT_ONCE = 1024
# Bytes of a file's directory of chunks that HDF5 keeps; left to itself it keeps all that it has seen.
_DIRECTORY_CACHE = 131_072
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


class _Column:
    """A data set that is written a whole chunk at a time: HDF5 takes as long for a value as for a chunk."""

    def __init__(self, file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any):
        width = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
        chunk = max(1, min(_MOST_ROWS, _CHUNK_BYTES // max(width, 1)))
        self._data = file.create_dataset(
            name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(chunk, *shape), track_times=False
        )
        self._waiting = np.empty((chunk, *shape), object if dtype is _TEXT else dtype)
        self._count = 0

    def append(self, value: Any) -> None:
        self._waiting[self._count] = value
        self._count += 1
        if self._count == len(self._waiting):
            self.flush()

    def flush(self) -> None:
        if self._count:
            start = len(self._data)
            self._data.resize(start + self._count, axis=0)
            self._data[start:] = self._waiting[: self._count]
            self._count = 0


class CaseWriter:
    """Appends rows; memory does not grow with their number."""

    def __init__(self, file: h5py.File, layout: Layout, stream: TellsLater):
        self._file, self._stream = file, stream
        self._layout = layout.columns()
        self._columns = {name: _Column(file, name, *kind) for name, kind in self._layout.items()}
        self._checksums = _Column(file, _CHECKSUMS, (len(self._columns),), np.uint32)
        self.rows = 0

    def append(self, row: Row, checksums: NDArray[np.uint32] | None = None) -> None:
        """Add one case; `row` holds exactly the layout's columns.

        checksums : of a row that `CaseStore` has checked, by `CaseStore.checksums`; else they are made here
        """
        if row.keys() != self._columns.keys():
            raise ValueError(f"a row needs the columns {sorted(self._columns)}, got {sorted(row)}")
        made = []
        for name, column in sorted(self._columns.items()):
            dtype = self._layout[name][1]
            value = row[name] if dtype is _TEXT else np.ascontiguousarray(row[name], dtype)
            column.append(value)
            if checksums is None:
                made.append(_crc32(value))
        self._checksums.append(made if checksums is None else checksums)
        self.rows += 1
        if self._stream.failure:
            raise self._stream.failure

    def flush(self) -> None:
        """Write what waits for its chunk to be full."""
        for column in (*self._columns.values(), self._checksums):
            column.flush()

    def set_attribute(self, name: str, value: str) -> None:
        """Add an attribute that is known only after the rows."""
        self._file.attrs[name] = value


@contextmanager
def create(path: str | Path, layout: Layout, attributes: dict[str, Any]) -> Iterator[CaseWriter]:
    """Write a file, all or nothing; the same rows in the same order give the same bytes."""
    with exclusive(path), replacing(path) as part, TellsLater(part, "w+") as stream:
        try:
            with h5py.File(stream, "w", rdcc_nbytes=_CHUNK_CACHE) as file:
                _keep_little(file)
                file.attrs["format_version"] = FORMAT_VERSION
                file.attrs["slots"] = np.array(SLOTS, dtype=np.int64)
                for name, value in sorted(attributes.items()):
                    file.attrs[name] = value
                writer = CaseWriter(file, layout, stream)
                yield writer
                writer.flush()
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


class Texts(Sequence[str]):
    """Many short texts in one array of their bytes: a fifth of what a list of them takes."""

    def __init__(self, utf8: NDArray[np.bytes_]):
        self._utf8 = utf8

    def __len__(self) -> int:
        return len(self._utf8)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Texts": ...
    def __getitem__(self, index: int | slice) -> "str | Texts":
        if isinstance(index, slice):
            return Texts(self._utf8[index])
        return bytes(self._utf8[index]).decode("utf-8")

    def where(self, text: str) -> NDArray[np.intp]:
        """Positions of a text, increasing."""
        return np.flatnonzero(self._utf8 == text.encode("utf-8"))


class CaseStore:
    """A file opened for reading."""

    def __init__(self, path: str | Path):
        self.path = str(path)
        try:
            self._file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)
        except OSError as error:
            raise DentalignError(f"{path}: cannot be read as HDF5 ({str(error).splitlines()[0]})") from None
        try:
            with self._named():
                self._open()
        except DentalignError:
            self.close()
            raise

    def _open(self) -> None:
        _keep_little(self._file)
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
        # Open once: to look one up in the file takes ten times as long as to read a row of it.
        self._columns: dict[str, h5py.Dataset] = {name: self._file[name] for name in names}
        self._checksums: NDArray[np.uint32] = self._file[_CHECKSUMS][:]  # (N, C), 36 bytes a case
        self._position = {name: number for number, name in enumerate(names)}
        if self._checksums.shape[1:] != (len(names),):
            raise ValueError("as many checksums as columns")
        self.case_ids, self.splits = self._texts("case_id"), self._texts("split")

    def __len__(self) -> int:
        return len(self._checksums)

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
            values = np.asarray(self._columns[name][rows])
            wanted = self._checksums[rows, self._position[name]]
            for number, (value, checksum) in enumerate(zip(values, wanted, strict=True)):
                if _crc32(value) != checksum:
                    row = np.arange(len(self))[rows][number]
                    raise self._damaged(f"row {row} of {name} does not fit its checksum")
        return values

    def rows_of(self, split: str) -> NDArray[np.intp]:
        """Row numbers of a split, increasing."""
        return self.splits.where(split)

    def checksums(self, index: int) -> NDArray[np.uint32]:
        """(C,) of a row's columns, sorted by name: for a copy of it."""
        return self._checksums[index]

    def _texts(self, name: str) -> "Texts":
        """A column of texts, read some at a time: HDF5 gives each as an object of its own."""
        parts = [
            np.asarray(self.column(name, slice(start, start + _TEXTS_AT_ONCE)), np.bytes_)
            for start in range(0, len(self), _TEXTS_AT_ONCE)
        ]
        return Texts(np.concatenate(parts or [np.zeros(0, np.bytes_)]))

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


def _keep_little(file: h5py.File) -> None:
    config = file.id.get_mdc_config()
    config.set_initial_size = True
    config.initial_size = config.min_size = config.max_size = _DIRECTORY_CACHE
    file.id.set_mdc_config(config)


def _crc32(value: Any) -> int:
    """Of one column's value in one row: an array, or a text as str or UTF-8 bytes."""
    return zlib.crc32(value.encode("utf-8") if isinstance(value, str) else value)


def _attributes_crc32(attributes: dict[str, Any]) -> np.uint32:
    plain = {name: np.asarray(value).tolist() for name, value in attributes.items()}
    return np.uint32(zlib.crc32(json.dumps(plain, sort_keys=True).encode("utf-8")))

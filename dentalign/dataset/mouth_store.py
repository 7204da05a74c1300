"""HDF5 files with one mouth per row: clouds or latents of a shard, or latents of all shards.

Frames and units are those of `Mouth`: `points` and `landmarks` tooth-local mm; `t1/pose`, `t2/pose`
tooth-local -> head, mm. The attribute `landmark_names` has the names of the landmarks in their order. With
`fetch.keep` there are also `exported_landmarks`, named by `exported_landmark_names`, and `bolton_mm`. HDF5
has a checksum (Fletcher-32) of every chunk and of its own structures, so reading a damaged file raises an
error that names the file.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dentalign.dataset.hdf5_stream import TellsLater
from dentalign.errors import DentalignError
from dentalign.files.atomic import replacing
from dentalign.mouth import EXPORTED_NAMES, LANDMARK_NAMES, Mouth, Mouths
from dentalign.running.locks import exclusive
from dentalign.teeth import SLOT_COUNT, SLOTS

FORMAT_VERSION = 4

# Of fixed width, as HDF5 has no checksum for texts of any length. A case id has 120 characters at most; the
# longest planner is planner-9999.
_TEXTS = {
    "case_id": h5py.string_dtype("utf-8", 120),
    "split": h5py.string_dtype("utf-8", 5),
    "planner": h5py.string_dtype("utf-8", 12),
}
_MOST_ROWS, _CHUNK_BYTES = 64, 262_144  # of a chunk
# HDF5 keeps no chunks: they are written whole, and what is read lies in the system's cache.
_CHUNK_CACHE = 0
# Bytes of a file's directory of chunks that HDF5 keeps; left to itself it keeps all that it has seen.
_DIRECTORY_CACHE = 131_072


@dataclass(frozen=True)
class Layout:
    """Shape of the teeth in a file, which defines its columns.

    points   : P, number of points per tooth
    features : F, number of features per point in a latent; 0 for clouds without latents
    exported : True if there are columns of what the export gives beside the poses (`fetch.keep`)
    """

    points: int
    features: int = 0
    exported: bool = False

    def columns(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Columns of the file: name -> (shape of one row, dtype)."""
        teeth = (SLOT_COUNT,)
        columns: dict[str, tuple[tuple[int, ...], Any]] = {
            **{name: ((), dtype) for name, dtype in _TEXTS.items()},
            "fdi": (teeth, np.uint8),
            "dropped": (teeth, np.bool_),
            "points": ((SLOT_COUNT, self.points, 3), np.float32),
            "landmarks": ((SLOT_COUNT, len(LANDMARK_NAMES), 3), np.float32),
        }
        if self.exported:
            columns["exported_landmarks"] = ((SLOT_COUNT, len(EXPORTED_NAMES), 3), np.float32)
            columns["bolton_mm"] = (teeth, np.float32)
        for stage in ("t1", "t2"):
            columns[f"{stage}/mask"] = (teeth, np.bool_)
            columns[f"{stage}/pose"] = ((SLOT_COUNT, 4, 4), np.float64)
            if self.features:
                columns[f"{stage}/latents"] = ((SLOT_COUNT, self.points, self.features), np.float16)
        return columns


class _Column:
    """HDF5 dataset written a whole chunk at a time, as HDF5 takes as long for a value as for a chunk."""

    def __init__(self, file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any):
        width = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
        chunk = max(1, min(_MOST_ROWS, _CHUNK_BYTES // width))
        self._data = file.create_dataset(
            name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(chunk, *shape), track_times=False,
            fletcher32=True,
        )  # fmt: skip
        self._waiting = np.empty((chunk, *shape), dtype)
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


class MouthWriter:
    """Writer of a file, made by `create`; memory use does not grow with the number of mouths.

    layout : layout of the file
    rows   : number of mouths appended
    """

    def __init__(self, file: h5py.File, layout: Layout, stream: TellsLater):
        self._file, self._stream = file, stream
        self._columns = {name: _Column(file, name, *kind) for name, kind in layout.columns().items()}
        self.layout = layout
        self.rows = 0

    def append(self, mouth: Mouth) -> None:
        """Add one mouth; raises ValueError where its points or latents do not fit the layout."""
        features = 0 if mouth.latents is None else mouth.latents.shape[-1]
        if (mouth.points.shape[1], features) != (self.layout.points, self.layout.features):
            raise ValueError(
                f"{mouth.case_id}: {mouth.points.shape[1]} points and {features} features per point; "
                f"the file has {self.layout.points} and {self.layout.features}"
            )
        values = {
            **{name: getattr(mouth, name).encode("utf-8") for name in _TEXTS},
            "fdi": mouth.fdi,
            "dropped": mouth.dropped,
            "points": mouth.points,
            "landmarks": mouth.landmarks,
            "exported_landmarks": mouth.exported_landmarks,
            "bolton_mm": mouth.bolton_mm,
        }
        for number, stage in enumerate(("t1", "t2")):
            values |= {f"{stage}/mask": mouth.present[number], f"{stage}/pose": mouth.pose[number]}
            if mouth.latents is not None:
                values[f"{stage}/latents"] = mouth.latents[number]
        for name, column in self._columns.items():
            column.append(values[name])
        self.rows += 1
        if self._stream.failure:
            raise self._stream.failure

    def flush(self) -> None:
        """Write the rows that do not yet fill a chunk."""
        for column in self._columns.values():
            column.flush()

    def write_record(self, name: str, value: Any) -> None:
        """Write a JSON value as a data set; HDF5 has no checksum of attributes of variable length."""
        text = np.frombuffer(json.dumps(value).encode("utf-8"), np.uint8)
        self._file.create_dataset(name, data=text, chunks=text.shape, track_times=False, fletcher32=True)


@contextmanager
def create(path: str | Path, layout: Layout, attributes: dict[str, Any]) -> Iterator[MouthWriter]:
    """Open a file for writing; `path` appears when the block has ended without an error.

    The same mouths in the same order give the same bytes.
    """
    with exclusive(path), replacing(path) as part, TellsLater(part, "w+") as stream:
        try:
            # From version 1.10 on HDF5 has checksums of its own structures too.
            with h5py.File(stream, "w", rdcc_nbytes=_CHUNK_CACHE, libver=("v110", "v110")) as file:
                _keep_little(file)
                file.attrs["format_version"] = FORMAT_VERSION
                file.attrs["slots"] = np.array(SLOTS, dtype=np.int64)
                file.attrs["landmark_names"] = _ascii(LANDMARK_NAMES)
                if layout.exported:
                    file.attrs["exported_landmark_names"] = _ascii(EXPORTED_NAMES)
                for name, value in sorted(attributes.items()):
                    # Texts of fixed width, which HDF5's checksums cover.
                    fixed = np.bytes_(value.encode("utf-8")) if isinstance(value, str) else value
                    file.attrs[name] = fixed if len(fixed) else ""
                writer = MouthWriter(file, layout, stream)
                yield writer
                writer.flush()
        finally:
            if stream.failure:
                raise stream.failure


def _ascii(names: Sequence[str]) -> NDArray[np.bytes_]:
    return np.array([name.encode("ascii") for name in names])


def require_shards(stores: Sequence["MouthStore"], names: Sequence[str]) -> None:
    """Check that the files are exactly the shards `names` of params.yaml; raises DentalignError if not."""
    found = [str(store.attributes["shard"]) for store in stores]
    if sorted(found) != sorted(names):
        raise DentalignError(
            f"`shards` in params.yaml lists {len(names)} names ({', '.join(names)}), but the files are "
            f"those of {len(found)} shards ({', '.join(found)}): run `dvc repro`"
        )


class MouthStore:
    """HDF5 file of mouths, open for reading.

    layout     : number of points and features of its teeth
    attributes : attributes of the file, texts as str
    case_ids   : case id of each row
    splits     : split of each row: train, val or test
    planners   : code of who planned each row, "" if unknown
    """

    def __init__(self, path: str | Path):
        """Open the file; raises DentalignError where it is unreadable, damaged or of another format."""
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
        self.attributes: dict[str, Any] = {
            name: value.decode("utf-8") if isinstance(value, bytes) else value
            for name, value in self._file.attrs.items()
        }
        version = self.attributes.get("format_version")
        if version != FORMAT_VERSION:
            raise DentalignError(
                f"{self.path}: format_version {version}, this program reads {FORMAT_VERSION}; "
                "`dvc repro` makes it again, or use the program that made it"
            )
        features = self._file["t1/latents"].shape[-1] if "t1/latents" in self._file else 0
        self.layout = Layout(self._file["points"].shape[2], features, "bolton_mm" in self._file)
        # Open once: to look one up in the file takes ten times as long as to read a row of it.
        self._columns: dict[str, h5py.Dataset] = {name: self._file[name] for name in self.layout.columns()}
        self.case_ids, self.splits, self.planners = (
            [text.decode("utf-8") for text in self.column(name)] for name in _TEXTS
        )

    def __len__(self) -> int:
        return len(self.case_ids)

    def __enter__(self) -> "MouthStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def column(self, name: str, rows: NDArray[np.intp] | slice = slice(None)) -> NDArray[Any]:
        """Read one column, for increasing row numbers or all rows; raises DentalignError if damaged."""
        with self._named():
            return np.asarray(self._columns[name][rows])

    def mouth(self, index: int, *, latents: bool = True) -> Mouth:
        """Read one mouth, with latents if the file has them and `latents` is True; raises as `column`."""
        index = range(len(self))[index]
        row = slice(index, index + 1)
        several = self.mouths(row, latents=latents and bool(self.layout.features))
        names = ("exported_landmarks", "bolton_mm") if self.layout.exported else ()
        exported = {name: self.column(name, row)[0] for name in names}
        return Mouth(
            several.points[0],
            several.pose[0],
            several.present[0],
            self.column("fdi", row)[0],
            self.column("dropped", row)[0],
            None if several.latents is None else several.latents[0],
            self.case_ids[index],
            self.splits[index],
            self.planners[index],
            self.column("landmarks", row)[0],
            **exported,
        )

    def mouths(self, rows: NDArray[np.intp] | slice = slice(None), *, latents: bool = False) -> Mouths:
        """Read mouths of increasing row numbers, perhaps with latents (float16); raises as `column`."""

        def both(name: str) -> NDArray[Any]:
            return np.stack([self.column(f"{stage}/{name}", rows) for stage in ("t1", "t2")], axis=1)

        found = both("latents") if latents else None
        return Mouths(self.column("points", rows), both("pose"), self.present(rows), found)

    def present(self, rows: NDArray[np.intp] | slice = slice(None)) -> NDArray[np.bool_]:
        """Read the slots with a tooth at T1 and at T2, (N, 2, 32) bool, for increasing row numbers."""
        return np.stack([self.column(f"{stage}/mask", rows) for stage in ("t1", "t2")], axis=1)

    def rows_of(self, split: str) -> NDArray[np.intp]:
        """Row numbers of the mouths of a split, increasing."""
        return np.flatnonzero(np.array(self.splits, dtype=str) == split)

    def record(self, name: str) -> Any:
        """Read a JSON value written by `MouthWriter.write_record`; raises DentalignError if it is damaged."""
        with self._named():
            return json.loads(self._file[name][:].tobytes())

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the file in whatever error HDF5 raises over damage."""
        try:
            yield
        except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
            reason = f"{type(error).__name__} on reading"
            raise DentalignError(
                f"{self.path}: damaged, {reason}; delete it, then `dvc repro` makes it again"
            ) from error


def _keep_little(file: h5py.File) -> None:
    config = file.id.get_mdc_config()
    config.set_initial_size = True
    config.initial_size = config.min_size = config.max_size = _DIRECTORY_CACHE
    file.id.set_mdc_config(config)

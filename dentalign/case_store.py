"""HDF5 files with one row a case: clouds, latents, and the shards joined.

Frames and units: `points` tooth-local mm; `t1/pose`, `t2/pose` tooth-local -> head, mm; absent
teeth are masked out and their numbers are zero (poses: identity).
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

from dentalign.atomic import replacing
from dentalign.errors import DentalignError
from dentalign.locks import exclusive
from dentalign.teeth import SLOT_COUNT, SLOTS

FORMAT_VERSION = 1

Row = dict[str, Any]

_TEXT = h5py.string_dtype("utf-8")


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


class CaseWriter:
    """Appends rows; memory does not grow with their number."""

    def __init__(self, file: h5py.File, layout: Layout):
        self._file = file
        self._columns = {}
        for name, (shape, dtype) in layout.columns().items():
            width = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
            chunk = max(1, min(64, 262_144 // max(width, 1)))
            self._columns[name] = file.create_dataset(
                name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(chunk, *shape), track_times=False
            )
        self.rows = 0

    def append(self, row: Row) -> None:
        """Add one case; `row` holds exactly the layout's columns."""
        if row.keys() != self._columns.keys():
            raise ValueError(f"a row needs the columns {sorted(self._columns)}, got {sorted(row)}")
        for name, dataset in self._columns.items():
            dataset.resize(self.rows + 1, axis=0)
            dataset[self.rows] = row[name]
        self.rows += 1

    def set_attribute(self, name: str, value: str) -> None:
        """Add an attribute that is known only after the rows."""
        self._file.attrs[name] = value


@contextmanager
def create(path: str | Path, layout: Layout, attributes: dict[str, Any]) -> Iterator[CaseWriter]:
    """Write a file, all or nothing; the same rows in the same order give the same bytes."""
    with exclusive(path), replacing(path) as part, h5py.File(part, "w") as file:
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["slots"] = np.array(SLOTS, dtype=np.int64)
        for name, value in sorted(attributes.items()):
            file.attrs[name] = value
        yield CaseWriter(file, layout)


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
        version = self._file.attrs.get("format_version")
        if version != FORMAT_VERSION:
            self.close()
            raise DentalignError(f"{path}: format_version {version}, this program reads {FORMAT_VERSION}")
        self.attributes: dict[str, Any] = dict(self._file.attrs)
        self.case_ids: list[str] = [value.decode("utf-8") for value in self._file["case_id"][:]]
        self.splits: list[str] = [value.decode("utf-8") for value in self._file["split"][:]]
        features = self._file["t1/latents"].shape[-1] if "t1/latents" in self._file else 0
        self.layout = Layout(self._file["points"].shape[2], features)

    def __len__(self) -> int:
        return len(self.case_ids)

    def __enter__(self) -> "CaseStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def row(self, index: int) -> Row:
        """All columns of one case."""
        row: Row = {name: self._file[name][index] for name in self.layout.columns()}
        row["case_id"], row["split"] = self.case_ids[index], self.splits[index]
        return row

    def column(self, name: str, rows: NDArray[np.intp] | slice = slice(None)) -> NDArray[Any]:
        """One column for increasing row numbers, or for all."""
        return np.asarray(self._file[name][rows])

    def rows_of(self, split: str) -> NDArray[np.intp]:
        """Row numbers of a split, increasing."""
        return np.flatnonzero(np.array(self.splits) == split)

    def json_attribute(self, name: str) -> Any:
        """An attribute that holds JSON."""
        return json.loads(self.attributes[name])

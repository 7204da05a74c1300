"""CSV tables in UTF-8 with a heading: written all or nothing, read with the heading checked."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from dentalign.errors import DentalignError
from dentalign.files import atomic


def text(columns: Sequence[str], rows: Iterable[Mapping[str, object] | Sequence[object]]) -> str:
    """Format a table as CSV.

    rows   : values in the order of the columns, or by column name; a missing name is an empty cell
    raises : ValueError where a row names another column
    """
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(row if isinstance(row, Mapping) else dict(zip(columns, row, strict=True)))
    return out.getvalue()


def write(
    path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, object] | Sequence[object]]
) -> None:
    """Write a table, all or nothing; see `text`."""
    atomic.write_text(path, text(columns, rows))


def read(path: str | Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, {column: value}) of each row that is not blank, values stripped.

    A byte-order mark and semicolons in place of commas are taken, as spreadsheets write them.

    required : columns that must be in the heading
    raises   : DentalignError where the file cannot be read, is no CSV, or lacks a required column
    """
    try:
        content = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        kind = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise DentalignError(f"{path}: the table cannot be read: {kind}") from error
    first_line = content.partition("\n")[0]
    delimiter = ";" if ";" in first_line and "," not in first_line else ","  # Excel in some languages
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter)
    try:
        columns = [name.strip() for name in next(reader, [])]
        if missing := [name for name in required if name not in columns]:
            raise DentalignError(f"{path}: the first line must name the column {' and '.join(missing)}")
        for values in reader:
            if any(value.strip() for value in values):
                padded = values + [""] * (len(columns) - len(values))
                yield (
                    reader.line_num,
                    {name: value.strip() for name, value in zip(columns, padded, strict=False)},
                )
    except csv.Error as error:
        raise DentalignError(f"{path}: line {reader.line_num}: not CSV: {error}") from error

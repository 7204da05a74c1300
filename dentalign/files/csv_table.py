"""CSV tables in UTF-8 with column names in the first line, which are checked when a table is read."""

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

    Tables saved by spreadsheets can be read: byte order mark, commas, semicolons or tabs. Column names are
    converted to lower case.

    required : names of columns that must be there
    raises   : DentalignError if the file cannot be read, is not CSV, lacks a required column, or has a column
               twice; also for a value over several lines, because a quote that is not closed swallows rows
    """
    try:
        content = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        kind = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise DentalignError(f"{path}: the table cannot be read: {kind}") from error
    first = int(content[:4].lower() == "sep=")  # Excel's own line
    heading = "".join(content.splitlines()[first : first + 1])
    # Excel writes semicolons in some languages, and tabs as "Unicode text".
    delimiter = next((mark for mark in ",;\t" if mark in heading), ",")
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    latest = 0  # line in which the row before the current one ends
    try:
        for _ in range(first):
            next(reader)
        columns = [name.strip().lower() for name in next(reader, [])]
        if missing := [name for name in required if name not in columns]:
            raise DentalignError(f"{path}: the first line must name the column {' and '.join(missing)}")
        if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
            raise DentalignError(
                f"{path}: the first line names the column {twice[0]} twice; remove one of the two columns"
            )
        latest = reader.line_num
        for values in reader:
            if reader.line_num > latest + 1:
                raise DentalignError(
                    f"{path}: line {latest + 1}: a quoted value goes on over {reader.line_num - latest} "
                    "lines; close the quote, or take the line break out of the value"
                )
            latest = reader.line_num
            if any(value.strip() for value in values):
                padded = values + [""] * (len(columns) - len(values))
                yield latest, {name: value.strip() for name, value in zip(columns, padded, strict=False)}
    except csv.Error as error:
        seen = f"{path}: line {latest + 1}: not CSV ({error})"
        if reader.line_num > latest + 1 or "unexpected end" in str(error):
            seen += "; a quoted value begins there and is never closed: close the quote"
        raise DentalignError(seen) from error

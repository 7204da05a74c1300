"""Tables that a command prints: drawn on a terminal, else separated by tabs."""

from collections.abc import Iterable, Sequence
from typing import IO


def show(columns: Sequence[str], rows: Iterable[Sequence[object]], stream: IO[str]) -> None:
    """Print rows under their column names: a table on a terminal, else tab-separated text."""
    texts = [[" ".join(str(cell).split()) for cell in row] for row in rows]
    if not stream.isatty():
        stream.writelines("\t".join(row) + "\n" for row in (columns, *texts))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns)
    for row in texts:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=stream).print(table)

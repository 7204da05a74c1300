"""Stage shard_code: the code of a stage that runs once a shard -> one file that its shards depend on."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import atomic, command
from dentalign.reached_modules import ROOT, checksums


def main(
    stages: Annotated[list[str], typer.Argument(help="Names of the stages.")],
    out: Annotated[Path, typer.Option(help="Folder for a list of files and their checksums each.")] = Path(
        "data/code"
    ),
) -> None:
    """List the files that each stage's script reaches by its imports, with their SHA-256."""
    for stage in stages:
        atomic.write_text(out / f"{stage}.txt", checksums(ROOT / "stages" / f"{stage}.py", ROOT))


if __name__ == "__main__":
    command.run(main)

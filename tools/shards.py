"""Write the number of shards into params.yaml (`shards`) and dvc.yaml (deps and commands of two stages).

    python -m tools.shards 16

A case's shard depends on its id and on the list of shards: another number makes every shard stale.
"""

import re
import sys
from pathlib import Path

from dentalign.files.atomic import write_text

_FILES = re.compile(
    r"(?P<indent> +)- data/(?P<kind>\w+)/\$\{shards\[0\]\}\.h5\n(?: +- data/\w+/\$\{shards\[\d+\]\}\.h5\n)*"
)
_COUNT = re.compile(r"--shards \d+")
_NAMES = re.compile(r"^shards: \[[^\]]*\]", re.MULTILINE)


def set_shards(root: Path, count: int) -> None:
    """Rewrite both files under `root` for `count` shards, shard-000 and on."""
    params, pipeline = root / "params.yaml", root / "dvc.yaml"
    names = ", ".join(f"shard-{number:03d}" for number in range(count))

    def files(found: re.Match[str]) -> str:
        line = f"{found['indent']}- data/{found['kind']}/${{shards[%d]}}.h5\n"
        return "".join(line % number for number in range(count))

    write_text(params, _NAMES.sub(f"shards: [{names}]", params.read_text(encoding="utf-8")))
    text = _FILES.sub(files, pipeline.read_text(encoding="utf-8"))
    write_text(pipeline, _COUNT.sub(f"--shards {count}", text))


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal() or not 0 < int(sys.argv[1]) < 1000:
        sys.exit("usage: python -m tools.shards NUMBER (1 to 999)")
    set_shards(Path(), int(sys.argv[1]))

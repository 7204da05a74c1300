"""Rooms of the package and what each is built on, read from the imports and drawn.

    python -m tools.module_layers        # writes docs/pictures/module-layers.svg

A room is a folder of dentalign/, or a module beside the folders that imports one or belongs to one user. The
others beside the folders (errors, numbering, params, teeth) are open to every room and drawn as one bar.
"""

import ast
import functools
import textwrap
from itertools import pairwise
from pathlib import Path

from dentalign.running.stage_code import ROOT, imported

PICTURE = ROOT / "docs" / "pictures" / "module-layers.svg"
PACKAGE = ROOT / "dentalign"
WIDTH, HEIGHT, GAP, LINE_GAP, ROW_GAP, MARGIN = 214, 76, 26, 34, 34, 16
Graph = dict[str, set[str]]
Rows = list[list[str]]


@functools.cache
def imports() -> dict[Path, list[Path]]:
    """Return the modules of the package that each of its modules imports."""
    return {file: imported(file) for file in sorted(PACKAGE.rglob("*.py"))}


def parts() -> dict[str, list[Path]]:
    """Return the modules of each room, by its name."""
    rooms: dict[str, list[Path]] = {}
    for file in sorted(PACKAGE.glob("*/**/*.py")):
        rooms.setdefault(file.relative_to(PACKAGE).parts[0], []).append(file)
    alone = [file for file in sorted(PACKAGE.glob("*.py")) if not file.name.startswith("__")]
    in_rooms = {file: name for name, files in rooms.items() for file in files}
    for file in alone:
        users = [other for other in (*alone, *in_rooms) if file in imports()[other]]
        if any(other in in_rooms for other in imports()[file]) or len(users) < 2:
            rooms[file.stem] = [file]
    return rooms


def uses() -> Graph:
    """Return the rooms that the modules of each room import, at the top of a module or inside a function."""
    of = {file: name for name, files in parts().items() for file in files}
    return {
        name: {of[other] for file in files for other in imports()[file] if other in of} - {name}
        for name, files in parts().items()
    }


def built_on(graph: Graph) -> Graph:
    """Remove the edges that follow from others (transitive reduction).

    raises: ValueError if rooms import each other in a circle
    """

    def below(name: str, above: tuple[str, ...] = ()) -> set[str]:
        if name in above:
            raise ValueError(f"a circle: {' -> '.join((*above, name))}")
        return graph[name].union(*(below(other, (*above, name)) for other in graph[name]))

    return {name: others - set().union(*(below(other) for other in others)) for name, others in graph.items()}


def layers(graph: Graph) -> Rows:
    """Return the rows of rooms from the bottom up, each room above all that it uses, lines kept short."""
    low: dict[str, int] = {}
    while len(low) < len(graph):
        for name, others in graph.items():
            if name not in low and others <= low.keys():
                low[name] = max((low[other] + 1 for other in others), default=0)
    height = dict(low)
    reduced = built_on(graph)
    for name in sorted(graph, key=low.__getitem__, reverse=True):  # users first
        users = [other for other in graph if name in graph[other]]
        near_users = sum(name in others for others in reduced.values()) > len(reduced[name])
        if users and near_users:
            height[name] = min(height[user] for user in users) - 1
    return [sorted(n for n in graph if height[n] == level) for level in range(max(height.values()) + 1)]


def routed(graph: Graph, rows: Rows) -> tuple[Rows, list[tuple[str, str]]]:
    """Split lines over several rows into pieces from row to row.

    returns : the rows with a bend ("user>room@row") where a line passes; pairs (upper, lower)
    """
    level = {name: number for number, row in enumerate(rows) for name in row}
    all_rows, pieces = [list(row) for row in rows], []
    for name in sorted(graph):
        for other in sorted(graph[name]):
            bends = [f"{name}>{other}@{number}" for number in range(level[name] - 1, level[other], -1)]
            for bend in bends:
                all_rows[int(bend.split("@")[1])].append(bend)
            pieces += list(pairwise([name, *bends, other]))
    return all_rows, pieces


def places(rows: Rows, pieces: list[tuple[str, str]]) -> dict[str, float]:
    """Return the x of the centre of each room and bend: near those it is joined to, none over another."""
    joined: Graph = {name: set() for row in rows for name in row}
    for upper, lower in pieces:
        joined[upper].add(lower)
        joined[lower].add(upper)
    x = {name: float(number * WIDTH) for row in rows for number, name in enumerate(row)}
    for sweep in range(200):  # barycentres, downwards and upwards in turn
        for row in rows[:: (1, -1)[sweep % 2]]:
            wanted = {name: _mean([x[other] for other in joined[name]] or [x[name]]) for name in row}
            row.sort(key=lambda name: (wanted[name], name))
            for left, name in zip([None, *row], row, strict=False):
                x[name] = wanted[name] if left is None else max(wanted[name], x[left] + _apart(left, name))
            shift = _mean([wanted[name] - x[name] for name in row])
            x |= {name: x[name] + shift for name in row}
    middles = [_mean([x[name] for name in row]) for row in rows]
    lean = (middles[-1] - middles[0]) / max(1, len(rows) - 1)
    return {name: x[name] - lean * number for number, row in enumerate(rows) for name in row}


def drawing() -> str:
    """Return the picture as SVG."""
    rows, pieces = routed(built_on(uses()), layers(uses()))
    x = places(rows, pieces)
    left, right = min(x.values()) - WIDTH / 2, max(x.values()) + WIDTH / 2
    y = {
        name: MARGIN + (len(rows) - 1 - n) * (HEIGHT + ROW_GAP) for n, row in enumerate(rows) for name in row
    }
    x = {name: value - left + MARGIN for name, value in x.items()}
    wide, base = right - left + 2 * MARGIN, MARGIN + len(rows) * (HEIGHT + ROW_GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {base + HEIGHT + MARGIN}" '
        'font-family="sans-serif" font-size="15" text-anchor="middle">',
        '<rect width="100%" height="100%" rx="8" fill="#ffffff"/>',
        '<g fill="none" stroke="#7a8894" stroke-width="1.5">',
    ]
    for upper, lower in pieces:
        start, end = y[upper] + HEIGHT, y[lower]
        bend = f"{x[upper]:.0f} {start + ROW_GAP / 2:.0f} {x[lower]:.0f} {end - ROW_GAP / 2:.0f}"
        further = f" V{end + HEIGHT}" if ">" in lower else ""
        lines.append(f'<path d="M{x[upper]:.0f} {start}C{bend} {x[lower]:.0f} {end}{further}"/>')
    lines.append("</g>")
    names = {file.stem for file in PACKAGE.glob("*.py") if not file.name.startswith("__")} - x.keys()
    lines += _box(wide / 2, base, wide - 2 * MARGIN, ", ".join(sorted(names)), ["open to every room"])
    for name in sorted(name for name in x if ">" not in name):
        lines += _box(x[name], y[name], WIDTH, name, _about(name))
    return "\n".join([*lines, "</svg>", ""])


def _about(name: str) -> list[str]:
    """Return the first sentence of a room's docstring in up to three lines."""
    folder = PACKAGE / name / "__init__.py"
    file = folder if folder.exists() else PACKAGE / f"{name}.py"
    text = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    sentence = " ".join(text.split()).split(". ")[0].rstrip(".")
    return textwrap.wrap(sentence, 38, max_lines=3, placeholder=" ...")


def _box(x: float, y: float, wide: float, name: str, about: list[str]) -> list[str]:
    rect = f'<rect x="{x - wide / 2:.0f}" y="{y}" width="{wide:.0f}" height="{HEIGHT}" rx="6"'
    texts = [f'<text x="{x:.0f}" y="{y + 20}" fill="#1c2a35">{name}</text>']
    texts += [
        f'<text x="{x:.0f}" y="{y + 37 + 14 * number}" font-size="11" fill="#4a5a66">{_escaped(line)}</text>'
        for number, line in enumerate(about)
    ]
    return [f'{rect} fill="#eaf1f6" stroke="#3f6f9f"/>', *texts]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _apart(left: str, right: str) -> float:
    """Return the least distance of two centres in a row; a bend is a line without width."""
    boxes = sum(">" not in name for name in (left, right))
    return boxes * WIDTH / 2 + (LINE_GAP if boxes < 2 else GAP)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")

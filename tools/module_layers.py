"""The parts of the package and what each is built on, read from the imports and drawn.

A part is a package of dentalign, or the command. A module that a package could not hold without a circle is
a part of its own. The modules at the top of dentalign (errors, teeth, params, ...), which everything may use,
are left out. Run as a script it draws docs/pictures/module-layers.svg.
"""

from pathlib import Path

from dentalign.running.stage_code import ROOT, imported

PICTURE = ROOT / "docs" / "pictures" / "module-layers.svg"
OWN_PART = {name: f"dentalign/{name}.py" for name in ("check", "cli", "repair", "settings")}
WIDTH, HEIGHT, APART, MARGIN = 130, 38, 36, 16


def parts() -> dict[str, list[Path]]:
    """Name -> modules."""
    found: dict[str, list[Path]] = {}
    for file in sorted((ROOT / "dentalign").rglob("*.py")):
        own = file.relative_to(ROOT).as_posix()
        apart = [name for name, path in OWN_PART.items() if path == own]
        if apart or len(file.relative_to(ROOT).parts) > 2:
            found.setdefault(apart[0] if apart else file.relative_to(ROOT).parts[1], []).append(file)
    return found


def uses() -> dict[str, set[str]]:
    """Part -> parts that its modules import, at the top or later."""
    of = {file: name for name, files in parts().items() for file in files}
    return {
        name: {of[other] for file in files for other in imported(file) if other in of} - {name}
        for name, files in parts().items()
    }


def built_on(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same without what follows from the rest: what a part uses is left out where one that it uses does.

    raises: ValueError where parts use each other in a circle
    """

    def all_below(name: str, above: tuple[str, ...] = ()) -> set[str]:
        if name in above:
            raise ValueError(f"a circle: {' -> '.join((*above, name))}")
        deeper = (all_below(other, (*above, name)) for other in graph[name])
        return graph[name].union(*deeper)

    return {
        name: others - set().union(*(all_below(other) for other in others)) for name, others in graph.items()
    }


def layers(graph: dict[str, set[str]]) -> list[list[str]]:
    """The parts from the bottom up, each above all that it uses."""
    height: dict[str, int] = {}
    while len(height) < len(graph):
        for name, others in graph.items():
            if name not in height and others <= height.keys():
                height[name] = max((height[other] + 1 for other in others), default=0)
    return [sorted(n for n in graph if height[n] == level) for level in range(max(height.values()) + 1)]


def drawing() -> str:
    """The picture, as SVG."""
    graph, rows = built_on(uses()), layers(uses())
    left: dict[str, float] = {}
    for row in rows:  # each above the middle of what it is built on, as far as there is room
        wanted = {name: _mean([left[other] for other in graph[name]]) for name in row}
        row.sort(key=lambda name: (wanted[name], name))
        for number, name in enumerate(row):
            left[name] = max(wanted[name], left[row[number - 1]] + WIDTH + APART if number else wanted[name])
        shift = _mean([wanted[name] - left[name] for name in row])
        left |= {name: left[name] + shift for name in row}
    first, high = min(left.values()), len(rows) * (HEIGHT + APART) - APART
    wide = max(left.values()) - first + WIDTH
    place = {
        name: (MARGIN + left[name] - first, MARGIN + high - HEIGHT - level * (HEIGHT + APART))
        for level, row in enumerate(rows)
        for name in row
    }
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide + 2 * MARGIN:g} {high + 2 * MARGIN}" '
        'font-family="sans-serif" font-size="15" text-anchor="middle">',
        '<rect width="100%" height="100%" rx="8" fill="#ffffff"/>',
    ]
    for name, others in sorted(graph.items()):
        for other in sorted(others):
            (x, y), (to_x, to_y) = place[name], place[other]
            lines.append(
                f'<line x1="{x + WIDTH / 2:g}" y1="{y + HEIGHT:g}" x2="{to_x + WIDTH / 2:g}" y2="{to_y:g}" '
                'stroke="#7a8894" stroke-width="1.5"/>'
            )
    for name, (x, y) in sorted(place.items()):
        lines.append(
            f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#eaf1f6" '
            'stroke="#3f6f9f"/>'
        )
        lines.append(f'<text x="{x + WIDTH / 2:g}" y="{y + 24:g}" fill="#1c2a35">{name}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")

"""For the API reference: our docstrings, which say `name : meaning` line by line, as Markdown lists."""

import re
from typing import Any

import griffe

ITEM = re.compile(r"^([a-z]\w*|\w[^:`]{0,60}?\s+): (.*)$")


class DocstringLists(griffe.Extension):  # type: ignore[misc]  # untyped where griffe is not installed
    """Rewrites every docstring before it is rendered."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """The docstring with its `name : meaning` lines as items, and "<" as text outside of backquotes."""
    lines: list[str] = []
    in_list = False
    for line in docstring.splitlines():
        item = ITEM.match(line)
        if item and (in_list or not lines or not lines[-1].strip()):
            lines.append(f"- **{item[1].rstrip()}**: {item[2]}")
            in_list = True
        elif in_list and line.startswith(" "):
            lines.append(f"    {line.strip()}")  # goes on
        else:
            if in_list and line.strip():
                lines.append("")
            in_list = False
            lines.append(line)
    parts = re.split(r"(`[^`]*`)", "\n".join(lines))
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)

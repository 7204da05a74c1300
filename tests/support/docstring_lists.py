"""Griffe extension for the API reference: lines `name : meaning` of a docstring become a Markdown list."""

import re
from typing import Any

import griffe

ITEM = re.compile(r"^([a-z]\w*|\w[^:`]{0,60}?\s+): (.*)$")


class DocstringLists(griffe.Extension):  # type: ignore[misc]  # untyped where griffe is not installed
    """Rewrites every docstring before it is rendered."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute; griffe calls this for each."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """Docstring with its `name : meaning` lines as list items; "<" outside of backquotes is escaped."""
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

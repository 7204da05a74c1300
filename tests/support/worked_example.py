"""Carries out a page of docs/extending, block by block, in a copy of the project: page and code cannot part.

A block's language, and its title where it has one, say what it is:

- with the title "params.yaml": values that are put into that file
- with another title: the file of that name
- `diff`: a change to files that are there, for `git apply`
- `sh`: commands, run at the top of the repository
- `text`: what the commands before it print, in this order, perhaps with more between
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from tests.support.pipeline_project import Project
from tests.support.repository import ROOT


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', page.read_text("utf-8"), re.M | re.S)
    return [Block(*parts) for parts in found]


def carry_out(page: str, project: Project, instead: Mapping[str, str] = MappingProxyType({})) -> str:
    """Do what `docs/extending/<page>` says; returns all that its commands printed.

    The user's cases are at `../cases` for the page, as they are in the README.

    instead : commands -> shorter ones, for a quick run
    """
    root = project.root
    (root / "docs").mkdir(exist_ok=True)
    (root / "docs" / "metrics.md").write_bytes((ROOT / "docs" / "metrics.md").read_bytes())
    (root.parent / "cases").symlink_to(root / "cases")
    printed, latest = "", ""
    for block in blocks(ROOT / "docs" / "extending" / page):
        if block.title == "params.yaml":
            _set_all(project, yaml.safe_load(block.text))
        elif block.title:
            (root / block.title).parent.mkdir(parents=True, exist_ok=True)
            (root / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "diff":
            patch = root.parent / "block.diff"
            patch.write_text(block.text, encoding="utf-8")
            project.run("git", "apply", "--verbose", str(patch))
        elif block.language == "sh":
            commands = block.text
            for words, others in instead.items():
                commands = commands.replace(words, others)
            latest = project.run("bash", "-euc", commands).stdout
            printed += latest
        elif block.language == "text":
            wanted = ".*".join(re.escape(" ".join(line.split())) for line in block.text.splitlines())
            assert re.search(wanted, " ".join(latest.split())), f"wanted:\n{block.text}\ngot:\n{latest}"
        else:
            raise ValueError(f"{page}: nobody knows what to do with a block of {block.language}")
    return printed


def _set_all(project: Project, values: dict[str, Any]) -> None:
    file = project.root / "params.yaml"
    document = yaml.safe_load(file.read_text(encoding="utf-8"))

    def put(into: dict[str, Any], given: dict[str, Any]) -> None:
        for name, value in given.items():
            if isinstance(value, dict) and isinstance(into.get(name), dict):
                put(into[name], value)
            else:
                into[name] = value

    put(document, values)
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

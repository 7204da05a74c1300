"""docs/what-is-left-out.md names exactly the reason codes that the source can give, each with its fix."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from dentalign.cases import crown_check, frame_check

ROOT = Path(__file__).resolve().parents[2]
MAKERS = {"CaseDefect", "ToothDefect", "Unreachable", "defect", "_defect"}
CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def constants(node: ast.expr | None) -> Iterator[str]:
    """The codes that an expression may be; "jaw_*" for a text that begins so and goes on."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        first = node.values[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield f"{first.value}*"
    elif isinstance(node, ast.IfExp):
        yield from constants(node.body)
        yield from constants(node.orelse)
    elif isinstance(node, ast.Tuple):
        yield from constants(node.elts[0])


def codes_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in MAKERS and node.args:
                yield from constants(node.args[0])
        elif isinstance(node, ast.Assign):
            target = node.targets[0]
            first = target.elts[0] if isinstance(target, ast.Tuple) else target
            if isinstance(first, ast.Name) and first.id == "code":
                yield from constants(node.value)
        elif isinstance(node, ast.FunctionDef) and node.name == "_broken":
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return):
                    yield from constants(inner.value)


def in_the_source() -> set[str]:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "dentalign").rglob("*.py")]
    return {code for tree in trees for code in codes_of(tree)} | set(frame_check.CODES + crown_check.CODES)


def in_the_docs() -> dict[str, tuple[str, str]]:
    text = (ROOT / "docs" / "what-is-left-out.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9_]+\*?)` \| (.+) \| (.+) \|$", text, re.M)
    assert len(rows) == len({code for code, _, _ in rows}), "a code stands twice"
    return {code: (meaning, fix) for code, meaning, fix in rows}


def test_the_table_has_exactly_the_codes_of_the_source() -> None:
    assert set(in_the_docs()) == in_the_source()


def test_every_code_has_a_meaning_and_a_fix() -> None:
    for code, cells in in_the_docs().items():
        assert all(len(cell) > 4 for cell in cells), code


def test_the_codes_of_the_frame_checks_are_those_it_yields() -> None:
    tree = ast.parse((ROOT / "dentalign" / "cases" / "frame_check.py").read_text(encoding="utf-8"))
    given = set(codes_of(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Yield | ast.Return) and isinstance(node.value, ast.Tuple):
            given |= set(constants(node.value))
    assert given == {*frame_check.CODES, "tooth_far_off", "tooth_turned"}  # the last two of one tooth


def test_the_codes_of_the_crown_checks_are_those_it_yields() -> None:
    tree = ast.parse((ROOT / "dentalign" / "cases" / "crown_check.py").read_text(encoding="utf-8"))
    flips = {crown_check.TURNED, crown_check.MIRRORED, crown_check.UPSIDE_DOWN}
    assert set(codes_of(tree)) | flips == set(crown_check.CODES)

"""Coverage-guided fuzzing of the two parsers of foreign bytes, with atheris (libFuzzer).

    python -m pip install '.[fuzz]'
    cd tests/fuzz
    python fuzz_parsers.py case_document -runs=200000 -seed=1 NEW_CORPUS corpus/case_document
    python fuzz_parsers.py stl -runs=200000 -seed=1 NEW_CORPUS corpus/stl

libFuzzer's options follow the target's name; what it finds goes into the first folder. An input that ends in
anything but a result or a Defect is a crash, and is written into the working folder.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

if __name__ == "__main__":
    import atheris

    with atheris.instrument_imports(include=["dentalign"]):
        from dentalign.cases import case_document, slots
        from dentalign.cases.exported_points import WIDTH_MM, with_exported
        from dentalign.cases.findings import Findings
        from dentalign.cases.poses import stage_poses
        from dentalign.errors import CaseDefect, ToothDefect
        from dentalign.geometry import stl
        from dentalign.mouth import Mouth
else:
    from dentalign.cases import case_document, slots
    from dentalign.cases.exported_points import WIDTH_MM, with_exported
    from dentalign.cases.findings import Findings
    from dentalign.cases.poses import stage_poses
    from dentalign.errors import CaseDefect, ToothDefect
    from dentalign.geometry import stl
    from dentalign.mouth import Mouth


def one_document(data: bytes) -> None:
    """Bytes are a case or a CaseDefect; a case keeps what it says when it is written and read again."""
    for keep in ((), tuple(case_document.POINTS)):
        try:
            document = case_document.parse(data, "c1", keep=keep)
            written = case_document.canonical(document)
            assert case_document.canonical(case_document.parse(written, "c1", keep=keep)) == written
            json.loads(written, parse_constant=_refuse)
            mouth = slots.place(slots.without_rivals(stage_poses(document, require_t2=False)))
        except CaseDefect:
            continue
        mouth = with_exported(mouth, document, "", "+y", Findings("c1", "fuzz"))
        _is_sound(mouth)


def _is_sound(mouth: Mouth) -> None:
    assert np.isfinite(mouth.pose).all()
    points, widths = mouth.exported_landmarks, mouth.bolton_mm
    assert np.abs(points[np.isfinite(points)]).max(initial=0) <= case_document.LARGEST_LOCAL_MM
    assert (np.isnan(widths) | ((widths >= WIDTH_MM[0]) & (widths <= WIDTH_MM[1]))).all()
    assert (mouth.fdi[mouth.present.any(0)] > 0).all()


def one_mesh(data: bytes) -> None:
    """Bytes are triangles or a ToothDefect; without its free text a mesh has the same triangles."""
    try:
        triangles = stl.read_triangles(data, file="c1/11.stl", tooth=11)
    except ToothDefect:
        return
    assert triangles.ndim == 3
    assert triangles.shape[1:] == (3, 3)
    assert len(triangles)
    assert np.isfinite(triangles).all()
    plain = stl.without_text(data)
    assert stl.without_text(plain) == plain
    again = stl.read_triangles(plain, file="c1/11.stl", tooth=11)
    assert np.array_equal(again, triangles)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not legal JSON")


TARGETS: dict[str, Callable[[bytes], None]] = {"case_document": one_document, "stl": one_mesh}


def main() -> None:
    """Run libFuzzer on the target that the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz_parsers.py {{{','.join(TARGETS)}}} [libFuzzer options] [corpus folders]")
    name = sys.argv.pop(1)
    words = HERE / f"{name}.dict"
    atheris.Setup([*sys.argv, f"-dict={words}", "-timeout=20", "-rss_limit_mb=2048"], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()

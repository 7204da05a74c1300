"""docs/debugging.md, carried out as it stands: one case by hand, and DVC's outputs stay as they are."""

from tests.support.pipeline_project import FDIS, Project
from tests.support.repository import ROOT
from tests.support.worked_example import blocks

CASE = "own-001"  # in the place of the page's 1623


def test_one_case_goes_through_the_stages_by_hand_beside_the_pipeline(project: Project) -> None:
    (project.root.parent / "cases").symlink_to(project.root / "cases")
    outputs = ("data", "models", "reports", "metrics", "dvc.lock", "params.yaml")
    before, printed = project.hashes(*outputs), ""
    for block in blocks(ROOT / "docs" / "debugging.md"):
        text = block.text.replace("1623", CASE)
        words = ("bash", "-euc", text) if block.language == "sh" else ("python", "-c", text)
        printed += project.run(*words).stdout
    assert project.hashes(*outputs) == before
    made = {path.name for path in (project.root.parent / "debug").iterdir()}
    assert {"clouds.h5", "latents.h5", "out", "alignment.pt"} <= made
    numbers = printed.replace("[", " ").replace("]", " ").split()
    assert set(map(str, FDIS)) <= set(numbers)

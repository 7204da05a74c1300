"""The report that the workflow on GitHub posts: its commands are run, all but the posting."""

import re
from pathlib import Path

import yaml

from tests.support.pipeline_project import Project
from tests.support.repository import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "ci.yaml"


def test_the_report_shows_figures_what_changed_and_a_picture_that_is_there(project: Project) -> None:
    steps = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["figures"]["steps"]
    commands = next(step["run"] for step in steps if step.get("name") == "Report")
    project.set("validate.batch_cases", 4)
    metrics = project.root / "metrics" / "validation.json"
    metrics.write_text(re.sub(r'"add_vs_identity": [\d.]+', '"add_vs_identity": 0.5', metrics.read_text()))
    for name, content in {"activate": "", "cml": '#!/bin/sh\necho "$@" > posted.txt\n'}.items():
        script = project.root / ".venv" / "bin" / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(content, encoding="utf-8")
        script.chmod(0o755)
    project.run("bash", "-ec", f'export PATH="$PWD/.venv/bin:$PATH" BASE=HEAD\n{commands}')
    assert (project.root / "posted.txt").read_text() == "comment create report.md\n"

    report = (project.root / "report.md").read_text(encoding="utf-8")
    assert "mean_motion" in report  # the table
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in report.splitlines()]
    changed = {row[1]: row[3] for row in rows if len(row) > 3}
    assert changed["add_vs_identity"] == "0.5"
    assert changed["validate.batch_cases"] == "4"
    pictures = re.findall(r"!\[.*\]\((.*)\)", report)
    assert pictures
    assert all(Path(project.root, picture).is_file() for picture in pictures)

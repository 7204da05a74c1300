from dentalign.validation.report import tables
from tests.support.repository import ROOT


def test_the_readme_shows_the_table_of_the_committed_metrics() -> None:
    table = tables.format_table(tables.read(ROOT / "metrics" / "validation.json"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "\n".join(f"    {line}" for line in table.splitlines()) in readme

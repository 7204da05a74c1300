from module_reach import ROOT

from dentalign.validation import validation_table


def test_the_readme_shows_the_table_of_the_committed_metrics() -> None:
    table = validation_table.format_table(validation_table.read(ROOT / "metrics" / "validation.json"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "\n".join(f"    {line}" for line in table.splitlines()) in readme

"""Pages of the docs site: those of docs/, the README and its neighbours, with their links adapted.

On a forge, README.md links to docs/metrics.md; in the site the README is the front page, and metrics.md lies
beside it.

    python -m tools.site_pages           # writes build/site/pages, for `make docs`
"""

import os
import re
import shutil
from pathlib import Path, PurePosixPath

from dentalign.running.stage_code import ROOT

PAGES = ROOT / "build" / "site" / "pages"  # docs_dir of mkdocs.yml
FRONT = {  # in the repository -> in the site
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}


def lay_out(root: Path, pages: Path) -> None:
    """Write the pages of a repository into a folder, which is replaced as a whole.

    raises: ValueError if a page links to a file that does not exist or is not a page, such as a module
    """
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(root / "docs", pages)
    for name, there in FRONT.items():
        shutil.copy(root / name, pages / there)
    for page in sorted(pages.rglob("*.md")):
        place = page.relative_to(pages).as_posix()
        own = next((name for name, there in FRONT.items() if there == place), f"docs/{place}")
        text = page.read_text(encoding="utf-8")
        page.write_text(with_site_links(text, own, place, root), encoding="utf-8")


def with_site_links(text: str, own: str, place: str, root: Path) -> str:
    """Return the text of the repository's page `own` with links for its `place` in the site."""

    def there(link: re.Match[str]) -> str:
        target, anchor = link[1], link[2] or ""
        meant = os.path.normpath(PurePosixPath(own).parent / target)
        if not (root / meant).is_file():
            raise ValueError(f"{own} links to {meant}, which does not exist")
        if meant not in FRONT and not meant.startswith("docs/"):
            raise ValueError(f"{own} links to {meant}, which is not a page: name it in backquotes instead")
        in_site = FRONT.get(meant, meant.removeprefix("docs/"))
        return f"]({os.path.relpath(in_site, PurePosixPath(place).parent)}{anchor})"

    return re.sub(r"\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)", there, text)


if __name__ == "__main__":
    lay_out(ROOT, PAGES)

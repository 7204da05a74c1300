"""Find the page of a report, and copy reports with the git revision, which pipeline outputs do not hold."""

import html
import shutil
import subprocess
from pathlib import Path

from dentalign.errors import DentalignError
from dentalign.files import atomic
from dentalign.reports.page import REVISION_PLACE


def page_of(report: str | Path) -> Path:
    """Find the HTML file of a report; the folder itself if it has several HTML files and no `index.html`.

    raises: DentalignError if there is no report
    """
    path = Path(report)
    if path.is_file() and path.suffix.lower() == ".html":
        return path
    if not path.is_dir():
        advice = (
            "name an HTML file or a folder" if path.exists() else "`dvc repro` makes the validation report"
        )
        raise DentalignError(f"{report}: no report there; {advice}")
    pages = [path / "index.html"] if (path / "index.html").is_file() else sorted(path.rglob("*.html"))
    if not pages:
        raise DentalignError(f"{report}: holds no HTML file; `dvc repro` makes the validation report")
    return pages[0] if len(pages) == 1 else path


def export(report: str | Path, folder: str | Path) -> Path:
    """Copy a report into a new folder, and write the git revision of the original into the copied pages.

    report  : a folder: all of it is copied; an index.html: all of its folder (hidden files excepted in both);
              any other HTML file, such as the report of one patient: that file only
    folder  : a folder that does not exist; it appears when the copy is complete
    returns : the copied page, or folder, to open
    raises  : DentalignError if there is no report, or `folder` exists or is inside the report
    """
    page, path, out = page_of(report), Path(report), Path(folder)
    source = path if path.is_dir() else page.parent if page.name == "index.html" else page
    if out.exists() or out.resolve().is_relative_to(source.resolve()):
        raise DentalignError(f"{out}: exists, or is inside the report: name a new folder elsewhere")
    with atomic.replacing(out) as part:
        if source.is_dir():
            # Contents only, no modes and links: files of DVC's cache may be links, and are read-only.
            shutil.copytree(source, part, ignore=shutil.ignore_patterns(".*"), copy_function=shutil.copyfile)
        else:
            part.mkdir()
            shutil.copyfile(source, part / source.name)
        if revision := git_revision(source if source.is_dir() else source.parent):
            note = f'<p class="revision">Exported at git revision {html.escape(revision)}</p>'
            for copy in part.rglob("*.html"):
                copy.write_bytes(copy.read_bytes().replace(REVISION_PLACE.encode(), note.encode(), 1))
    return out / page.relative_to(source) if source.is_dir() else out / page.name


def git_revision(folder: Path) -> str:
    """Commit of the repository around a folder, 12 digits, and "(modified)" if tracked files differ from it.

    Returns "" if there is no git, no repository or no commit.
    """
    words = ("describe", "--always", "--exclude=*", "--abbrev=12", "--dirty= (modified)")
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *words], cwd=folder, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.strip()

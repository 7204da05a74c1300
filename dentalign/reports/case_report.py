"""The report of one case: its teeth in 3D and their figures, in one HTML file."""

from pathlib import Path

from dentalign.files import atomic
from dentalign.reports import page as reports_page
from dentalign.reports.scene import Scene


def write(path: str | Path, scene: Scene) -> None:
    """Write the report of a case as one self-contained HTML file, all or nothing.

    It opens from disk without a network. A tooth's surface is thinned to `scene_mesh.MOST_FACES`, so that
    a full mouth stays under 5 MB. The same scene gives the same bytes.
    """
    atomic.write_bytes(path, reports_page.render("case.html", [scene], case_id=scene.case_id))

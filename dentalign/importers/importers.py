"""The data sets by name."""

from dentalign.importers.beijing import Beijing
from dentalign.importers.imported_case import Importer
from dentalign.importers.teeth3ds import Teeth3DS
from dentalign.importers.teethalign3d import TeethAlign3D


def importer(name: str, matrices: str = "") -> Importer:
    """The importer of a data set; KeyError for another name.

    matrices : of teethalign3d, a reading of matrix_reading.READINGS, or "" to let the data decide
    """
    known: dict[str, Importer] = {
        "teethalign3d": TeethAlign3D(matrices),
        "beijing": Beijing(),
        "teeth3ds": Teeth3DS(),
    }
    return known[name]

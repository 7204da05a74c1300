"""The data sets by name."""

from dentalign.importing.beijing import Beijing
from dentalign.importing.imported_case import Importer
from dentalign.importing.teeth3ds import Teeth3DS
from dentalign.importing.teethalign3d import TeethAlign3D


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

"""Chart of a staged plan: in which stages each tooth moves, and where two teeth collide."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from dentalign.planning.order_of_work import Steps, runs
from dentalign.planning.staging import StagedPlan
from dentalign.prediction.new_case import NewCase
from dentalign.reports import charts
from dentalign.reports.charts import COLOURS, Chart


def chart(case: NewCase, plan: StagedPlan, found: Steps) -> Chart:
    """Draw bars over the stages in which a tooth moves, and a mark at each collision.

    Bars are dark where a step is at least half as large as the largest of the case, in mm or degrees.
    """
    fdi = case.mouth.fdi
    with charts.style():
        drawing = charts.empty(0.6 + 0.17 * len(found.slots))
        axes = drawing.subplots()
        most_mm, most_deg = (max(float(part.max(initial=0.0)), 1e-9) for part in (found.mm, found.degrees))
        speed = np.maximum(found.mm / most_mm, found.degrees / most_deg)
        for row in range(len(found.slots)):
            moves = ~found.waits[:, row]
            for moving, colour in ((moves, "line"), (moves & (speed[:, row] >= 0.5), "mean_motion")):
                bars = [(first + 0.5, last - first + 1) for first, last in runs(moving.tolist())]
                if bars:
                    axes.broken_barh(bars, (row - 0.3, 0.6), color=COLOURS[colour], linewidth=0)
        place = {slot: row for row, slot in enumerate(found.slots.tolist())}
        for collision in plan.collisions:
            ends = [place[slot] for slot in collision.slots]
            axes.plot([collision.stage] * 2, ends, color=COLOURS["model"], marker="x", linestyle="")
        axes.set_xlim(0.5, len(plan.poses) + 0.5)
        axes.set_ylim(len(found.slots) - 0.5, -0.5)
        axes.set_yticks(range(len(found.slots)), [str(fdi[slot]) for slot in found.slots.tolist()])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("stage")
        axes.grid(axis="x")
    said = f"{len(plan.poses)} stages, {len(found.slots)} teeth, {len(plan.collisions)} collisions"
    return Chart("staging", "Who moves when", f"Stages in which each tooth moves: {said}", drawing)

"""Fingerprint of a data set before training, and the drift between two data sets.

The cases are read as `dentalign check` reads them. A fingerprint holds no ids: the values of each figure are
sorted by themselves, so that no case can be put together from them.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from scipy import stats

from dentalign.alignment import registry
from dentalign.alignment.error_model import KINDS
from dentalign.alignment.familiarity import PARTS, Familiarity
from dentalign.alignment.patterns import ToothPatterns
from dentalign.cases import case_document
from dentalign.cases.settings import BuccalAxis, Fetch, Limits, Sample
from dentalign.check import CaseLocations, read_cases
from dentalign.errors import DentalignError, NothingUsable
from dentalign.files import atomic, csv_table
from dentalign.files.hashing import sha256_file
from dentalign.geometry import contacts, rigid
from dentalign.geometry.arch_fit import find_arches
from dentalign.geometry.movement import movement
from dentalign.mouth import T1, T2, Mouth, Mouths
from dentalign.reports import page
from dentalign.reports.charts import COLOURS, Chart, empty, style
from dentalign.teeth import ARCHES, SLOTS

# From there on a figure counts as different in two data sets: standardised difference, and KS statistic.
DIFFERENT_SD, DIFFERENT_KS, CHANCE = 0.5, 0.3, 0.001
UNLIKE = "unlike_training"  # figure, and head of the names of its parts: above 1 `predict` says so


class Fingerprint(BaseModel, frozen=True):
    """Fingerprint of a data set.

    counts    : numbers of cases and teeth, listed, used and left out; of patients; of cases in each split
    left_out  : reason code -> number of lines
    planners  : planner -> number of cases, of the case list; {} if it names none
    patterns  : pattern of absent and extracted teeth -> number of cases, see `ToothPatterns`
    present   : FDI number of the slot -> share of cases with that tooth at T1
    extracted : FDI number of the slot -> share of cases that extract it
    figures   : figure -> its values, one per case that has it, sorted; see `figures_of` and `unlike_training`
    models    : SHA-256 of the alignment.pt that `unlike_training` is about, hexadecimal; "" without one
    """

    format_version: int = 1
    counts: dict[str, int]
    left_out: dict[str, int]
    planners: dict[str, int]
    patterns: dict[str, int]
    present: dict[int, float]
    extracted: dict[int, float]
    figures: dict[str, list[float]]
    models: str = ""

    @property
    def unlike(self) -> dict[str, int]:
        """Number of cases that `predict` would call unlike its training, in total and by part."""
        return {
            name: sum(value > Familiarity.threshold for value in values)
            for name, values in self.figures.items()
            if name.startswith(UNLIKE)
        }


@dataclass(frozen=True)
class Drift:
    """Difference of one figure between two data sets.

    medians    : of both
    difference : difference of the means in units of the pooled standard deviation (Cohen's d)
    ks         : Kolmogorov-Smirnov statistic, largest difference of the two distribution functions, 0 to 1
    chance     : probability of such a `ks` between two samples of one distribution
    """

    figure: str
    medians: tuple[float, float]
    difference: float
    ks: float
    chance: float

    @property
    def differs(self) -> bool:
        """True if the difference is large, and hardly by chance."""
        large = abs(self.difference) >= DIFFERENT_SD or self.ks >= DIFFERENT_KS
        return large and self.chance < CHANCE


def describe(
    places: CaseLocations,
    alignment: Path | None = None,
    *,
    buccal_axis: BuccalAxis = "+y",
    limits: Limits | None = None,
    fetch_settings: Fetch | None = None,
) -> Fingerprint:
    """Make the fingerprint of a data set.

    alignment : alignment.pt, with whose training mouths the cases are compared; None for no such figures
    raises    : NothingUsable without a usable case, else as `check`
    """
    figures: dict[str, list[float]] = {}
    present: list[NDArray[np.bool_]] = []
    model = registry.load(alignment) if alignment else None
    sample = Sample(points=model.config.points) if model else Sample()

    def visit(mouth: Mouth, file: Path) -> None:
        present.append(mouth.present)
        found = figures_of(mouth, len(case_document.read(file, mouth.case_id).staging))
        if model is not None:
            found |= unlike_training(mouth, model.familiarity)
        for name, value in found.items():
            figures.setdefault(name, []).append(value)

    checked = read_cases(
        places, visit, buccal_axis=buccal_axis, limits=limits, fetch_settings=fetch_settings, sample=sample
    )
    if not present:
        raise NothingUsable(f"{places.cases}: no case is usable; `dentalign check` says why")
    t1, t2 = np.stack(present).swapaxes(0, 1)
    totals = checked.totals
    listed = [row for _, row in csv_table.read(places.cases, ["case_id"])]
    counts = {
        "cases listed": totals.cases_listed, "cases used": totals.cases_used,
        "cases without T2": checked.for_predict, "cases left out": totals.cases_excluded,
        "patients listed": len({row.get("patient_id") or row["case_id"] for row in listed}),
        "teeth at T1": totals.teeth_used, "teeth dropped": totals.teeth_dropped,
        "teeth extracted": int((t1 & ~t2).sum()),
    } | {f"cases in {split}": count for split, count in checked.splits.items()}  # fmt: skip
    return Fingerprint(
        counts=counts,
        left_out=_counted(line.code for line in checked.lines),
        planners=_counted(row["planner"] or "not given" for row in listed if "planner" in row),
        patterns=_patterns(t1, t2),
        present={fdi: round(float(share), 4) for fdi, share in zip(SLOTS, t1.mean(0), strict=True)},
        extracted={fdi: round(float(share), 4) for fdi, share in zip(SLOTS, (t1 & ~t2).mean(0), strict=True)},
        figures={name: np.sort(values).round(4).tolist() for name, values in sorted(figures.items())},
        models=sha256_file(alignment) if alignment else "",
    )


def figures_of(mouth: Mouth, stages: int) -> dict[str, float]:
    """Compute the figures of one case; a figure that the case does not have is left out.

    stages  : number of treatment stages in the document, T1 included
    returns : name -> value: numbers of teeth and stages; mean movement by kind of tooth, mm and degrees; mean
              overlap of neighbours at T1 and in the plan, mm; extent of the mouth in head axes, mm; rotation
              of the arches from the head axes, degrees
    """
    found = {
        "stages": float(stages),
        "teeth_t1": float(mouth.present[T1].sum()),
        "teeth_extracted": float((mouth.present[T1] & ~mouth.present[T2]).sum()),
    }
    moved = {
        slot: movement(int(mouth.fdi[slot]), mouth.pose[T1, slot], mouth.pose[T2, slot], mouth.points[slot])
        for slot in np.flatnonzero(mouth.stays).tolist()
    }
    for kind, digits in KINDS.items():
        for name in ("movement_mm", "turn_deg"):
            values = [moved[slot][name] for slot in moved if SLOTS[slot] % 10 in digits]
            if values:
                found[f"{kind}_{name}"] = float(np.mean(values))
    for stage, label in ((T1, "t1"), (T2, "plan")):
        pairs = contacts.neighbours(mouth.present[stage], mouth.present[stage])
        if len(pairs):
            overlap, _ = contacts.contacts(rigid.apply(mouth.pose[stage], mouth.points), pairs)
            found[f"overlap_{label}_mm"] = float(overlap.mean())
    place = mouth.pose[T1, mouth.present[T1], :3, 3]
    found |= dict(zip(("left_right_mm", "front_back_mm"), np.ptp(place, axis=0)[:2].tolist(), strict=True))
    arches = find_arches(mouth.pose[T1], np.flatnonzero(mouth.present[T1]))
    turns = [np.linalg.norm(rigid.rotation_vector(one.frame)) for one in arches if one.normal is not None]
    if turns:
        found["arch_rotation_deg"] = float(np.degrees(np.mean(turns)))
    return found


def unlike_training(mouth: Mouth, familiarity: Familiarity) -> dict[str, float]:
    """Compare a mouth at T1 with training mouths, as `predict` does.

    returns : "unlike_training_<part>" for each of `PARTS`, a distance relative to its limit, and the largest
              of them as "unlike_training"; {} where nothing can be said
    """
    mouths = Mouths.at_t1(mouth.points[None], mouth.pose[:1], mouth.present[:1], mouth.stays[None])
    parts = familiarity.compare(mouths).parts[0]
    if not np.isfinite(parts).all():
        return {}
    names = [f"{UNLIKE}_{part}" for part in PARTS]
    return {UNLIKE: float(parts.max()), **dict(zip(names, parts.tolist(), strict=True))}


def drift(own: Fingerprint, other: Fingerprint) -> list[Drift]:
    """Compare the figures that two data sets share, the largest difference first."""
    found = []
    for name in sorted(own.figures.keys() & other.figures.keys()):
        if name.startswith(UNLIKE) and own.models != other.models:
            continue  # distances from two trainings
        one, two = np.array(own.figures[name]), np.array(other.figures[name])
        spread = np.sqrt((one.var() + two.var()) / 2)
        away = one.mean() - two.mean()
        difference = float(away / spread) if spread > 0 else float(np.sign(away) * np.inf) if away else 0.0
        ks = stats.ks_2samp(one, two)
        medians = (float(np.median(one)), float(np.median(two)))
        found.append(Drift(name, medians, difference, float(ks.statistic), float(ks.pvalue)))
    return sorted(found, key=lambda one: (-abs(one.difference), one.figure))


def read(path: Path) -> Fingerprint:
    """Read a fingerprint that `write` has written; raises DentalignError if it is none."""
    try:
        return Fingerprint.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        fix = "name a describe.json, a case store or a case list"
        raise DentalignError(f"{path}: not a fingerprint ({type(error).__name__}); {fix}") from None


def rows(own: Fingerprint, other: Fingerprint | None = None) -> list[tuple[str, ...]]:
    """Make the table of the figures: name, cases, 5 %, median and 95 %, and with `other` the drift."""
    against = {one.figure: one for one in drift(own, other)} if other else {}
    made = []
    for name, values in own.figures.items():
        low, median, high = (f"{value:.3g}" for value in np.quantile(values, (0.05, 0.5, 0.95)))
        row = [name, str(len(values)), low, median, high]
        if one := against.get(name):
            row += [f"{one.medians[1]:.3g}", f"{one.difference:+.2f}", f"{one.ks:.2f}"]
            row.append("differs" if one.differs else "")
        made.append((*row, *[""] * (len(columns(other)) - len(row))))
    return made


def columns(other: Fingerprint | None = None) -> tuple[str, ...]:
    """Names of the columns of `rows`."""
    drifting = ("median of other", "difference, SD", "KS", "verdict") if other else ()
    return ("figure", "cases", "5 %", "median", "95 %", *drifting)


def write(out: Path, own: Fingerprint, other: Fingerprint | None = None) -> None:
    """Write describe.json and the page describe.html; the same fingerprints give the same bytes."""
    atomic.write_text(out / "describe.json", own.model_dump_json(indent=1) + "\n")
    charts = [_slots(own), *(_figure(name, own, other) for name in own.figures)]
    values = {"own": own, "columns": columns(other), "rows": rows(own, other), "charts": charts}
    atomic.write_bytes(out / "describe.html", page.render("describe.html", ("tables.js",), **values))


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _patterns(t1: NDArray[np.bool_], t2: NDArray[np.bool_]) -> dict[str, int]:
    """Patterns by number of cases; rare ones, which might identify a patient, are one entry."""
    patterns = ToothPatterns.of(t1, t2)
    named = {name or "nothing particular": count for name, count in patterns.alike.items()}
    rare = patterns.mouths - sum(named.values())
    return _counted(Counter(named).elements()) | ({"rarer patterns": rare} if rare else {})


def _slots(own: Fingerprint) -> Chart:
    with style():
        drawing = empty(4.6)
        for axes, arch in zip(drawing.subplots(2, sharey=True), ("upper", "lower"), strict=True):
            slots = ARCHES[arch] if arch == "upper" else ARCHES[arch][::-1]  # the patient's right on the left
            numbers = [SLOTS[slot] for slot in slots]
            axes.bar(range(16), [100 * own.present[fdi] for fdi in numbers], color=COLOURS["mean_motion"])
            axes.bar(range(16), [100 * own.extracted[fdi] for fdi in numbers], color=COLOURS["model"])
            axes.set_xticks(range(16), [str(fdi) for fdi in numbers])
            axes.set(title=f"{arch} arch", ylabel="share of cases, %")
    rare = ", ".join(str(fdi) for fdi, share in own.present.items() if share < 0.5)
    title = "Teeth at T1 (blue), and extracted (red)"
    return Chart("slots", title, f"Share of cases with each tooth; under a half: {rare or 'none'}", drawing)


def _figure(name: str, own: Fingerprint, other: Fingerprint | None) -> Chart:
    with style():
        drawing = empty(1.8)
        axes: Axes = drawing.subplots()
        shown = {"this data set": (own, "model")} | ({"other": (other, "identity")} if other else {})
        values = {label: (one.figures.get(name, []), colour) for label, (one, colour) in shown.items() if one}
        ends = np.histogram_bin_edges(np.concatenate([found for found, _ in values.values()]), 20).tolist()
        for label, (found, colour) in values.items():
            weights = np.full(len(found), 100 / max(1, len(found)))
            axes.hist(found, ends, weights=weights, color=COLOURS[colour], histtype="step", label=label)
        axes.set(ylabel="cases, %", ylim=(0, None))
        if name.startswith(UNLIKE):
            axes.axvline(Familiarity.threshold, color=COLOURS["quiet"], linestyle=":", label="limit")
        if other or name.startswith(UNLIKE):
            axes.legend()
    title = name.replace("_", " ")
    return Chart(f"figure-{name}", title, f"{title}: median {np.median(own.figures[name]):.3g}", drawing)

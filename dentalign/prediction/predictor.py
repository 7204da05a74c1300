"""Predict T2 from a new patient's teeth at T1 with the trained models."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.alignment import registry
from dentalign.alignment.base import PredictedT2
from dentalign.alignment.conditions import WIDTHS, Conditions
from dentalign.alignment.familiarity import Likeness
from dentalign.alignment.proposals import propose
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoding import ToothEncoder
from dentalign.cases.crowns import Sampler
from dentalign.cases.settings import BuccalAxis, Fetch, Limits, Sample
from dentalign.errors import CaseDefect, DentalignError, ParamError
from dentalign.files import weights
from dentalign.files.hashing import sha256_file
from dentalign.geometry import rigid, stl
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, Mouth, Mouths
from dentalign.planning import outcome, solver
from dentalign.planning.distance_field import DistanceFields
from dentalign.planning.outcome import Wish
from dentalign.planning.prescription import Prescription
from dentalign.planning.solver import Planning, Proposal
from dentalign.prediction import new_case, review
from dentalign.prediction.new_case import NewCase
from dentalign.prediction.review import ReviewItem, Thresholds
from dentalign.running.device import choose_device
from dentalign.teeth import ARCHES, SLOT_COUNT
from dentalign.validation.metrics import rigidity_residual_mm


@dataclass(frozen=True)
class Prediction:
    """Predicted T2 of one case, in slots.

    case       : the case at T1
    mask       : (32,) bool, teeth that stand at T2: those of T1 without the extracted ones
    pose       : (32, 4, 4) float64, tooth-local -> head, mm, exactly rigid; identity where mask is False
    fixed      : (32,) bool, teeth that were not allowed to move
    network_pose : (32, 4, 4), as `pose`, before the solver; `pose` itself without it
    wishes     : wishes of the prescription, beside what was done; () without the solver
    fields     : distance fields of the teeth in `mask`, in slot order; None without the solver
    unmoved    : FDI number -> pose (4, 4), tooth-local axes of the file -> head, mm, of teeth without a
                 usable mesh: they stay where they are, and the model does not use them
    rigidity_residual_mm : (32,), root mean square distance of the predicted points from the rigid tooth; 0
                           for fixed teeth, where mask is False, and for models that predict poses
    expected_add_mm : (32,), error that the model expects, mm; NaN for fixed teeth, where mask is False, and
                      for slots too rare in training, whose teeth stay in place; None for a model without
                      expected errors
    add_mm_90  : (32,), upper bound of each tooth's error, mm, which 90 of 100 teeth keep; NaN where it is
                 unknown, as where `expected_add_mm` is; None for a model without expected errors
    to_look_at : review items, on teeth or on the case as a whole
    warnings   : sentences on why the prediction may be bad, see `review.unlike_training`
    notes      : further sentences for the report, those on the other review items included
    """

    case: NewCase
    mask: NDArray[np.bool_]
    pose: Array
    fixed: NDArray[np.bool_]
    network_pose: Array
    wishes: tuple[Wish, ...]
    fields: DistanceFields | None
    unmoved: Mapping[int, Array]
    rigidity_residual_mm: Array
    expected_add_mm: Array | None
    add_mm_90: Array | None
    to_look_at: tuple[ReviewItem, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


class Predictor:
    """Encoder, alignment model and decoder, loaded once to predict many cases.

    predictor = Predictor("models")
    prediction = predictor.predict("case.json", "stl")
    prediction.pose  # (32, 4, 4), tooth-local -> head, mm
    """

    def __init__(
        self,
        models: str | Path = "models",
        *,
        encoder: str | Path | None = None,
        decoder: str | Path | None = None,
        device: str = "auto",
        buccal_axis: BuccalAxis = "+y",
        find_axis: bool = True,
        sample: Sample | None = None,
        limits: Limits | None = None,
        fetch: Fetch | None = None,
        look: Thresholds | None = None,
        planning: Planning | None = Planning(),  # noqa: B008  immutable
    ):
        """Load the models.

        models           : folder with encoder.pt, decoder.pt and alignment.pt
        encoder, decoder : weights files in place of those in `models`
        device           : auto, cpu or cuda
        buccal_axis      : axis that points buccally in the tooth-local frame of the files, "+y" or "-y"
        find_axis        : True to use the opposite axis for a case in which `buccal_axis` points inwards in
                           at least 90 % of the teeth; a note states it
        sample           : settings with which crowns become points; by default those of the pipeline
        limits           : limits of a usable case
        fetch            : time-outs and retries for meshes on a server
        look             : thresholds above which a tooth is on the review list
        planning         : what plans usually show, for the solver; None to give the network's answer as it is
        raises           : DentalignError if a file is missing or the files do not belong together
        """
        folder = Path(models)
        encoder_file = Path(encoder or folder / "encoder.pt")
        decoder_file = Path(decoder or folder / "decoder.pt")
        self.encoder = ToothEncoder(encoder_file, device)
        self.decoder = weights.load(decoder_file, Decoder, DecoderConfig).to(choose_device(device))
        model = registry.load(folder / "alignment.pt").to(choose_device(device))
        self.alignment_model = model.with_decoder(self.decoder)
        for part, file in (("encoder", encoder_file), ("decoder", decoder_file)):
            wanted, found = getattr(self.alignment_model.config, f"{part}_sha256"), sha256_file(file)
            if wanted != found:
                raise DentalignError(
                    f"{folder / 'alignment.pt'}: trained with the {part} of SHA-256 {wanted[:12]}..., "
                    f"that of {file} is {found[:12]}...: take the three files of one training"
                )
        sample = sample or Sample(points=self.encoder.config.points)
        if sample.points != self.encoder.config.points:
            raise DentalignError(
                f"{encoder_file}: made for {self.encoder.config.points} points per tooth, and sample.points "
                f"is {sample.points}: set it to {self.encoder.config.points}"
            )
        self.sampler, self.fetch = Sampler(buccal_axis, sample, limits or Limits()), fetch
        self.find_axis = find_axis
        self.look = look or Thresholds()
        self.planning = planning

    def predict(
        self,
        json_file: str | Path,
        meshes: str | Path,
        prescription: Prescription | None = None,
        *,
        extract: Collection[int] = (),
        fixed: Collection[int] = (),
    ) -> Prediction:
        """Read and predict one case; parameters as for `new_case.read` and `predict_case`.

        extract, fixed : teeth that are added to those of the prescription
        """
        rx = (prescription or Prescription()).joined(extract=extract, fixed=fixed)
        return self.predict_case(self.read(json_file, meshes, rx.extract), rx)

    def read(self, json_file: str | Path, meshes: str | Path, extract: Collection[int] = ()) -> NewCase:
        """Read a case at T1, with its crowns as points for the models; see `new_case.read`."""
        return new_case.read(
            json_file, meshes, self.sampler, fetch=self.fetch, extract=extract, find_axis=self.find_axis
        )

    def predict_case(self, case: NewCase, prescription: Prescription | None = None) -> Prediction:
        """Predict a case that has been read: the first plan of `propose_case`."""
        return self.propose_case(case, prescription)[0]

    @torch.inference_mode()
    def propose_case(
        self, case: NewCase, prescription: Prescription | None = None, count: int = 1
    ) -> tuple[Prediction, ...]:
        """Predict up to `count` plans of a case that has been read, the most likely one first.

        The plans differ by a mean ADD of `proposals.APART_MM` or more; there may be fewer than `count`.

        prescription : wishes for the plan. Its FDI numbers are those of the file. Teeth of `extract` are
                       extracted beside those that a plan in the file extracts; teeth of `fixed` stay even if
                       that plan extracts them
        raises       : ParamError if the case has no such tooth, or the model knows no such planner;
                       CaseDefect if no tooth is left
        """
        rx = prescription or Prescription()
        mouth, here = case.mouth, case.mouth.present[T1]
        usable = set(mouth.fdi[here].tolist())
        _refuse_unknown(case, rx.extract, "extract", usable | case.unmoved.keys())
        _refuse_unknown(case, rx.fixed, "fixed", usable)
        if rx.only and not any(rx.may_move(fdi) for fdi in usable):
            raise ParamError(
                f"only: case {case.case_id} has none of the teeth that may move, so nothing would"
            )
        gone = set(rx.extract) | (case.planned_away - set(rx.fixed))
        mask = here & ~np.isin(mouth.fdi, sorted(gone))
        if not mask.any():
            fix = "check which teeth the plan in the file and --extract remove"
            raise CaseDefect("no_pairs", "no tooth is left at T2", fix)
        latents = None
        if self.alignment_model.uses_latents:
            latents = self.encoder.encode(mouth.points, mouth.pose[:1], mouth.present[:1])
        given = Mouths.at_t1(mouth.points[None], mouth.pose[:1], here[None], mask[None], latents)
        told = conditions_of(rx, mouth, mask, self.alignment_model.config.planners)
        try:
            plans = propose(self.alignment_model, given, told, count)
        except DentalignError as error:
            raise DentalignError(f"case {case.case_id}: {error}") from error
        fields = None
        if self.planning is not None:
            fields = DistanceFields([stl.merged(case.crowns[slot]) for slot in np.flatnonzero(mask).tolist()])
        held, likeness = told.held[0].numpy(), self.alignment_model.familiarity.compare(given)
        return tuple(
            self._prediction(case, mask, held, gone, plan, likeness, rx, fields)
            for plan, there in plans
            if there[0]
        )

    def _prediction(
        self,
        case: NewCase,
        mask: NDArray[np.bool_],
        held: NDArray[np.bool_],
        gone: Collection[int],
        plan: PredictedT2,
        likeness: Likeness,
        rx: Prescription,
        fields: DistanceFields | None,
    ) -> Prediction:
        """Complete one plan of a case; held (32,) bool, gone: FDI numbers of extracted teeth."""
        mouth = case.mouth
        unmoved = {fdi: pose for fdi, pose in case.unmoved.items() if fdi not in gone}
        moving = np.flatnonzero(mask & ~held)
        pose = np.where(mask[:, None, None], mouth.pose[T1], np.eye(4))
        pose[moving] = plan.pose[0, moving]
        residual = np.zeros(SLOT_COUNT)
        if plan.points is not None:
            posed = rigid.apply(pose[moving], mouth.points[moving].astype(np.float64))
            residual[moving] = rigidity_residual_mm(plan.points[0, moving], posed)
        expected, bound = (
            None if part is None else np.where(held, np.nan, part[0])
            for part in (plan.expected_add_mm, plan.add_mm_90)
        )
        if bound is not None and not likeness.parts[0].max() <= self.alignment_model.familiarity.threshold:
            bound = np.full_like(bound, np.nan)  # of a mouth that is unlike the calibration mouths
        network_pose = pose
        wishes: tuple[Wish, ...] = ()
        said: tuple[str, ...] = ()
        if self.planning is not None and fields is not None:
            unknown = np.zeros(SLOT_COUNT, bool) if expected is None else np.isnan(expected)
            proposal = Proposal(
                mouth.pose[T1], pose, mask, mask & (held | unknown), mouth.fdi, mouth.points, fields
            )
            pose = solver.solve(proposal, rx, self.planning)
            wishes = outcome.compare(proposal, pose, rx, self.planning)
            said = outcome.in_words(proposal, pose, wishes)
        looks = review.find(
            case, mask, pose, moving, None if expected is None else expected[moving],
            self.alignment_model.patterns, self.look, likeness, wishes,
        )  # fmt: skip
        notes = (*_notes(case, mask, held, unmoved), *review.in_words(looks, self.look), *said)
        if not self.alignment_model.familiarity.fitted:
            notes += ("Unlike the training cases: unknown, alignment.pt is too old for it; train again.",)
        return Prediction(
            case, mask, pose, mask & held, network_pose, wishes, fields, unmoved, residual, expected, bound,
            looks, review.warnings(looks), notes,
        )  # fmt: skip


def conditions_of(
    rx: Prescription, mouth: Mouth, mask: NDArray[np.bool_], planners: Sequence[str]
) -> Conditions:
    """Make the conditions of one mouth from a prescription.

    mask     : (32,) bool, teeth that stand at T2
    planners : codes of the planners that the model knows
    raises   : ParamError if the planner is none of them
    """
    told = Conditions.unknown(1)
    if rx.planner is not None:
        if rx.planner not in planners:
            known = ", ".join(planners) or "none: it was trained on cases without a column planner"
            raise ParamError(f"--planner {rx.planner}: the model does not know this planner, but {known}")
        told.planner[0] = 1 + planners.index(rx.planner)
    for slot in np.flatnonzero(mask).tolist():
        free = rx.may_move(int(mouth.fdi[slot]))
        told.held[0, slot] = not free
        told.moves[0, slot] = free and bool(rx.only)
    for arch, shift in rx.arch_shift_mm.items():
        values = [torch.nan if value is None else value for value in shift]
        told.motion[0, list(ARCHES).index(arch), :3] = torch.tensor(values)
    for arch, widths in rx.arch_width_mm.items():
        for name, change in widths.items():
            told.width[0, list(ARCHES).index(arch), WIDTHS.index(name)] = change
    return told


def _refuse_unknown(case: NewCase, numbers: Collection[int], option: str, known: set[int]) -> None:
    if unknown := sorted(set(numbers) - known):
        listed = ", ".join(map(str, unknown))
        raise ParamError(
            f"--{option}: case {case.case_id} has no usable tooth {listed} at T1; it has "
            f"{', '.join(map(str, sorted(known)))}"
        )


def _notes(
    case: NewCase, mask: NDArray[np.bool_], held: NDArray[np.bool_], unmoved: Mapping[int, Array]
) -> tuple[str, ...]:
    notes = list(case.notes)
    notes += [f"Tooth {line.tooth} is not predicted: {line.seen}." for line in case.left_out]
    if unmoved:
        numbers = ", ".join(map(str, sorted(unmoved)))
        notes.append(f"Without a usable mesh, so kept in place and not used by the model: {numbers}.")
    if (extracted := case.mouth.present[T1] & ~mask).any():
        notes.append(f"Extracted: {_numbers(case, extracted)}.")
    if held.any():
        notes.append(f"Fixed, and the other teeth planned round them: {_numbers(case, held)}.")
    return tuple(notes)


def _numbers(case: NewCase, slots: NDArray[np.bool_]) -> str:
    return ", ".join(str(fdi) for fdi in sorted(case.mouth.fdi[slots].tolist()))

"""Predict T2 from a new patient's teeth at T1 with the trained models."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.alignment import registry
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoding import ToothEncoder
from dentalign.cases.crowns import Sampler
from dentalign.cases.settings import BuccalAxis, Fetch, Limits, Sample
from dentalign.errors import CaseDefect, DentalignError, ParamError
from dentalign.files import weights
from dentalign.files.hashing import sha256_file
from dentalign.geometry import rigid, stl
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, Mouths
from dentalign.planning import outcome, solver
from dentalign.planning.distance_field import DistanceFields
from dentalign.planning.outcome import Wish
from dentalign.planning.prescription import Prescription
from dentalign.planning.solver import Planning, Proposal
from dentalign.prediction import new_case, review
from dentalign.prediction.new_case import NewCase
from dentalign.prediction.review import ReviewItem, Thresholds
from dentalign.running.device import choose_device
from dentalign.teeth import SLOT_COUNT
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

    @torch.inference_mode()
    def predict_case(self, case: NewCase, prescription: Prescription | None = None) -> Prediction:
        """Predict a case that has been read.

        prescription : wishes for the plan. Its FDI numbers are those of the file. Teeth of `extract` are
                       extracted beside those that a plan in the file extracts; teeth of `fixed` stay even if
                       that plan extracts them
        raises       : ParamError if the case has no such tooth; CaseDefect if no tooth is left
        """
        rx = prescription or Prescription()
        extract, fixed = rx.extract, rx.fixed
        mouth, here = case.mouth, case.mouth.present[T1]
        usable = set(mouth.fdi[here].tolist())
        _refuse_unknown(case, extract, "extract", usable | case.unmoved.keys())
        _refuse_unknown(case, fixed, "fixed", usable)
        if rx.only and not any(rx.may_move(fdi) for fdi in usable):
            raise ParamError(
                f"only: case {case.case_id} has none of the teeth that may move, so nothing would"
            )
        gone = set(extract) | (case.planned_away - set(fixed))
        held = here & ~np.array([rx.may_move(int(fdi)) for fdi in mouth.fdi])
        mask = here & ~np.isin(mouth.fdi, sorted(gone))
        unmoved = {fdi: pose for fdi, pose in case.unmoved.items() if fdi not in gone}
        if not mask.any():
            fix = "check which teeth the plan in the file and --extract remove"
            raise CaseDefect("no_pairs", "no tooth is left at T2", fix)
        latents = None
        if self.alignment_model.uses_latents:
            latents = self.encoder.encode(mouth.points, mouth.pose[:1], mouth.present[:1])
        given = Mouths.at_t1(mouth.points[None], mouth.pose[:1], here[None], mask[None], latents)
        try:
            placed = self.alignment_model.predict(given)
        except DentalignError as error:
            raise DentalignError(f"case {case.case_id}: {error}") from error
        moving = np.flatnonzero(mask & ~held)
        pose = np.where(mask[:, None, None], mouth.pose[T1], np.eye(4))
        pose[moving] = placed.pose[0, moving]
        residual = np.zeros(SLOT_COUNT)
        if placed.points is not None:
            posed = rigid.apply(pose[moving], mouth.points[moving].astype(np.float64))
            residual[moving] = rigidity_residual_mm(placed.points[0, moving], posed)
        expected = (
            None if placed.expected_add_mm is None else np.where(held, np.nan, placed.expected_add_mm[0])
        )
        network_pose, fields = pose, None
        wishes: tuple[Wish, ...] = ()
        said: tuple[str, ...] = ()
        if self.planning is not None:
            unknown = np.zeros(SLOT_COUNT, bool) if expected is None else np.isnan(expected)
            crowns = [stl.merged(case.crowns[slot]) for slot in np.flatnonzero(mask).tolist()]
            fields = DistanceFields(crowns)
            proposal = Proposal(
                mouth.pose[T1], pose, mask, mask & (held | unknown), mouth.fdi, mouth.points, fields
            )
            pose = solver.solve(proposal, rx, self.planning)
            wishes = outcome.compare(proposal, pose, rx, self.planning)
            said = outcome.in_words(proposal, pose, wishes)
        looks = review.find(
            case, mask, pose, moving, None if expected is None else expected[moving],
            self.alignment_model.patterns, self.look, wishes,
        )  # fmt: skip
        notes = (*_notes(case, mask, held, unmoved), *review.in_words(looks, self.look), *said)
        warnings = review.warnings(looks)
        return Prediction(
            case, mask, pose, mask & held, network_pose, wishes, fields, unmoved, residual, expected, looks,
            warnings, notes,
        )  # fmt: skip


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
        notes.append(f"Fixed: {_numbers(case, held)}.")
    return tuple(notes)


def _numbers(case: NewCase, slots: NDArray[np.bool_]) -> str:
    return ", ".join(str(fdi) for fdi in sorted(case.mouth.fdi[slots].tolist()))

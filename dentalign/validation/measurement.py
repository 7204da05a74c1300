"""Measure the models on the test split, beside baselines and the true T2."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.alignment import registry
from dentalign.alignment.base import AlignmentModel
from dentalign.alignment.conditions import Conditions
from dentalign.alignment.proposals import propose
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError, NothingUsable
from dentalign.files import weights
from dentalign.files.hashing import sha256_file
from dentalign.geometry import contacts, occlusion, rigid
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouths
from dentalign.params import Device, Positive, Section
from dentalign.planning.solver import Planning
from dentalign.running import profiling
from dentalign.running.device import choose_device
from dentalign.teeth import ARCHES
from dentalign.validation import clinical_agreement, metrics
from dentalign.validation.as_published import AS_PUBLISHED
from dentalign.validation.baselines import TOLD, baselines
from dentalign.validation.metrics import POOLED_METRICS, TOOTH_METRICS, MeasuredCases, MeasuredTeeth
from dentalign.validation.motions import motion_to
from dentalign.validation.solved import solved

COMPARED_METHODS = ("model", "identity", "mean_motion", "ridge")
METHODS = (*COMPARED_METHODS, *TOLD)
PROPOSALS = 3  # that a case may have
# What the model is told in the block `told`, by the names of `Conditions`.
TOLD_PARTS = {
    "planner": ("planner",),
    "held": ("held", "moves"),
    "arch_motion": ("motion",),
    "arch_width": ("width",),
    "planner_and_arch_motion": ("planner", "motion"),
}
_SIGNIFICANT_DIGITS = 6


class Validate(Section):
    """Section `validate` of params.yaml.

    batch_cases : number of cases predicted at once
    solver      : True to measure the predictions after the solver, too: about a second a case
    """

    batch_cases: Positive = 8
    threads: Positive = 2
    device: Device = "auto"
    solver: bool = True


@dataclass(frozen=True)
class Validation:
    """Measurements of the N cases of the test split; a figure of a tooth is at [case, slot].

    metrics   : content of `metrics/validation.json`
    lineage   : name -> SHA-256, hexadecimal, of each file that the figures come from
    case_ids  : ids of the N cases
    rows      : (N,) int, row of each case in the latents file
    measured  : (N, 32) bool, teeth present at both T1 and T2
    predicted : (N, 32, 4, 4), pose that the model predicts, tooth-local -> head, mm; identity where no
                tooth stays
    figures   : method -> metric of `TOOTH_METRICS` -> (N, 32); NaN where `measured` is False
    motions   : method or "true_t2" -> (N, 32, 6), motion of each tooth from T1, see `motions`; any values
                where `measured` is False
    reconstruction_mm : (N, 2, 32), distance of the decoded latents from the clouds at T1 and T2; NaN without
                        a tooth, or without latents
    expected_add_mm   : (N, 32), error that the model expects, NaN where `measured` is False; None for a
                        model without expected errors
    add_mm_90         : (N, 32), bound that 90 % of the errors are to keep, NaN for a tooth without one; None
                        for a model without bounds
    proposals_add_mm  : (N, K, 32), ADD of the model's K proposals, NaN where `measured` is False; the first
                        proposal stands for those that a case does not have
    held      : (N, 32) bool, measured teeth that the plan does not move
    told      : name in `TOLD_PARTS` -> "add_mm", "rotation_error_deg" (N, 32) and "motions" (N, 32, 6) of the
                model when it is told these conditions of the plan
    """

    metrics: dict[str, Any]
    lineage: dict[str, str]
    case_ids: list[str]
    rows: NDArray[np.intp]
    measured: NDArray[np.bool_]
    predicted: Array
    figures: dict[str, dict[str, Array]]
    motions: dict[str, Array]
    reconstruction_mm: Array
    expected_add_mm: Array | None = None
    add_mm_90: Array | None = None
    proposals_add_mm: Array | None = None
    held: NDArray[np.bool_] | None = None
    told: dict[str, dict[str, Array]] = field(default_factory=dict)

    def teeth(self, method: str, metric: str = "add_mm") -> Array:
        """Values (T,) of a metric for all T measured teeth, case by case in slot order."""
        return self.figures[method][metric][self.measured]

    def cases(self, method: str) -> MeasuredCases:
        """Return all T measured teeth, case by case in slot order, for the pooled metrics."""
        bound = self.add_mm_90 if method in ("model", "solved") else None
        proposals = self.proposals_add_mm if method == "model" else None
        return MeasuredCases(
            np.nonzero(self.measured)[0],
            self.teeth(method),
            self.teeth("identity"),
            self.motions[method][self.measured],
            self.motions["true_t2"][self.measured],
            None if bound is None else bound[self.measured],
            None if proposals is None else np.swapaxes(proposals, 0, 1)[:, self.measured],
        )


def mean(values: Array, axis: int | tuple[int, ...]) -> Array:
    """Mean over an axis, without NaN; NaN where all values are NaN."""
    number = np.isfinite(values).sum(axis)
    return np.where(number > 0, np.nansum(values, axis) / np.maximum(number, 1), np.nan)


def validate(
    latents: str | Path,
    decoder_weights: str | Path,
    alignment_weights: str | Path,
    settings: Validate,
    planning: Planning | None = None,
) -> Validation:
    """Predict every test case, and measure the model and all baselines on the same teeth.

    Only one batch of latents is in memory at a time.

    latents  : path of the latents file, which also holds poses and points; for a model that reads no latents
               they may be missing, and so is `reconstruction_mm` then
    planning : what plans usually show, for the solver; None for the defaults
    raises   : NothingUsable if no test case has a tooth at both T1 and T2; DentalignError if the files do not
              belong together or a prediction is not finite
    """
    torch.set_num_threads(settings.threads)
    device = choose_device(settings.device)
    model = registry.load(alignment_weights).to(device)
    decoder = weights.load(decoder_weights, Decoder, DecoderConfig).to(device)
    with MouthStore(latents) as store:
        _check(store, model, alignment_weights, decoder, decoder_weights)
        model = model.with_decoder(decoder)
        rows = store.rows_of("test")
        if not len(rows):
            raise NothingUsable(
                f"{latents}: no case in the test split, nothing to validate on; it gets about a tenth of the "
                f"patients, so {len(store)} cases in all are too few"
            )
        present = store.present(rows)
        measured = present[:, T1] & present[:, T2]
        if not measured.any():
            raise NothingUsable(f"{latents}: no test case has a tooth at both T1 and T2")
        others, batches, with_latents = baselines(store), [], store.layout.features > 0
        number = {code: k for k, code in enumerate(model.config.planners, start=1)}
        profiling.step()  # before the first batch, so that a single one is traced
        for start in range(0, len(rows), settings.batch_cases):
            mouths = store.mouths(rows[start : start + settings.batch_cases], latents=with_latents)
            planner = [
                number.get(store.planners[row], 0) for row in rows[start : start + settings.batch_cases]
            ]
            usual = (planning or Planning()) if settings.solver else None
            batches.append(_measure(mouths, model, decoder, others, np.array(planner, np.int64), usual))
            profiling.step()
        extracted = int((present[:, T1] & ~measured).sum())
        counts = {"extracted_teeth": extracted} | {
            f"{split}_cases": len(store.rows_of(split)) for split in ("train", "val", "test")
        }
        case_ids = [store.case_ids[row] for row in rows]
        joined = _joined(batches)
        clinical = clinical_agreement.agreement(store, rows, joined["predicted"])
    lineage = {
        "latents_sha256": sha256_file(latents),
        "encoder_sha256": model.config.encoder_sha256,
        "decoder_sha256": sha256_file(decoder_weights),
        "alignment_sha256": sha256_file(alignment_weights),
    }
    pairs = joined.pop("pairs")
    validation = Validation({}, lineage, case_ids, rows, measured, **joined)
    summary = _summary(validation, pairs, counts, bool(model.config.planners))
    summary |= {"clinical": rounded(clinical)} if clinical else {}
    return replace(validation, metrics=summary)


def _check(
    store: MouthStore,
    model: AlignmentModel,
    alignment_weights: str | Path,
    decoder: Decoder,
    decoder_weights: str | Path,
) -> None:
    """Refuse files that do not belong together."""
    encoder = store.attributes.get("encoder_sha256")
    if model.config.encoder_sha256 != encoder:
        raise DentalignError(
            f"{alignment_weights}: trained on latents of encoder {model.config.encoder_sha256[:12]}, "
            f"{store.path} was encoded by {str(encoder)[:12]}: train it again (`dvc repro`)"
        )
    decoder_sha256 = sha256_file(decoder_weights)
    if model.uses_latents and model.config.decoder_sha256 != decoder_sha256:
        raise DentalignError(
            f"{alignment_weights}: trained through decoder {model.config.decoder_sha256[:12]}, "
            f"{decoder_weights} is {decoder_sha256[:12]}: train it again (`dvc repro`)"
        )
    if store.layout.features not in (0, decoder.config.features):
        raise DentalignError(
            f"{decoder_weights}: made for {decoder.config.features} features, {store.path} has "
            f"{store.layout.features}: name the decoder that was trained with the encoder of these latents"
        )


def _measure(
    mouths: Mouths,
    model: AlignmentModel,
    decoder: Decoder,
    others: dict[str, Callable[[Mouths], Array]],
    planner: NDArray[np.int64],
    planning: Planning | None,
) -> dict[str, Any]:
    """Measurements of a batch of B cases: fields of `Validation`, and `pairs`; method "solved" with a solver.

    planner : (B,), number of who planned each case among the model's planners; 0 if unknown

    pairs : method or "true_t2" -> overlap_mm, contact_gap_mm -> (K,), of the K pairs of neighbours
    """
    measured, points, t2_pose = mouths.stays, mouths.points, mouths.pose[:, T2]
    given = mouths.without_plan()
    plans = propose(model, given, None, PROPOSALS)
    placed = plans[0][0]
    poses = {"model": placed.pose} | {name: predict(mouths) for name, predict in others.items()}
    if planning is not None:
        poses["solved"] = solved(mouths, placed.pose, placed.expected_add_mm, planning)
    case, slot = np.nonzero(measured)
    local = points[measured].astype(np.float64)  # (T, P, 3)
    true_pose = t2_pose[measured]
    true_points = rigid.apply(true_pose, local)
    decoded = None if placed.points is None else placed.points[measured]
    figures = {}
    for method, all_poses in poses.items():
        pose = all_poses[measured]
        moved = rigid.apply(pose, local)
        teeth = MeasuredTeeth(
            pose=pose,
            true_pose=true_pose,
            points=moved,
            true_points=true_points,
            decoded=moved if decoded is None or method != "model" else decoded,
            arch=case * len(ARCHES) + (slot >= len(ARCHES["lower"])),
        )
        figures[method] = {
            name: _by_slot(metric.of(teeth), measured) for name, metric in TOOTH_METRICS.items()
        }
    with_truth = {**poses, "true_t2": t2_pose}
    found = {
        "predicted": placed.pose,
        "figures": figures,
        "motions": {method: motion_to(mouths, pose) for method, pose in with_truth.items()},
        "reconstruction_mm": _reconstruction_mm(mouths, decoder),
        "pairs": {
            method: _contacts(rigid.apply(pose, points), mouths) for method, pose in with_truth.items()
        },
    }
    if placed.expected_add_mm is not None:
        found["expected_add_mm"] = np.where(measured, placed.expected_add_mm, np.nan)
    if placed.add_mm_90 is not None:
        found["add_mm_90"] = np.where(measured, placed.add_mm_90, np.nan)
    proposals = [np.where(there[:, None, None, None], plan.pose, placed.pose) for plan, there in plans]
    add = [metrics.add_mm(rigid.apply(pose[measured], local), true_points) for pose in proposals]
    found["proposals_add_mm"] = np.stack([_by_slot(values, measured) for values in add], axis=1)
    decided = Conditions.of_plan(mouths, planner)
    found["held"] = measured & decided.held.numpy()
    found["told"] = {
        name: _told(model.asked_once(given, decided.only(*parts)).pose, mouths)
        for name, parts in TOLD_PARTS.items()
    }
    return found


def _told(pose: Array, mouths: Mouths) -> dict[str, Array]:
    """Errors (B, 32) and motions (B, 32, 6) of poses (B, 32, 4, 4) that a model predicts with conditions."""
    measured, true_pose = mouths.stays, mouths.pose[:, T2][mouths.stays]
    local = mouths.points[measured].astype(np.float64)
    add = metrics.add_mm(rigid.apply(pose[measured], local), rigid.apply(true_pose, local))
    turned = metrics.rotation_error_deg(pose[measured], true_pose)
    return {
        "add_mm": _by_slot(add, measured),
        "rotation_error_deg": _by_slot(turned, measured),
        "motions": motion_to(mouths, pose),
    }


def _by_slot(values: Array, measured: NDArray[np.bool_]) -> Array:
    """Values of teeth (T,) at their case and slot (B, 32), else NaN."""
    placed = np.full(measured.shape, np.nan)
    placed[measured] = values
    return placed


@torch.inference_mode()
def _reconstruction_mm(mouths: Mouths, decoder: Decoder) -> Array:
    """Mean distance of the decoded latents from the clouds (B, 2, 32), NaN where no tooth is."""
    if mouths.latents is None:
        return np.full(mouths.present.shape, np.nan)
    stages = []
    for stage in (T1, T2):
        present = mouths.present[:, stage]
        latents = torch.from_numpy(mouths.latents[:, stage]).to(decoder.centre.device).float()
        decoded = decoder(latents).cpu().numpy()[present]
        cloud = rigid.apply(mouths.pose[:, stage][present], mouths.points[present])
        stages.append(_by_slot(metrics.add_mm(decoded, cloud), present))
    return np.stack(stages, axis=1)


def _contacts(points: Array, mouths: Mouths) -> dict[str, Array]:
    """Overlap and gap of the pairs of neighbours of B mouths; points (B, 32, P, 3), head frame, mm."""
    found = [
        contacts.contacts(mouth, contacts.neighbours(present, stays))
        for mouth, present, stays in zip(points, mouths.present[:, T2], mouths.stays, strict=True)
    ]
    overlap, gap = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return {"overlap_mm": overlap, "contact_gap_mm": gap} | occlusion.figures(points, mouths.stays)


def _joined(batches: Sequence[Any]) -> Any:
    """Nested dicts of arrays, concatenated along the first axis."""
    if isinstance(batches[0], dict):
        return {name: _joined([batch[name] for batch in batches]) for name in batches[0]}
    return np.concatenate(batches)


def _summary(
    validation: Validation,
    pairs: dict[str, dict[str, Array]],
    counts: dict[str, int],
    model_knows_planners: bool,
) -> dict[str, Any]:
    """The content of `metrics/validation.json`."""
    summary: dict[str, Any] = {}
    for method in [method for method in (*METHODS, "solved") if method in pairs]:
        teeth = validation.cases(method)
        pooled = {name: metric.of(teeth) for name, metric in POOLED_METRICS.items()}
        summary[method] = {name: value for name, value in pooled.items() if value is not None}
        summary[method] |= {
            name: float(validation.teeth(method, name).mean()) for name in TOOTH_METRICS
        } | _means(pairs[method])
    summary["true_t2"] = _means(pairs["true_t2"])
    after = summary.pop("solved", {})
    summary["model"] |= {f"solved_{name}": value for name, value in after.items()}
    summary["as_published"] = {
        method: {name: metric.of(validation.cases(method)) for name, metric in AS_PUBLISHED.items()}
        for method in METHODS
    }
    if summary["identity"]["add_mm"] > 0:  # else nothing was to be moved, and there is no ratio
        summary["add_vs_identity"] = summary["model"]["add_mm"] / summary["identity"]["add_mm"]
    if np.isfinite(validation.reconstruction_mm).any():
        summary["reconstruction_mm"] = float(mean(validation.reconstruction_mm, (0, 1, 2)))
    summary["counts"] = {
        "cases": int(validation.measured.any(1).sum()),
        "teeth": int(validation.measured.sum()),
        "pairs": len(pairs["true_t2"]["overlap_mm"]),
        **counts,
    }
    summary["told"] = {
        name: _told_summary(validation, found)
        for name, found in validation.told.items()
        if model_knows_planners or "planner" not in TOLD_PARTS[name]
    }
    if (held := validation.held) is not None and (others := validation.measured & ~held).any():
        summary["told"]["held"]["others_add_mm"] = float(validation.told["held"]["add_mm"][others].mean())
        summary["told"]["held"]["others_untold_add_mm"] = float(
            validation.figures["model"]["add_mm"][others].mean()
        )
    if validation.expected_add_mm is not None:
        expected = validation.expected_add_mm[validation.measured]
        summary["confidence"] = metrics.confidence(expected, validation.teeth("model"))
    return {name: rounded(value) for name, value in summary.items()}


def _told_summary(validation: Validation, found: dict[str, Array]) -> dict[str, float]:
    """Figures of the model when it is told something; of `POOLED_METRICS` those that need no proposals."""
    plain = validation.cases("identity")
    teeth = replace(
        plain, add_mm=found["add_mm"][validation.measured], motion=found["motions"][validation.measured]
    )
    pooled = {name: metric.of(teeth) for name, metric in POOLED_METRICS.items()}
    summary = {name: value for name, value in pooled.items() if value is not None}
    summary["add_mm"] = float(teeth.add_mm.mean())
    summary["rotation_error_deg"] = float(found["rotation_error_deg"][validation.measured].mean())
    if plain.add_mm.mean() > 0:
        summary["add_vs_identity"] = float(teeth.add_mm.mean() / plain.add_mm.mean())
    return summary


def _means(values: dict[str, Array]) -> dict[str, float]:
    """Pooled means; without any pair there is none."""
    return {name: float(value.mean()) for name, value in values.items() if len(value)}


def rounded(value: Any) -> Any:
    """Round all floats in nested dicts to 6 significant digits, which hides rounding errors."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}") if isinstance(value, float) else value

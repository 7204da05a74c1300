"""The models measured on the test split, beside two baselines and the true T2."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.alignment import registry
from dentalign.alignment.base import AlignmentModel
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError, NothingUsable
from dentalign.files import weights
from dentalign.geometry import contacts, rigid
from dentalign.mouth import T1, T2, Mouths
from dentalign.params import Device, Positive, Section
from dentalign.running import profiling
from dentalign.running.device import choose_device
from dentalign.teeth import ARCHES, SLOT_COUNT
from dentalign.validation import baselines, metrics
from dentalign.validation.reported_metrics import TOOTH_METRICS, MeasuredTeeth

Array = NDArray[np.float64]

METHODS = ("model", "identity", "mean_motion")
_SIGNIFICANT_DIGITS = 6


class Validate(Section):
    """How the models are measured on the test split."""

    batch_cases: Positive = 8
    threads: Positive = 2
    device: Device = "auto"


@dataclass(frozen=True)
class Validation:
    """What was found, with one entry per tooth that is present at both T1 and T2 ("teeth", T of them).

    metrics  : content of `metrics/validation.json`
    lineage  : SHA-256, hexadecimal, of what the figures come from
    case_ids : all N cases of the test split
    rows     : (N,) int, their rows in the latents file
    predicted: (N, 32, 4, 4), the model's pose tooth-local -> head, mm; identity where not a tooth
    case     : (T,) int, which of the N cases the tooth belongs to
    slot     : (T,) int
    figures  : method -> metric -> (T,), the metrics of `TOOTH_METRICS`
    slot_reconstruction_mm : (32,), `reconstruction_mm` by slot, not a number where the split has no tooth
    expected_add_mm : (T,), how far off the model expected the tooth to be; None where it does not say
    """

    metrics: dict[str, Any]
    lineage: dict[str, str]
    case_ids: list[str]
    rows: NDArray[np.intp]
    predicted: Array
    case: NDArray[np.intp]
    slot: NDArray[np.intp]
    figures: dict[str, dict[str, Array]]
    slot_reconstruction_mm: Array
    expected_add_mm: Array | None = None


def validate(
    latents: str | Path,
    decoder_weights: str | Path,
    alignment_weights: str | Path,
    settings: Validate,
) -> Validation:
    """Predict every test case, measure it, and measure both baselines on the same teeth.

    Memory holds one batch of latents; what stays of a case is its poses and a few numbers per tooth.

    raises: NothingUsable where no test case has a tooth at both T1 and T2; DentalignError where the
            files do not belong together or a prediction is not finite
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
                f"patients, and there are {len(store)} cases in all: more are needed"
            )
        motion = baselines.mean_motion(store)
        found = _Found()
        profiling.step()  # there may be but one batch, which is to be traced
        for start in range(0, len(rows), settings.batch_cases):
            part = rows[start : start + settings.batch_cases]
            _measure(found, store.mouths(part, latents=True), start, model, decoder, motion)
            profiling.step()
        case_ids = [store.case_ids[row] for row in rows]
        counts = {f"{split}_cases": len(store.rows_of(split)) for split in ("train", "val", "test")}
    if not any(map(len, found.slot)):
        raise NothingUsable(f"{latents}: no test case has a tooth at both T1 and T2")
    lineage = {
        "latents_sha256": weights.file_sha256(latents),
        "encoder_sha256": model.config.encoder_sha256,
        "decoder_sha256": weights.file_sha256(decoder_weights),
        "alignment_sha256": weights.file_sha256(alignment_weights),
    }
    return found.finish(case_ids, rows, counts, lineage)


@dataclass
class _Found:
    """Gathers figures batch by batch."""

    figures: dict[str, dict[str, list[Array]]] = field(default_factory=dict)
    case: list[NDArray[np.intp]] = field(default_factory=list)
    slot: list[NDArray[np.intp]] = field(default_factory=list)
    predicted: list[Array] = field(default_factory=list)
    reconstruction_mm: list[Array] = field(default_factory=list)
    reconstruction_slot: list[NDArray[np.intp]] = field(default_factory=list)
    expected_add_mm: list[Array] = field(default_factory=list)
    t1_only: int = 0

    def add(self, method: str, values: dict[str, Array]) -> None:
        for name, value in values.items():
            self.figures.setdefault(method, {}).setdefault(name, []).append(value)

    def finish(
        self, case_ids: list[str], rows: NDArray[np.intp], counts: dict[str, int], lineage: dict[str, str]
    ) -> Validation:
        joined = {
            method: {name: np.concatenate(parts) for name, parts in values.items()}
            for method, values in self.figures.items()
        }
        case, slot = np.concatenate(self.case), np.concatenate(self.slot)
        summary: dict[str, Any] = {}
        for method in METHODS:
            summary[method] = {"add_auc_5mm": metrics.add_auc_5mm(joined[method]["add_mm"])}
            summary[method] |= _means(joined[method])
        summary["true_t2"] = _means(joined["true_t2"])
        if summary["identity"]["add_mm"] > 0:  # else nothing was to be moved, and the ratio says nothing
            summary["add_vs_identity"] = summary["model"]["add_mm"] / summary["identity"]["add_mm"]
        reconstruction = np.concatenate(self.reconstruction_mm)
        summary["reconstruction_mm"] = float(reconstruction.mean())
        place, by_slot = np.concatenate(self.reconstruction_slot), np.full(SLOT_COUNT, np.nan)
        for number in np.unique(place):
            by_slot[number] = reconstruction[place == number].mean()
        cases = len(np.unique(case))
        summary["counts"] = {
            "cases": cases,
            "teeth": len(slot),
            "pairs": len(joined["true_t2"]["overlap_mm"]),
            "extracted_teeth": self.t1_only,
            **counts,
        }
        figures = {method: {n: joined[method][n] for n in TOOTH_METRICS} for method in METHODS}
        expected = np.concatenate(self.expected_add_mm) if self.expected_add_mm else None
        if expected is not None:
            summary["confidence"] = metrics.confidence(expected, joined["model"]["add_mm"])
        predicted = np.concatenate(self.predicted)
        return Validation(
            rounded(summary), lineage, case_ids, rows, predicted, case, slot, figures, by_slot, expected
        )


def _check(
    store: MouthStore,
    model: AlignmentModel,
    alignment_weights: str | Path,
    decoder: Decoder,
    decoder_weights: str | Path,
) -> None:
    """Refuse files that do not belong together."""
    encoder, layout = store.attributes.get("encoder_sha256"), store.layout
    if model.config.encoder_sha256 != encoder:
        raise DentalignError(
            f"{alignment_weights}: trained on latents of encoder {model.config.encoder_sha256[:12]}, "
            f"{store.path} was encoded by {str(encoder)[:12]}: train it again (`dvc repro`)"
        )
    decoder_sha256 = weights.file_sha256(decoder_weights)
    if model.uses_latents and model.config.decoder_sha256 != decoder_sha256:
        raise DentalignError(
            f"{alignment_weights}: trained through decoder {model.config.decoder_sha256[:12]}, "
            f"{decoder_weights} is {decoder_sha256[:12]}: train it again (`dvc repro`)"
        )
    if (model.config.points, model.config.features) != (layout.points, layout.features):
        raise DentalignError(
            f"{alignment_weights}: made for latents of {model.config.points} x {model.config.features} "
            f"numbers, {store.path} has {layout.points} x {layout.features}"
        )
    if decoder.config.features != layout.features:
        raise DentalignError(
            f"{decoder_weights}: made for {decoder.config.features} features, "
            f"{store.path} has {layout.features}"
        )


def _measure(
    found: _Found,
    mouths: Mouths,
    start: int,
    model: AlignmentModel,
    decoder: Decoder,
    motion: baselines.MeanMotion,
) -> None:
    """One batch of B cases; `start` is the number of the first among the test cases."""
    assert mouths.latents is not None
    points, both = mouths.points, mouths.stays  # both: (B, 32)
    (t1_pose, t2_pose), (t1_mask, t2_mask) = mouths.pose.swapaxes(0, 1), mouths.present.swapaxes(0, 1)
    for stage in (T1, T2):
        mask, pose = mouths.present[:, stage], mouths.pose[:, stage]
        decoded = _decode(decoder, mouths.latents[:, stage])[mask]
        found.reconstruction_mm.append(metrics.add_mm(decoded, rigid.apply(pose[mask], points[mask])))
        found.reconstruction_slot.append(np.nonzero(mask)[1])
    found.t1_only += int((t1_mask & ~t2_mask).sum())
    case, slot = np.nonzero(both)
    found.case.append(case + start)
    found.slot.append(slot)
    local = points[both].astype(np.float64)  # (T, P, 3)
    true_pose = t2_pose[both]
    true = rigid.apply(true_pose, local)
    placed = model.predict(mouths.without_plan())
    predicted = placed.pose
    said = rigid.apply(predicted[both], local) if placed.points is None else placed.points[both]
    found.predicted.append(predicted)
    if placed.expected_add_mm is not None:
        found.expected_add_mm.append(placed.expected_add_mm[both])
    poses = {
        "model": predicted,
        "identity": baselines.identity(t1_pose),
        "mean_motion": motion.predict(points, t1_pose),
    }
    arch = case * len(ARCHES) + (slot >= len(ARCHES["lower"]))
    for method in METHODS:
        pose = poses[method][both]
        posed = rigid.apply(pose, local)
        teeth = MeasuredTeeth(
            pose=pose,
            true_pose=true_pose,
            points=posed,
            true_points=true,
            said=said if method == "model" else posed,  # a baseline predicts the pose itself
            arch=arch,
        )
        found.add(method, {name: metric.of(teeth) for name, metric in TOOTH_METRICS.items()})
    for method, pose in {**poses, "true_t2": t2_pose}.items():
        for overlap, gap in _contacts(rigid.apply(pose, points), t2_mask, both):
            found.add(method, {"overlap_mm": overlap, "contact_gap_mm": gap})


def _contacts(
    points: Array, present: NDArray[np.bool_], judged: NDArray[np.bool_]
) -> Iterator[tuple[Array, Array]]:
    """`contacts.contacts` of each of B mouths; points (B, 32, P, 3), head frame."""
    for mouth, here, chosen in zip(points, present, judged, strict=True):
        yield contacts.contacts(mouth, contacts.neighbours(here, chosen))


@torch.inference_mode()
def _decode(decoder: Decoder, latents: NDArray[Any]) -> NDArray[np.float32]:
    """Points (B, 32, P, 3), mm, head frame, of latents (B, 32, P, F)."""
    given = torch.from_numpy(latents).to(decoder.centre.device).float()
    decoded: NDArray[np.float32] = decoder(given).cpu().numpy()
    return decoded


def _means(values: dict[str, Array]) -> dict[str, float]:
    """Pooled means; what has no entry (overlap without any pair) is left away, as it has no mean."""
    return {name: float(value.mean()) for name, value in values.items() if len(value)}


def rounded(value: Any) -> Any:
    """The same tree with floats rounded to 6 significant digits, so that the last bits do not show."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}") if isinstance(value, float) else value

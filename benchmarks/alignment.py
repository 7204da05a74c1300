"""Errors of an alignment model on hard mouths, and on input that is not as it was in training.

    python benchmarks/alignment.py                   # models/ and data/latents.h5, test split

Means of `add_mm` (and of no movement beside it): by how far the plan moves the teeth, by the number of teeth
that are not there, by arch; with one to three teeth taken out of the input; and with the whole mouth turned
by up to 20 degrees and moved by 20 mm, measured after moving it back. Latents are encoded anew.

Where the model says how far off it expects each tooth to be: how well that ranks the errors, and beside it
how well one would rank them who was told the mean error of each case and of each slot.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dentalign.alignment import registry
from dentalign.alignment.base import AlignmentModel
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoding import ToothEncoder
from dentalign.dataset.mouth_store import MouthStore
from dentalign.files import weights
from dentalign.geometry import rigid
from dentalign.mouth import T1, T2, Mouths
from dentalign.teeth import ARCHES
from dentalign.validation import metrics

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Models:
    """The models in use; the alignment model has its decoder."""

    alignment: AlignmentModel
    encoder: ToothEncoder

    def predict(self, mouths: Mouths) -> tuple[Array, Array | None]:
        """Poses (N, 32, 4, 4) at T2, and the expected errors (N, 32), mm, of a model that has such."""
        poses, expected = [], []
        for number in range(len(mouths)):  # one at a time: latents of many would not fit
            row = slice(number, number + 1)
            one = Mouths(mouths.points[row], mouths.pose[row], mouths.present[row])
            if self.alignment.uses_latents:
                encoded = self.encoder.encode(one.points[0], one.pose[0], one.present[0])
                one = replace(one, latents=encoded[None])
            found = self.alignment.predict(one)
            poses.append(found.pose)
            if found.expected_add_mm is not None:
                expected.append(found.expected_add_mm)
        return np.concatenate(poses), np.concatenate(expected) if expected else None


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latents", type=Path, default=Path("data/latents.h5"))
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    decoder = weights.load(given.models / "decoder.pt", Decoder, DecoderConfig)
    models = Models(
        registry.load(given.models / "alignment.pt").with_decoder(decoder),
        ToothEncoder(given.models / "encoder.pt", "cpu"),
    )
    with MouthStore(given.latents) as store:
        whole = store.mouths(store.rows_of("test"))
    mouths, both = whole.without_plan(), whole.stays
    true = rigid.apply(whole.pose[:, T2], whole.points)

    def errors(pose: Array) -> Array:  # (N, 32), NaN where there is no tooth
        add = metrics.add_mm(rigid.apply(pose, mouths.points).reshape(-1, *true.shape[2:]),
                             true.reshape(-1, *true.shape[2:])).reshape(both.shape)  # fmt: skip
        return np.where(both, add, np.nan)

    found, expected = models.predict(mouths)
    plain, still = errors(found), errors(mouths.pose[:, T1])
    print(f"model '{models.alignment.config.model}', {len(mouths)} test cases, {both.sum()} teeth")
    print(f"{'':44}cases  add_mm  no movement_mm  ratio")

    def line(
        what: str, cases: NDArray[np.bool_], add: Array = plain, slots: slice | NDArray[np.int_] = slice(None)
    ) -> None:
        if cases.any():
            mean, none = np.nanmean(add[cases][:, slots]), np.nanmean(still[cases][:, slots])
            print(f"{what:44}{cases.sum():5}  {mean:6.3f}  {none:14.3f}  {mean / none:5.3f}")

    everyone = np.ones(len(mouths), bool)
    line("all", everyone)
    severity = np.nanmean(still, axis=1)
    low, high = np.quantile(severity, [1 / 3, 2 / 3])
    line(f"moved by up to {low:.2f} mm on average", severity <= low)
    line(f"moved by {low:.2f} to {high:.2f} mm", (severity > low) & (severity <= high))
    line(f"moved by more than {high:.2f} mm", severity > high)
    missing = mouths.present[:, T1].sum(1).max() - both.sum(1)
    line("no tooth fewer", missing == 0)
    line("1 or 2 teeth fewer at T2", (missing > 0) & (missing < 3))
    line("3 or more teeth fewer", missing >= 3)
    for arch, slots in ARCHES.items():
        line(f"{arch} arch", everyone, plain, slots)
    rng = np.random.default_rng(given.seed)
    for count in (1, 2, 3):
        left = _without(mouths, count, rng)
        line(
            f"teeth taken out of the input: {count}",
            everyone,
            np.where(left.stays, errors(models.predict(left)[0]), np.nan),
        )
    turned = np.stack([_motion(rng) for _ in everyone])
    found, _ = models.predict(replace(mouths, pose=turned[:, None, None] @ mouths.pose))
    back = errors(np.linalg.inv(turned)[:, None] @ found)
    line("turned by up to 20 deg, moved by 20 mm", everyone, back)
    print(f"turned and moved over plain: {np.nanmean(back) / np.nanmean(plain):.3f}")
    if expected is not None:
        known = metrics.confidence(expected[both], plain[both])
        told = np.nanmean(plain, axis=1, keepdims=True) * _mean_of_slots(plain)
        best = metrics.confidence(told[both], plain[both])
        print(
            f"expected errors against seen ones, rank correlation {known['rank_correlation']:.3f}; "
            f"told the mean of each case and slot {best['rank_correlation']:.3f}"
        )


def _mean_of_slots(errors: Array) -> Array:
    """Means (32,) of errors (N, 32); arbitrary for a slot without a tooth."""
    there = np.isfinite(errors)
    mean: Array = np.where(there, errors, 0).sum(0) / np.maximum(there.sum(0), 1)
    return mean


def _without(mouths: Mouths, count: int, rng: np.random.Generator) -> Mouths:
    present = mouths.present.copy()
    for at_t1, at_t2 in present:
        gone = rng.choice(np.flatnonzero(at_t1), count, replace=False)
        at_t1[gone] = at_t2[gone] = False
    return replace(mouths, present=present)


def _motion(rng: np.random.Generator) -> Array:
    axis, way = rng.normal(size=(2, 3))
    vector = np.radians(rng.uniform(0, 20)) * axis / np.linalg.norm(axis)
    return rigid.from_rotation(rigid.rotation_matrix(vector), 20 * way / np.linalg.norm(way))


if __name__ == "__main__":
    main()

"""The dense autoencoder of the first attempt on 128 points x 2 features a tooth, by its validation's best.

In a copy of the project of its own:

    dvc exp run -S sample.points=128 -S autoencoder.features=2 concat_hdf5
    python benchmarks/dense_original.py --epochs 300

Prints `add_mm` on the test split, no movement beside it, and what encoder and decoder lose by themselves.
With --decoder whole a better decoder than its author's is fitted, see `WholeToothDecoder`.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from peers.dense_autoencoder import Decode, DenseAutoencoder, DenseTask, WholeToothDecoder

from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.dataset.mouth_store import MouthStore
from dentalign.files import weights
from dentalign.geometry import rigid
from dentalign.mouth import T1, T2
from dentalign.training.loop import Schedule, checkpoint_key, train


def main() -> None:
    """Train and measure, once for each seed and dropout."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latents", type=Path, default=Path("data/latents.h5"))
    parser.add_argument("--decoder", default="models/decoder.pt", help="a weights file, or: whole")
    parser.add_argument("--wide", type=int, default=1024)
    parser.add_argument("--narrow", type=int, default=256)
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.3])
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--patience", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with MouthStore(given.latents) as store:
        splits = {
            split: store.mouths(store.rows_of(split), latents=True) for split in ("train", "val", "test")
        }
    decoder: Decode
    if given.decoder == "whole":
        decoder, files = WholeToothDecoder(splits["train"]), [given.latents]
    else:
        pointwise = weights.load(given.decoder, Decoder, DecoderConfig).requires_grad_(False)
        decoder, files = pointwise, [given.latents, given.decoder]
    test = splits["test"]
    assert test.latents is not None
    stays = test.stays
    local = test.points[stays].astype(np.float64)
    t1_pose, t2_pose = test.pose[:, T1][stays], test.pose[:, T2][stays]
    true = rigid.apply(t2_pose, local)
    decoded = [decoder(torch.from_numpy(test.latents[:, s].astype(np.float32))) for s in (T1, T2)]
    at_t1, at_t2 = (part.numpy()[stays].astype(np.float64) for part in decoded)
    lost = np.linalg.norm(at_t2 - true, axis=-1).mean()
    still = np.linalg.norm(rigid.apply(rigid.fit(local, at_t1), local) - true, axis=-1).mean()
    really_still = np.linalg.norm(rigid.apply(t1_pose, local) - true, axis=-1).mean()
    print(f"lost by encoder and decoder: {lost:.3f} mm; no movement: add_mm {really_still:.3f}, "
          f"through the decoder {still:.3f}")  # fmt: skip
    for seed in given.seeds:
        for dropout in given.dropout:
            torch.manual_seed(seed)
            network = DenseAutoencoder(test.latents[0, 0].size, given.wide, given.narrow, dropout)
            task = DenseTask(network, splits["train"], splits["val"], decoder, batch=16)
            settings = {"wide": given.wide, "narrow": given.narrow, "dropout": dropout, "seed": seed}
            key = checkpoint_key(files, {**settings, "decoder": str(given.decoder)}, __file__)
            schedule = Schedule(given.epochs, given.patience, 3e-4, 200, 2000, 0.995, 0.05)
            outcome = train(task, schedule, seed, f"dense/{key}")
            network.load_state_dict(outcome.best_state)
            print(
                f"seed {seed}, dropout {dropout}: {sum(p.numel() for p in network.parameters()):,} weights, "
                f"best epoch {outcome.best_epoch} of {len(outcome.history)}, "
                f"add_mm {task.errors(test).mean():.3f}, on the training cases "
                f"{task.errors(splits['train']).mean():.3f}"
            )


if __name__ == "__main__":
    main()

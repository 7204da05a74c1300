"""Model cards (Markdown): purpose, figures and known limits of each model.

They hold hashes and figures, but no times, paths or case ids, so that the same files give the same bytes.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dentalign.alignment import registry
from dentalign.alignment.base import AlignmentModel
from dentalign.alignment.patterns import FEW_ALIKE, ToothPatterns
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.autoencoder.interface import Interface, decoder_interface, encoder_interface
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError
from dentalign.files import atomic, weights
from dentalign.files.hashing import sha256_file
from dentalign.reports.page import environment
from dentalign.validation.measurement import Validation
from dentalign.validation.report import limits
from dentalign.validation.report.tables import COLUMNS, LABELS, number, reported

CARDS = ("encoder", "decoder", "alignment")

_UNITS = {  # by the last word of a metric's name
    "mm": "mm",
    "deg": "degrees",
    "median": "mm",
    "5mm": "share, 0 to 1",
    "share": "share, 0 to 1",
    "coverage": "share, 0 to 1",
    "ratio": "ratio",
    "gain": "ratio",
    "correlation": "none, -1 to 1",
    "contacts": "share, 0 to 1",
}

_AUTOENCODER_DATA = (
    "It is trained on the cases of the train split that are in the list `autoencoder.cases` of params.yaml. "
    "Weights of your own may have been trained on other cases; the file does not name them."
)


def write(
    folder: Path,
    found: Validation,
    latents: str | Path,
    encoder_weights: str | Path,
    decoder_weights: str | Path,
    alignment_weights: str | Path,
) -> None:
    """Write encoder.md, decoder.md and alignment.md into a folder.

    found  : result of validating these three models on `latents`
    raises : DentalignError if a file is missing, or the encoder is not the one that made the latents
    """
    encoder = weights.load(encoder_weights, Encoder, EncoderConfig)
    if (sha256 := sha256_file(encoder_weights)) != found.lineage["encoder_sha256"]:
        raise DentalignError(
            f"{encoder_weights}: is {sha256[:12]}, {latents} was encoded by "
            f"{found.lineage['encoder_sha256'][:12]}: encode again (`dvc repro`)"
        )
    decoder = weights.load(decoder_weights, Decoder, DecoderConfig)
    model = registry.load(alignment_weights)
    with MouthStore(latents) as store:
        data = {split: _teeth(store, split) for split in ("train", "val", "test")}
        alignment_limits = limits.of_alignment_model(found, store, model)
    counts, test = found.metrics["counts"], data["test"]
    clouds = f"{test['t1']} teeth at T1 and {test['t2']} at T2"
    autoencoder = {"learnt_from": _AUTOENCODER_DATA, "measured": clouds, **_reconstruction(found)}
    tooth_limits = limits.of_autoencoder(found)
    cards = {
        "encoder": {
            **_about("encoder", encoder, encoder_interface(encoder.config), found),
            **autoencoder,
            "python": "`dentalign.load_encoder(path)`; the neighbour graph is made inside.",
            "limits": [*tooth_limits, *limits.ENCODER],
        },
        "decoder": {
            **_about("decoder", decoder, decoder_interface(decoder.config), found),
            **autoencoder,
            "python": "`dentalign.load_decoder(path)`.",
            "limits": [*tooth_limits, *limits.DECODER],
        },
        "alignment": {
            **_about("alignment", model, model.interface(), found),
            **_alignment(found.metrics),
            "python": "`dentalign.load_alignment_model(path)`; for case files `dentalign.Predictor(folder)`.",
            "learnt_from": "It is trained on the train split; the epoch is chosen by the val split.",
            "patterns": _patterns(model.patterns),
            "measured": f"{counts['teeth']} teeth that are present at T1 and T2",
            "limits": alignment_limits,
        },
    }
    # No escaping: it is Markdown, and no text in it comes from cases.
    template = environment(autoescape=False).get_template("model_card.md")
    for name in CARDS:
        text = template.render({"data": data, "counts": counts, "patterns": []} | cards[name])
        atomic.write_text(folder / f"{name}.md", text)


def _about(
    name: str, model: Encoder | Decoder | AlignmentModel, interface: Interface, found: Validation
) -> dict[str, Any]:
    lineage = {key.removesuffix("_sha256"): value for key, value in found.lineage.items()}
    others = [(f"{other}.pt, of the same training", lineage[other]) for other in CARDS if other != name]
    config = {
        key: value
        for key, value in asdict(model.config).items()
        if key != "patterns" and not key.endswith("_sha256")
    }
    return {
        "name": name,
        "interface": interface,
        "numbers": sum(value.numel() for value in model.state_dict().values()),
        "architecture": _flat(config),
        "version": [
            (f"{name}.pt, this model", lineage[name]), *others, ("latents.h5, the data", lineage["latents"])
        ],
    }  # fmt: skip


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in config.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return rows


def _teeth(store: MouthStore, split: str) -> dict[str, int]:
    """Cases of a split, and their teeth at T1, at T2 and at both."""
    present = store.present(store.rows_of(split))
    t1, t2 = present.sum((0, 2)).tolist()
    return {"cases": len(present), "t1": t1, "t2": t2, "both": int(present.all(1).sum())}


def _patterns(patterns: ToothPatterns | None) -> list[tuple[str, int]]:
    """Patterns of absent and extracted teeth with their number of training cases; rare patterns last."""
    if patterns is None:
        return []
    rows = [(name or "nothing particular", count) for name, count in patterns.alike.items()]
    others = patterns.mouths - sum(patterns.alike.values())
    return [*rows, *([(f"patterns with fewer than {FEW_ALIKE} cases", others)] if others else [])]


def _reconstruction(found: Validation) -> dict[str, Any]:
    """Its error, beside the movement in the plans, which it must be small against."""
    values = [number(found.metrics["reconstruction_mm"]), number(found.metrics["identity"]["add_mm"])]
    return {
        "columns": ["encoder and decoder", "for scale: movement in the plan (add_mm of no movement)"],
        "figures": [("reconstruction_mm", "mm", values)],
    }


def _alignment(metrics: Mapping[str, Any]) -> dict[str, Any]:
    rows = [(name, unit(name), [number(metrics[c].get(name)) for c in COLUMNS]) for name in reported(metrics)]
    others = ["–"] * (len(COLUMNS) - 1)
    rows.append(("add_vs_identity", "ratio", [number(metrics.get("add_vs_identity")), "1", *others[1:]]))
    if "confidence" in metrics:
        for name in ("rank_correlation", "expected_add_mm"):
            value = number(metrics["confidence"].get(name))
            rows.append((f"confidence.{name}", unit(name), [value, *others]))
    return {"columns": [LABELS[column] for column in COLUMNS], "figures": rows}


def unit(metric: str) -> str:
    """Unit of a metric, from its name."""
    return _UNITS.get(metric.rsplit("_", 1)[-1], "number")

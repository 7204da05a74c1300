"""Model cards: what each model is, what it was measured on, and where not to trust it. Markdown.

They hold hashes and figures, no times, paths or case ids: the same files give the same bytes.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import nn

from dentalign.alignment import registry
from dentalign.alignment.base import AlignmentModel
from dentalign.alignment.patterns import FEW_ALIKE, ToothPatterns
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.autoencoder.interface import Interface, decoder_interface, encoder_interface
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError
from dentalign.files import atomic, weights
from dentalign.reports.page import ASSETS
from dentalign.validation.measurement import METHODS, Validation
from dentalign.validation.report import limits as report_limits
from dentalign.validation.reported_metrics import MEANINGS

CARDS = ("encoder", "decoder", "alignment")
SPLITS = ("train", "val", "test")

_AUTOENCODER_DATA = (
    "It learns from those cases of the train split that `autoencoder.cases` of params.yaml lists. Weights of "
    "the user's own may have learnt from others; the file does not say."
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

    found   : what `validate` found on `latents` with these models
    raises  : DentalignError where a file is missing, or the encoder is not the one that made the latents
    """
    encoder = weights.load(encoder_weights, Encoder, EncoderConfig)
    if (sha256 := weights.file_sha256(encoder_weights)) != found.lineage["encoder_sha256"]:
        raise DentalignError(
            f"{encoder_weights}: is {sha256[:12]}, {latents} was encoded by "
            f"{found.lineage['encoder_sha256'][:12]}: encode again (`dvc repro`)"
        )
    decoder = weights.load(decoder_weights, Decoder, DecoderConfig)
    model = registry.load(alignment_weights)
    with MouthStore(latents) as store:
        data = [_data(store, split) for split in SPLITS]
        limits = report_limits.of_alignment_model(found, store, model)
    counts, test = found.metrics["counts"], data[SPLITS.index("test")]
    shared = {"data": data, "counts": counts, "patterns": []}
    clouds = f"{test['teeth_t1']} teeth at T1 and {test['teeth_t2']} at T2"
    tooth_limits = report_limits.of_autoencoder(found)
    cards = {
        "encoder": {
            **_about("encoder", encoder, encoder_interface(encoder.config), found),
            "python": "`dentalign.load_encoder(path)`; it makes the neighbour graph itself.",
            "learnt_from": _AUTOENCODER_DATA,
            **_reconstruction(found),
            "measured": clouds,
            "limits": [*tooth_limits, *report_limits.ENCODER],
        },
        "decoder": {
            **_about("decoder", decoder, decoder_interface(decoder.config), found),
            "python": "`dentalign.load_decoder(path)`.",
            "learnt_from": _AUTOENCODER_DATA,
            **_reconstruction(found),
            "measured": clouds,
            "limits": [*tooth_limits, *report_limits.DECODER],
        },
        "alignment": {
            **_about("alignment", model, model.interface(), found),
            "python": "`dentalign.load_alignment_model(path)`; from case files `dentalign.Predictor(folder)`.",
            "learnt_from": "It learns from the train split; the val split chose the epoch.",
            "patterns": _patterns(model.patterns),
            **_alignment(found.metrics),
            "measured": f"{counts['teeth']} teeth that are there at T1 and T2",
            "limits": limits,
        },
    }
    template = _environment().get_template("model_card.md")
    for name in CARDS:
        atomic.write_text(folder / f"{name}.md", template.render(shared | cards[name]))


def _about(
    name: str, model: Encoder | Decoder | AlignmentModel, interface: Interface, found: Validation
) -> dict[str, Any]:
    lineage = {key.removesuffix("_sha256"): value for key, value in found.lineage.items()}
    files = [(f"{name}.pt, this model", lineage[name])]
    files += [(f"{other}.pt, of the same training", lineage[other]) for other in CARDS if other != name]
    return {
        "name": name,
        "title": interface.title,
        "task": interface.task,
        "numbers": _numbers(model),
        "inputs": interface.inputs,
        "outputs": interface.outputs,
        "outside": interface.outside,
        "architecture": _flat(
            {
                key: value
                for key, value in asdict(model.config).items()
                if key != "patterns" and not key.endswith("_sha256")
            }
        ),
        "version": [*files, ("latents.h5, the data", lineage["latents"])],
    }


def _numbers(model: nn.Module) -> int:
    """Of the weights, and of what was solved for or measured and is stored with them."""
    return sum(value.numel() for value in model.state_dict().values())


def _flat(config: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in config.items():
        rows += _flat(value, f"{before}{key}.") if isinstance(value, dict) else [(f"{before}{key}", value)]
    return rows


def _data(store: MouthStore, split: str) -> dict[str, Any]:
    rows = store.rows_of(split)
    t1, t2 = store.present(rows).swapaxes(0, 1)
    return {
        "split": split, "cases": len(rows), "teeth_t1": int(t1.sum()), "teeth_t2": int(t2.sum()),
        "teeth_both": int((t1 & t2).sum()),
    }  # fmt: skip


def _patterns(patterns: ToothPatterns | None) -> list[tuple[str, int]]:
    """What was particular about the teeth of training cases, and of how many; the rest last."""
    if patterns is None:
        return []
    rows = [(name or "nothing particular", count) for name, count in patterns.alike.items()]
    others = patterns.mouths - sum(patterns.alike.values())
    return [*rows, *([(f"what fewer than {FEW_ALIKE} cases have in common", others)] if others else [])]


def _reconstruction(found: Validation) -> dict[str, Any]:
    """Beside it what it must be small against: how far the plan moves a tooth."""
    values = [figure(found.metrics["reconstruction_mm"]), figure(found.metrics["identity"]["add_mm"])]
    return {
        "columns": ["encoder and decoder", "for scale: movement in the plan (add_mm of no movement)"],
        "figures": [("reconstruction_mm", "mm", values)],
    }


def _alignment(metrics: Mapping[str, Any]) -> dict[str, Any]:
    columns = (*METHODS, "true_t2")
    rows = [(name, unit(name), [figure(metrics[c].get(name)) for c in columns]) for name in MEANINGS]
    rows.append(("add_vs_identity", "ratio", [figure(metrics.get("add_vs_identity")), "1", "–", "–"]))
    if "confidence" in metrics:
        for name in ("rank_correlation", "expected_add_mm"):
            value = figure(metrics["confidence"].get(name))
            rows.append((f"confidence.{name}", unit(name), [value, "–", "–", "–"]))
    return {"columns": ["model", "no movement", "mean motion", "true T2"], "figures": rows}


def unit(metric: str) -> str:
    """The unit of a metric, from its name."""
    if metric == "add_auc_5mm":
        return "share, 0 to 1"
    return {"mm": "mm", "deg": "degrees"}.get(metric.rsplit("_", 1)[-1], "none, -1 to 1")


def figure(value: Any) -> str:
    """A number with three digits after the point, or a dash where there is none."""
    return f"{value:.3f}" if isinstance(value, int | float) else "–"


def _environment() -> Environment:
    return Environment(  # nothing to escape: it is Markdown, and no text in it comes from cases
        loader=FileSystemLoader(ASSETS),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

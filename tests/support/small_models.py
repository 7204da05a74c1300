"""Small sets of untrained models, made in a moment, and a mouth with all its crowns."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.demo_clinic import case_files, clinic
from dentalign.files import weights
from dentalign.files.hashing import sha256_file
from dentalign.geometry import rigid, stl
from tests.alignment.attention.test_attention_model import POINTS, random_model


def write_models(folder: Path) -> Path:
    """Write encoder.pt, decoder.pt and alignment.pt that belong together."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    weights.save(folder / "encoder.pt", Encoder(EncoderConfig(POINTS, 4, 4, 6, 5)))
    weights.save(folder / "decoder.pt", Decoder(DecoderConfig(5, 8)))
    model = random_model()
    encoder, decoder = (sha256_file(folder / f"{part}.pt") for part in ("encoder", "decoder"))
    model.config = replace(model.config, encoder_sha256=encoder, decoder_sha256=decoder)
    weights.save(folder / "alignment.pt", model)
    return folder


def write_card(folder: Path, **values: object) -> None:
    """Write a card for the weights of a folder."""
    hashes = {file.name: sha256_file(file) for file in folder.glob("*.pt")}
    card = {"trained_on": "4,000 made-up cases", "licence": "Apache-2.0", "figures": {"add_mm": 1.2}}
    (folder / "card.json").write_text(json.dumps({"sha256": hashes} | card | values), encoding="utf-8")


def write_mouth(folder: Path) -> Path:
    """Write a mouth twice: json/m1.json with stl/m1/, and scan/m1/ with its crowns in one turned frame."""
    case = clinic.make_case(1, seed=3, complete=True)
    scanner = rigid.from_rotation(rigid.rotation_matrix([0.4, -0.9, 0.2]), [12.0, 7.0, -30.0])
    for name in ("json", "stl/m1", "scan/m1"):
        (folder / name).mkdir(parents=True)
    case_files.write_json(folder / "json" / "m1.json", case.document | {"CaseID": "m1"})
    for fdi, crown in case.patient.mouth.items():
        stl.write_binary(folder / "stl" / "m1" / f"{fdi}.stl", crown.vertices, crown.faces)
        placed = rigid.apply(scanner @ case.t1[fdi], crown.vertices)
        stl.write_binary(folder / "scan" / "m1" / f"tooth_{fdi}.stl", placed, crown.faces)
    return folder

"""Models as ONNX files: the same results, inputs and outputs described, no wrong file left behind."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from typer.testing import CliRunner

from dentalign import cli
from dentalign.alignment.attention.model import AttentionModel
from dentalign.alignment.base import AlignmentConfig, AlignmentModel
from dentalign.alignment.fc.latent_basis import LatentBasis
from dentalign.alignment.fc.model import FullyConnectedModel
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.autoencoder.interface import decoder_interface
from dentalign.autoencoder.neighbours import nearest_neighbours
from dentalign.errors import DentalignError
from dentalign.export import model_export, onnx_file
from dentalign.export.exportable import ExportableAttentionModel, gathered_bag, nearest_rotation
from dentalign.export.neighbour_graph import neighbours
from dentalign.files import weights
from dentalign.files.hashing import sha256_file
from dentalign.geometry import rigid, rotations
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.sampling import directions
from dentalign.mouth import T1, Mouths
from dentalign.teeth import SLOTS
from tests.alignment.attention.test_attention_model import POINTS, mouths, random_model

FEATURES = 5


def encoder() -> Encoder:
    torch.manual_seed(0)
    made = Encoder(EncoderConfig(points=POINTS, neighbours=4, terms=4, hidden=6, features=FEATURES))
    made.centre.copy_(torch.tensor([1.0, -20.0, 3.0]))
    made.scale.copy_(torch.tensor(15.0))
    return made.eval().requires_grad_(False)


def latent_model() -> FullyConnectedModel:
    torch.manual_seed(0)
    width = POINTS * FEATURES
    basis = LatentBasis(
        torch.randn(32, width).half().float(), torch.linalg.qr(torch.randn(32, width, 6))[0].half().float(),
        torch.rand(32, 6) + 0.5,
    )  # fmt: skip
    network = {"components": 6, "hidden": 12, "blocks": 2, "dropout": 0.3}
    made = FullyConnectedModel(AlignmentConfig("fc", POINTS, FEATURES, network, "e", "d"))
    made.set_basis(basis)
    for value in made.network.parameters():
        torch.nn.init.normal_(value, std=0.3)
    for name in ("to_movement", "from_movement", "to_frame", "from_frame"):
        torch.nn.init.normal_(getattr(made.network, name), std=0.1)
    return made.eval().requires_grad_(False)


def calibrated_model(planners: tuple[str, ...]) -> AttentionModel:
    """Random weights, whose expected errors are calibrated to some numbers."""
    made = random_model(planners=planners)
    made.error_model.weights.copy_(torch.tensor([[0.4, 0.3, 0.2, 0.1]]))
    made.error_model.ratio.copy_(torch.tensor([[1.5, 1.6, 1.7, 1.8]]))
    return made


def models(folder: Path, alignment: AlignmentModel) -> Path:
    folder.mkdir()
    torch.manual_seed(1)
    weights.save(folder / "encoder.pt", encoder())
    weights.save(folder / "decoder.pt", Decoder(DecoderConfig(FEATURES, 8)))
    weights.save(folder / "alignment.pt", alignment)
    return folder


def arrays(mouths: Mouths) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points, poses at T1, present and stays."""
    return mouths.points, mouths.pose[:, T1], mouths.present[:, T1], mouths.stays


def needs_onnx() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="needs the extra `export`: make test-all installs it")


def teeth(count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    local = directions(POINTS) * rng.uniform(3, 5, (count, 1, 3))
    return (local + average_mouth().position[:count, None]).astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three models of a `fc` training, exported by the command."""
    needs_onnx()
    folder = tmp_path_factory.mktemp("fc")
    done = CliRunner().invoke(
        cli.app,
        ["export", "--models", str(models(folder / "models", latent_model())), "--out", str(folder / "out")],
    )
    assert done.exit_code == 0, done.output
    assert done.output.count("verified: differs by") == 3
    return folder / "out"


# Other forms for the export, compared with the original by torch alone.


def test_gathered_bags_are_those_of_torch() -> None:
    rng = torch.Generator().manual_seed(0)
    weight, rows = torch.randn(50, 7, generator=rng), torch.randint(50, (20, 4), generator=rng)
    factors = torch.randn(20, 4, generator=rng)
    bags = functional.embedding_bag(rows, weight, mode="sum", per_sample_weights=factors)
    gathered = gathered_bag(weight, rows.flatten(), 4 * torch.arange(20), False, 0, False, factors.flatten())
    torch.testing.assert_close(gathered[0], bags)


def test_the_nearest_rotation_by_products_is_that_of_the_decomposition() -> None:
    rng = torch.Generator().manual_seed(0)
    turn = rotations.matrix(torch.randn(200, 3, dtype=torch.float64, generator=rng))
    mouth = torch.diag_embed(torch.tensor([400.0, 150.0, 2.0], dtype=torch.float64))
    for given in (
        torch.randn(200, 3, 3, dtype=torch.float64, generator=rng),  # mirrored ones among them
        turn @ mouth,  # what a whole mouth gives, turned by any angle
        turn + 1e-6 * torch.randn(200, 3, 3, dtype=torch.float64, generator=rng),
        turn @ torch.diag_embed(torch.tensor([1.0, 1e-5, 0.0], dtype=torch.float64)),
    ):
        found = nearest_rotation(given)
        torch.testing.assert_close(found, rotations.nearest(given), atol=1e-8, rtol=0)
        identity = torch.eye(3, dtype=torch.float64).expand_as(found)
        torch.testing.assert_close(found @ found.mT, identity, atol=1e-13, rtol=0)
        torch.testing.assert_close(torch.det(found), torch.ones(200, dtype=torch.float64), atol=1e-13, rtol=0)


def test_the_whole_of_attention_is_in_its_exportable_form() -> None:
    for planners in ((), ("planner-01", "planner-02")):
        pose_model = calibrated_model(planners)
        pose_model.network.known_at_t1[4] = False
        pose_model.network.known_at_t2[:7] = False
        given = mouths(3, missing=3)
        placed = pose_model.predict(given)
        found = ExportableAttentionModel(pose_model)(*map(torch.from_numpy, arrays(given)))
        pose, expected, bound = (part.detach().numpy() for part in found)
        np.testing.assert_allclose(pose, placed.pose, atol=2e-4)
        assert placed.expected_add_mm is not None and placed.add_mm_90 is not None
        np.testing.assert_allclose(expected, placed.expected_add_mm, rtol=1e-3)
        np.testing.assert_allclose(bound, placed.add_mm_90, rtol=1e-3)
        assert np.isnan(placed.expected_add_mm[:, 4]).all()


def test_the_graph_with_numpy_alone_is_the_encoder_s_own() -> None:
    points = teeth(5)
    np.testing.assert_array_equal(
        np.sort(neighbours(points, 4)), np.sort(nearest_neighbours(torch.from_numpy(points), 4).numpy())
    )
    with pytest.raises(ValueError, match="16 neighbours need more than 16 points, got 16"):
        neighbours(points, 16)


# The files.


def test_a_mouth_goes_from_points_to_poses_through_the_files_alone(exported: Path) -> None:
    """Encoder, alignment model and decoder in onnxruntime, the graph and the rigid fit in numpy."""
    import onnxruntime

    given = mouths(2, missing=4)
    network = latent_model()
    torch.manual_seed(1)
    encoder()
    decoder = weights.load(exported.parent / "models" / "decoder.pt", Decoder, DecoderConfig)
    head = rigid.apply(given.pose[:, T1], given.points).astype(np.float32)  # (2, 32, P, 3)
    run = {
        name: onnxruntime.InferenceSession(exported / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("encoder", "decoder", "alignment")
    }
    flat = head.reshape(-1, POINTS, 3)
    graph = neighbours(given.points.reshape(-1, POINTS, 3), 4)
    latents = run["encoder"].run(None, {"points": flat, "neighbours": graph})[0]
    latents = latents.reshape(2, 32, POINTS, FEATURES)
    masks = {"present": given.present[:, T1], "stays": given.stays}
    after = run["alignment"].run(None, {"latents": latents, **masks})[0]
    decoded = run["decoder"].run(None, {"latents": after.reshape(-1, POINTS, FEATURES)})[0]
    pose = rigid.fit(given.points, decoded.reshape(2, 32, POINTS, 3))

    ours = encoder()(torch.from_numpy(flat)).reshape(2, 32, POINTS, FEATURES).numpy()
    wanted = network.with_decoder(decoder).predict(Mouths.at_t1(*arrays(given), ours))
    np.testing.assert_allclose(pose[given.stays], wanted.pose[given.stays], atol=1e-3)


def test_a_file_says_what_goes_in_and_out_and_nothing_of_the_machine(exported: Path) -> None:
    import onnx

    for name in ("encoder", "decoder", "alignment"):
        model = onnx.load(exported / f"{name}.onnx")
        onnx.checker.check_model(model, full_check=True)
        said = {entry.key: entry.value for entry in model.metadata_props}
        for key, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
            ports = json.loads(said[key])
            assert [port["name"] for port in ports] == [value.name for value in values]
            for port, value in zip(ports, values, strict=True):
                assert port["unit"]
                axes = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
                assert [type(axis) for axis in axes] == [type(axis) for axis in port["shape"]]
                assert [a for a in axes if isinstance(a, int)] == [
                    a for a in port["shape"] if isinstance(a, int)
                ]
                assert port["unit"] in value.doc_string
        source = exported.parent / "models" / f"{name}.pt"
        assert said["weights_sha256"] == sha256_file(source)
        assert "not a medical device" in said["intended_use"]
        assert json.loads(said["slots"]) == list(SLOTS)
        assert b"dentalign/" not in (exported / f"{name}.onnx").read_bytes()
    assert "head coordinates" in onnx.load(exported / "encoder.onnx").graph.input[0].doc_string


def test_the_same_weights_give_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    decoder = (exported.parent / "models" / "decoder.pt").read_bytes()
    (tmp_path / "models" / "decoder.pt").write_bytes(decoder)
    (done,) = model_export.export_models(tmp_path / "models", tmp_path / "out")  # one alone will do
    assert done.path.read_bytes() == (exported / "decoder.onnx").read_bytes()


def test_a_file_that_answers_otherwise_does_not_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_onnx()

    def wrong(weight: torch.Tensor, *given: Any) -> tuple[torch.Tensor, ...]:
        return gathered_bag(weight * 1.0002, *given)

    monkeypatch.setattr(onnx_file, "gathered_bag", wrong)
    (tmp_path / "models").mkdir()
    weights.save(tmp_path / "models" / "encoder.pt", encoder())
    out = tmp_path / "out"
    out.mkdir()
    (out / "encoder.onnx").write_bytes(b"of an earlier export")
    with pytest.raises(DentalignError, match=r"encoder\.onnx: not written: .* latents differs by \d"):
        model_export.export_models(tmp_path / "models", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        "encoder.onnx": b"of an earlier export"
    }


@pytest.mark.long
def test_attention_is_exported_whole_and_answers_for_any_number_of_mouths(tmp_path: Path) -> None:
    pose_model = calibrated_model(("planner-01", "planner-02"))
    needs_onnx()
    import onnxruntime

    (tmp_path / "models").mkdir()
    weights.save(tmp_path / "models" / "alignment.pt", pose_model)
    (done,) = model_export.export_models(tmp_path / "models", tmp_path / "out")
    assert done.difference is not None
    assert done.difference <= onnx_file.TOLERANCE
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    for count in (1, 4):
        given = mouths(count, missing=2)
        names = ("points", "pose", "present", "stays")
        pose, expected, bound = session.run(None, dict(zip(names, arrays(given), strict=True)))
        placed = pose_model.predict(given)
        np.testing.assert_allclose(pose[..., :3, :3], placed.pose[..., :3, :3], atol=1e-4)
        np.testing.assert_allclose(pose[..., :3, 3], placed.pose[..., :3, 3], atol=5e-3)
        assert placed.expected_add_mm is not None and placed.add_mm_90 is not None
        np.testing.assert_allclose(expected, placed.expected_add_mm, rtol=1e-3)
        np.testing.assert_allclose(bound, placed.add_mm_90, rtol=1e-3)


def test_differences_are_shares_of_the_largest_value_and_a_wrong_nan_is_never_close() -> None:
    (port,) = decoder_interface(DecoderConfig(FEATURES)).outputs
    wanted = np.array([[1.0, -200.0, np.nan]], np.float32)
    assert onnx_file.differences([wanted + 0.01], [wanted], [port])["points"] == pytest.approx(5e-5, rel=1e-2)
    assert onnx_file.differences([np.nan_to_num(wanted)], [wanted], [port])["points"] == np.inf
    assert onnx_file.differences([wanted[:, :2]], [wanted], [port])["points"] == np.inf


def test_without_the_extra_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DentalignError, match=r"onnx and onnxscript not installed: .* extra `export`"):
        model_export.export_models(tmp_path, tmp_path)


def test_a_folder_without_models_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "require_onnx", lambda: None)
    with pytest.raises(DentalignError, match=r"holds none of encoder\.pt, decoder\.pt, alignment\.pt"):
        model_export.export_models(tmp_path, tmp_path / "out")

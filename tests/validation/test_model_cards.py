"""The model cards: what they must say, from a validation whose figures are known."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dentalign.alignment import registry
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError
from dentalign.files import weights
from dentalign.files.hashing import sha256_file
from dentalign.teeth import SLOT_INDEX, SLOTS
from dentalign.validation.measurement import Validation, validate
from dentalign.validation.report import cards as report_cards
from dentalign.validation.report import limits as report_limits
from dentalign.validation.report import page as report_page
from dentalign.validation.report.tables import COLUMNS
from tests.support.report_scenes import Page
from tests.support.report_validation import (
    EXTRACTED,
    SETTINGS,
    SPLITS,
    TEETH,
    small_encoder,
    small_latents,
    small_models,
)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    encoder = small_encoder(tmp_path)
    small_latents(tmp_path / "l.h5", encoder=encoder)
    small_models(tmp_path, encoder)
    return {name: tmp_path / name for name in ("l.h5", "encoder.pt", "decoder.pt", "alignment.pt")}


@pytest.fixture
def found(files: dict[str, Path]) -> Validation:
    return validate(files["l.h5"], files["decoder.pt"], files["alignment.pt"], SETTINGS)


def cards(folder: Path, found: Validation, files: dict[str, Path]) -> dict[str, str]:
    report_cards.write(folder, found, *files.values())
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def table(card: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its own head."""
    lines = card.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")
    ]
    return rows[2:]


def limits(card: str) -> str:
    return card.split("## Known limits")[1]


def test_each_model_has_a_card_with_its_use_and_that_it_is_no_medical_device(
    tmp_path: Path, found: Validation, files: dict[str, Path]
) -> None:
    written = cards(tmp_path / "cards", found, files)
    assert set(written) == {"encoder", "decoder", "alignment"}
    for name, card in written.items():
        assert "Planning support" in card
        assert "**Not a medical device.**" in card
        assert f"dentalign.load_{name}{'_model' * (name == 'alignment')}(path)" in card
        for heading in ("In and out", "Architecture", "Version", "Data", "Figures", "Known limits"):
            assert table(card, heading) if heading != "Known limits" else limits(card).count("\n- ") > 2
        assert "head coordinates" in card or name == "alignment"


def test_the_version_is_the_hashes_of_the_very_files(
    tmp_path: Path, found: Validation, files: dict[str, Path]
) -> None:
    for name, card in cards(tmp_path / "cards", found, files).items():
        hashes = {row[0].split(",")[0]: row[1] for row in table(card, "Version")}
        paths = {"latents.h5" if key == "l.h5" else key: path for key, path in files.items()}
        assert hashes == {key: sha256_file(path) for key, path in paths.items()}
        assert table(card, "Version")[0][0] == f"{name}.pt, this model"


def test_cases_and_teeth_are_counted_by_split(
    tmp_path: Path, found: Validation, files: dict[str, Path]
) -> None:
    rows = table(cards(tmp_path / "cards", found, files)["alignment"], "Data")
    for split, (name, number, at_t1, at_both) in zip(("train", "val", "test"), rows, strict=True):
        members = [index for index, other in enumerate(SPLITS) if other == split]
        odd = sum(index % 2 for index in members)  # of them one tooth is at T1 only, another at T2 only
        assert (name, int(number)) == (split, len(members))
        assert int(at_t1) == len(TEETH) * len(members) - odd
        assert int(at_both) == len(TEETH) * len(members) - 2 * odd


def test_the_figures_are_those_of_the_validation_with_unit_and_baselines(
    tmp_path: Path, found: Validation, files: dict[str, Path]
) -> None:
    written = cards(tmp_path / "cards", found, files)
    rows = {row[0]: row[1:] for row in table(written["alignment"], "Figures")}
    measured = {*found.metrics["model"], *found.metrics["true_t2"]}
    confidence = {"confidence.expected_add_mm", "confidence.rank_correlation"}
    assert set(rows) == {*measured, *confidence, "add_vs_identity"}
    shares = {
        "add_auc_5mm",
        "better_than_identity_share",
        "occlusal_contacts",
        "add_mm_90_coverage",
        "solved_occlusal_contacts",
    }
    for name in measured:
        unit = {"deg": "degrees", "ratio": "ratio", "gain": "ratio", "unknown": "number"}.get(
            name.rsplit("_", 1)[1], "mm"
        )
        unit = "share, 0 to 1" if name in shares else unit
        values = [found.metrics[column].get(name) for column in COLUMNS]
        form = "{:d}" if unit == "number" else "{:.3f}"
        assert rows[name] == [unit, *("–" if value is None else form.format(value) for value in values)]
    for name in ("encoder", "decoder"):
        ((metric, unit, value, scale),) = table(written[name], "Figures")
        assert (metric, unit) == ("reconstruction_mm", "mm")
        assert value == f"{found.metrics['reconstruction_mm']:.3f}"
        assert scale == f"{found.metrics['identity']['add_mm']:.3f}"


def test_weak_unmeasured_and_unseen_slots_are_named(
    tmp_path: Path, found: Validation, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_limits, "FEW_TEETH", 3)
    found.figures["model"]["add_mm"][:, SLOT_INDEX[13]] += 5
    said = limits(cards(tmp_path / "cards", found, files)["alignment"])
    assert re.search(r"Weakest slots .*: 13 \(8\.\d\d mm, 3 teeth\), ", said)
    worse = re.search(r"No better than leaving the tooth where it is: (.*)\.", said)
    assert worse
    assert "13" in worse[1].split(", ")
    absent = ", ".join(str(fdi) for fdi in SLOTS if fdi not in {*TEETH} - {35, 26})
    assert f"No tooth that stays in the test split, so not measured: {absent}." in said
    assert "Never present at both T1 and T2 in the train split: 38, 37, 34," in said
    assert "mouths that lack teeth `add_mm`" in said
    assert "full mouths none in the test split" in said
    assert "Extracted teeth: 0 in the train split, 3 in the test split" in said


def test_mouths_with_extractions_are_measured_apart(
    tmp_path: Path, found: Validation, files: dict[str, Path]
) -> None:
    with MouthStore(files["l.h5"]) as store:
        t1, t2 = store.present(found.rows).swapaxes(0, 1)
    taken = (t1 & ~t2).any(1)
    assert taken.all()
    add, still = (found.teeth(method).mean() for method in ("model", "identity"))
    wanted = f"`add_mm` {add:.2f} mm, without movement {still:.2f} mm, {len(taken)} cases"
    said = limits(cards(tmp_path / "cards", found, files)["alignment"])
    assert f"mouths with extractions {wanted}; mouths without none in the test split." in said


def test_mouths_that_are_like_no_training_case_are_measured_apart(
    tmp_path: Path, found: Validation, files: dict[str, Path]
) -> None:
    said = limits(cards(tmp_path / "cards", found, files)["alignment"])  # only test cases lose a tooth here
    assert re.search(
        r"with fewer than 4 training cases: mouths with such a pattern `add_mm` [\d.]+ mm, .*; "
        r"all other mouths none in the test split\.",
        said,
    )


def test_the_card_counts_what_training_cases_lacked_and_is_no_list_of_settings_for_it(
    tmp_path: Path, found: Validation, files: dict[str, Path]
) -> None:
    model = registry.load(files["alignment.pt"])
    patterns = {"mouths": 20, "usual": ("present",) * 32, "alike": {"": 11, "extracted 14 24": 5}}
    model.config = replace(model.config, patterns=patterns)
    weights.save(files["alignment.pt"], model)
    card = cards(tmp_path / "cards", found, files)["alignment"]
    data = card.split("## Data\n")[1].split("\n## ")[0]
    assert data.rstrip().endswith(
        "| teeth absent, extracted or unusually present, or their mirror image | training cases |\n"
        "|---|---|\n"
        "| nothing particular | 11 |\n"
        "| extracted 14 24 | 5 |\n"
        "| patterns with fewer than 4 cases | 4 |"
    )
    assert not [row for row in table(card, "Architecture") if row[0].startswith("patterns")]


def test_the_reconstruction_is_kept_by_slot(found: Validation, files: dict[str, Path]) -> None:
    with MouthStore(files["l.h5"]) as store:
        present = store.present(found.rows)
    assert (np.isfinite(found.reconstruction_mm) == present).all()
    assert np.nanmax(found.reconstruction_mm[:, :, EXTRACTED]) < 0.1  # half precision of the latents
    error = np.full_like(found.reconstruction_mm, np.nan)
    error[..., SLOT_INDEX[11]], error[..., SLOT_INDEX[36]] = 0.1, 0.2
    said = report_limits.of_autoencoder(replace(found, reconstruction_mm=error))
    assert said[0] == "Slots with the largest `reconstruction_mm`: 36 (0.200 mm), 11 (0.100 mm)."


def test_a_model_that_leaves_rare_slots_where_they_are_says_which(
    tmp_path: Path, found: Validation, files: dict[str, Path]
) -> None:
    from tests.alignment.attention.test_attention_model import random_model

    attention = random_model()
    attention.network.known_at_t2[SLOT_INDEX[48]] = False
    weights.save(files["alignment.pt"], attention)
    said = limits(cards(tmp_path / "cards", found, files)["alignment"])
    assert "Too rare in training, left where they stand: 48." in said
    assert "no expected error" not in said


def test_the_same_files_give_the_same_bytes_and_nothing_of_the_machine_or_of_a_case(
    tmp_path: Path, found: Validation, files: dict[str, Path]
) -> None:
    first, second = cards(tmp_path / "a", found, files), cards(tmp_path / "b", found, files)
    assert first == second
    for card in first.values():
        assert str(tmp_path) not in card
        assert not any(case_id in card for case_id in found.case_ids)


def test_an_encoder_that_did_not_make_the_latents_gets_no_card(
    tmp_path: Path, found: Validation, files: dict[str, Path]
) -> None:
    content = torch.load(files["encoder.pt"], weights_only=True)
    content["state_dict"]["scale"] += 1
    del content["sha256"]
    torch.save(content, files["encoder.pt"])
    with pytest.raises(DentalignError, match=r"encoder\.pt: is \w{12}, .*l\.h5 was encoded by \w{12}"):
        report_cards.write(tmp_path / "cards", found, *files.values())
    assert not (tmp_path / "cards").exists()


def test_the_report_links_to_the_cards_beside_it(
    tmp_path: Path, found: Validation, files: dict[str, Path]
) -> None:
    written = cards(tmp_path / "report" / "model_cards", found, files)
    links = {name: f"model_cards/{name}.md" for name in written}
    page = tmp_path / "report" / "index.html"
    report_page.write(page, found, files["l.h5"], model_cards=links)
    linked = {attributes["href"] for attributes, _ in Page.of(page).all("a") if "href" in attributes}
    assert linked == set(links.values())
    assert all((page.parent / str(link)).is_file() for link in linked)

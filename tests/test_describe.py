"""`dentalign describe`: the fingerprint of a data set, its page, and the drift between two."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dentalign import check, cli, describe
from dentalign.alignment import registry
from dentalign.alignment.familiarity import Teeth
from dentalign.demo_clinic.clinic import make_clinic
from dentalign.describe import Fingerprint
from dentalign.files import weights
from dentalign.mouth import Mouths
from dentalign.prediction import model_sets
from dentalign.prediction.predictor import Predictor
from tests.support.small_models import write_models

CASES = 6


@pytest.fixture(autouse=True)
def no_starter_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_sets, "STARTER", tmp_path / "starter")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of good cases, and a case list with planners."""
    folder = tmp_path_factory.mktemp("described") / "clinic"
    make_clinic(folder, CASES, seed=4)
    for number in range(CASES + 1, CASES + 10):
        (folder / "json" / f"demo-{number:04d}.json").unlink(missing_ok=True)
    rows = [f"demo-{number:04d},p{number},{'A' if number < 3 else 'B'}" for number in range(1, CASES + 1)]
    (folder / "planned.csv").write_text("\n".join(["case_id,patient_id,planner", *rows]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def fingerprint(store: Path) -> Fingerprint:
    with check.locate(store / "planned.csv") as places:
        return describe.describe(places)


def test_a_fingerprint_counts_what_check_counts_and_names_no_case(
    store: Path, fingerprint: Fingerprint
) -> None:
    with check.locate(store / "planned.csv") as places:
        checked = check.check(places)
    assert fingerprint.counts["cases used"] == checked.totals.cases_used == CASES
    assert fingerprint.counts["teeth at T1"] == checked.totals.teeth_used
    assert fingerprint.planners == {"B": 4, "A": 2}
    assert sum(fingerprint.patterns.values()) == CASES
    assert round(sum(fingerprint.present.values()) * CASES) == checked.totals.teeth_used
    assert "demo-" not in fingerprint.model_dump_json()
    for name in ("stages", "overlap_plan_mm", "molar_turn_deg"):
        assert len(fingerprint.figures[name]) == CASES
    assert all(values == sorted(values) for values in fingerprint.figures.values())


def test_the_same_plans_do_not_differ_and_moved_ones_do(fingerprint: Fingerprint) -> None:
    assert not any(one.differs for one in describe.drift(fingerprint, fingerprint))
    rng = np.random.default_rng(0)
    many = {"canine_turn_deg": np.sort(rng.normal(10, 2, 200)).tolist(), "stages": [10.0] * 200}
    more = {"canine_turn_deg": np.sort(rng.normal(13, 2, 200)).tolist(), "stages": [10.0] * 200}
    own, other = (fingerprint.model_copy(update={"figures": figures}) for figures in (many, more))
    turn, stages = describe.drift(own, other)
    assert turn.figure == "canine_turn_deg" and turn.differs
    assert turn.difference == pytest.approx(-1.5, abs=0.2)
    assert (stages.difference, stages.ks, stages.differs) == (0.0, 0.0, False)


def test_the_command_prints_a_table_and_writes_a_page_that_another_run_compares_with(
    store: Path, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    shutil.copytree(store / "json", one / "json")
    (one / "stl").symlink_to(store / "stl")
    done = CliRunner().invoke(cli.app, ["describe", str(one), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0].split("\t") == ["figure", "cases", "5 %", "median", "95 %"]
    page = (tmp_path / "out" / "describe.html").read_text(encoding="utf-8")
    assert page.count("<svg") > 10 and "Teeth at T1" in page
    written = tmp_path / "out" / "describe.json"
    again = ["describe", str(written), "--against", str(written), "--out", str(tmp_path / "two")]
    done = CliRunner().invoke(cli.app, again)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].split("\t")[6:] == ["+0.00", "0.00", ""]
    assert (tmp_path / "two" / "describe.json").read_bytes() == written.read_bytes()


def test_cases_are_compared_with_a_training_as_predict_compares_them(
    store: Path, fingerprint: Fingerprint, tmp_path: Path
) -> None:
    starter = write_models(model_sets.STARTER)
    model = registry.load(starter / "alignment.pt")
    predictor = Predictor(starter, device="cpu")
    cases = [predictor.read(file, store / "stl").mouth for file in sorted((store / "json").iterdir())]
    mouths = Mouths.at_t1(
        np.stack([one.points for one in cases]), np.stack([one.pose[0] for one in cases]),
        np.stack([one.present[0] for one in cases]), np.stack([one.present[0] for one in cases]),
    )  # fmt: skip
    model.familiarity.fit(Teeth.of(mouths).at(torch.arange(4)), Teeth.of(mouths).at(torch.arange(4, 6)))
    # Half of the cases become unlike.
    model.familiarity.limits.mul_(float(np.median(model.familiarity.score(mouths))))
    weights.save(starter / "alignment.pt", model)
    arguments = ["describe", str(store / "planned.csv"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    found = describe.read(tmp_path / "out" / "describe.json")
    assert found.figures["unlike_training"] == np.sort(model.familiarity.score(mouths)).round(4).tolist()
    assert found.unlike["unlike_training"] == model.familiarity.unlike(mouths).sum() == 3
    assert "describe: unlike_training: 3\n" in done.stderr
    assert "<li>unlike_training: 3</li>" in (tmp_path / "out" / "describe.html").read_text(encoding="utf-8")
    elsewhere = found.model_copy(update={"models": "of another training"})
    assert {one.figure for one in describe.drift(found, elsewhere)} == fingerprint.figures.keys()

"""A GPU box by docs/machines.md: its commands as they stand, and the bytes that go over the network."""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from dentalign.cases import case_list
from tests.support.dvc_remotes import Remote, started
from tests.support.pipeline_project import Project, make, ran
from tests.support.repository import ROOT
from tests.support.second_machine import (
    NEEDED,
    Shared,
    at_home,
    bare_repository,
    cached,
    forbid,
    hide_the_demo,
    keep_cases_out_of_git,
    objects,
    on_a_machine_of_its_own,
    use_locally,
    use_remote,
)

PAGE = ROOT / "docs" / "machines.md"
DATA, GIT = "ssh://me@storage.example.org/srv/dentalign", "git@git.example.org:clinic/teeth.git"
INSTALLS = ("make setup", "source .venv/bin/activate", "pip install ")  # the test has its environment
OTHERS = ("data/autoencoder_clouds.h5", "models/alignment.pt")
OVERHEAD = 1.05, 120_000  # on the wire: packets and their encryption; connections, listings, requests


def commands(section: str) -> list[str]:
    """The commands below a heading of the page, one line each."""
    text = re.split(r"^#{2,3} ", PAGE.read_text(encoding="utf-8"), flags=re.M)
    (body,) = (part for part in text if part.startswith(f"{section}\n"))
    return [line.strip() for line in body.splitlines() if line.startswith("    ")]


@dataclass
class Step:
    """Output of a command, and the state of the machine after it."""

    output: str
    cache: dict[str, int]
    received: int  # bytes from the remote over the wire


@dataclass
class Trip:
    """Record of all commands, to the box and back home."""

    shared: Shared
    box: Project
    steps: dict[str, Step] = field(default_factory=dict)  # by the command

    def step(self, words: str) -> Step:
        (found,) = (step for command, step in self.steps.items() if command.startswith(words))
        return found


def follow(section: str, machine: Project, shared: Shared, steps: dict[str, Step]) -> Project:
    """Run the commands of a section; returns the project in which they end."""
    relay = shared.remote.relay
    for command in commands(section):
        if command.startswith(INSTALLS):
            continue
        if command.startswith("cd "):
            folder = machine.root / command.removeprefix("cd ")
            machine = on_a_machine_of_its_own(Project(folder), shared.remote)
            use_locally(machine, shared.remote)
            continue
        line = command.replace(DATA, shared.remote.url).replace(GIT, str(shared.git))
        before = relay.sent if relay else 0
        output = machine.run("sh", "-c", re.sub("^dvc ", f"{sys.executable} -m dvc ", line)).stdout
        if command.startswith("dvc remote add"):
            use_locally(machine, shared.remote)
        in_project = (machine.root / ".dvc").is_dir()
        cache = cached(machine) if in_project else {}
        steps[command] = Step(output, cache, relay.sent - before if relay else 0)
    return machine


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("folder", marks=pytest.mark.slow),
        *(pytest.param(kind, marks=pytest.mark.long) for kind in ("ssh", "s3")),
    ],
)
def trip(
    request: pytest.FixtureRequest, finished_project: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trip]:
    """Trip after all commands of the page."""
    folder = tmp_path_factory.mktemp(f"box-{request.param}")
    with started(request.param, folder) as remote:
        shared = at_home(finished_project, folder, remote)
        steps: dict[str, Step] = {}
        follow("At home, once", shared.home, shared, steps)
        (folder / "box").mkdir()
        start = on_a_machine_of_its_own(Project(folder / "box"), remote)
        box = follow("On the box", start, shared, steps)
        follow("Back home", shared.home, shared, steps)
        yield Trip(shared, box, steps)


def locked(project: Project) -> dict[str, tuple[str, int]]:
    """Return MD5 and bytes of each output, by dvc.lock."""
    stages = yaml.safe_load((project.root / "dvc.lock").read_text(encoding="utf-8"))["stages"].values()
    return {out["path"]: (out["md5"], out["size"]) for stage in stages for out in stage["outs"]}


def needed_objects(project: Project, *paths: str) -> dict[str, int]:
    return dict(locked(project)[path] for path in paths)


def report(name: str, needed: int, cached_bytes: int, wire: int | None = None) -> None:
    on_wire = "" if wire is None else f", on the wire {wire:,} bytes ({wire / needed:.3f} of it)"
    print(f"{name}: needed {needed:,} bytes, pulled objects of {cached_bytes:,} bytes{on_wire}")


def test_the_box_pulls_the_three_files_and_nothing_else(trip: Trip) -> None:
    step = trip.step("dvc pull")
    wanted = needed_objects(trip.shared.home, *NEEDED)
    total = sum(wanted.values())
    report("three files", total, sum(step.cache.values()), step.received or None)
    assert step.cache == wanted
    if trip.shared.remote.relay:
        assert total <= step.received <= OVERHEAD[0] * total + OVERHEAD[1]


def test_the_box_trains_and_validates_without_anything_upstream(trip: Trip) -> None:
    step = trip.step("dvc exp run")
    assert ran(step.output) == ["train_align", "validate"]
    here = {path for path in locked(trip.box) if (trip.box.root / path).exists()}
    made = {"models/alignment.pt", "reports/train_align", "metrics/validation.json", "reports/validation"}
    assert here == {*NEEDED, *made, "reports/left_out.csv"}
    files = {path.relative_to(trip.box.root).parts[:2] for path in (trip.box.root / "data").rglob("*.*")}
    assert files == {("data", "latents.h5"), ("data", "dvc.yaml")}


def test_training_on_the_box_pulls_the_list_of_what_was_left_out_and_no_more(trip: Trip) -> None:
    """From a remote over the network DVC also pulls the autoencoder's metrics file."""
    at_home, before, after = (trip.step(words).cache for words in ("git push", "dvc pull", "dvc exp run"))
    wanted = needed_objects(trip.shared.home, "reports/left_out.csv")
    made = after_training(trip.box)  # files of the box's report may be the same as home's
    pulled = {name: after[name] for name in set(after) & set(at_home) - set(before) - made}
    received = trip.step("dvc exp run").received
    report("left_out.csv", sum(wanted.values()), sum(pulled.values()), received or None)
    figures = trip.shared.home.root / "reports/train_autoencoder/metrics.json"
    shown = {hashlib.md5(figures.read_bytes()).hexdigest(): figures.stat().st_size}
    assert pulled.items() - shown.items() == wanted.items()
    assert received <= sum(wanted.values()) + OVERHEAD[1]


def after_training(box: Project) -> set[str]:
    """Return the objects of the folders and files that train_align and validate write."""
    made = ("models/alignment.pt", "reports/train_align", "reports/validation")
    names = {locked(box)[path][0] for path in made}
    for name in [name for name in names if name.endswith(".dir")]:
        listing = box.root / ".dvc/cache/files/md5" / name[:2] / name[2:]
        names |= {entry["md5"] for entry in json.loads(listing.read_text(encoding="utf-8"))}
    return names


def test_the_result_comes_home_as_an_experiment(trip: Trip) -> None:
    home = trip.shared.home
    looked_at = ("models/alignment.pt", "reports/train_align", "reports/validation", "metrics", "params.yaml")
    assert home.hashes(*looked_at) == trip.box.hashes(*looked_at)
    difference = trip.step("dvc metrics diff").output
    assert re.search(r"metrics/validation\.json +model\.add_mm +[\d.]+ +[\d.]+ +-?[\d.]+", difference)
    assert "seed: 1" in (home.root / "params.yaml").read_text(encoding="utf-8")
    assert set(home.run("git", "diff", "--name-only").stdout.split()) == {
        "dvc.lock", "metrics/validation.json", "params.yaml",
    }  # fmt: skip
    assert "WARNING" not in trip.step("dvc exp push").output
    assert home.repro() == []


@pytest.mark.parametrize("kind", ["ssh", "s3"])
def test_over_the_network_three_files_are_pulled_and_hardly_a_byte_more(
    kind: str, finished_project: Project, tmp_path: Path
) -> None:
    with started(kind, tmp_path) as remote:
        shared = at_home(finished_project, tmp_path, remote)
        shared.publish(*NEEDED, *OTHERS)
        box = shared.clone(tmp_path / "box")
        assert remote.relay
        before = remote.relay.sent
        box.dvc("pull", *NEEDED)
        wire, wanted = remote.relay.sent - before, needed_objects(box, *NEEDED)
        total = sum(wanted.values())
        report(kind, total, sum(cached(box).values()), wire)
        assert cached(box) == wanted
        assert box.hashes(*NEEDED) == shared.home.hashes(*NEEDED)
        assert total <= wire <= OVERHEAD[0] * total + OVERHEAD[1]
        others = sum(needed_objects(box, *OTHERS).values())
        assert total + others > OVERHEAD[0] * total + OVERHEAD[1]  # pulling all would be seen


@pytest.fixture(scope="module")
def fresh_box(finished_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Clone with the three files; shared by tests, which must not change it."""
    folder = tmp_path_factory.mktemp("fresh")
    shared = at_home(finished_project, folder, Remote(str(folder / "storage")))
    shared.publish(*NEEDED, "reports/left_out.csv")
    box = shared.clone(folder / "box")
    box.dvc("pull", *NEEDED)
    return box


@pytest.fixture
def on_the_box(fresh_box: Project, tmp_path: Path) -> Project:
    """Copy of the clone, which the test may change."""
    box = fresh_box.copy(tmp_path / "box")
    box.environment |= {"HOME": fresh_box.environment["HOME"]}
    return box


def test_where_nothing_changed_the_box_computes_nothing_and_fetches_nothing(on_the_box: Project) -> None:
    before = cached(on_the_box)
    forbid(on_the_box, "*")
    assert on_the_box.repro("--pull", "--allow-missing", "train_align", "validate") == []
    assert cached(on_the_box) == before


def test_a_change_above_the_training_is_refused_on_the_box_not_half_done(on_the_box: Project) -> None:
    on_the_box.set("sample.seed", 1)
    done = on_the_box.dvc("repro", "--pull", "--allow-missing", "train_align", "validate", check=False)
    assert done.returncode != 0
    assert not set(ran(done.stdout)) & {"train_align", "validate"}


@pytest.mark.long
def test_without_pull_the_validation_says_which_file_it_lacks_and_the_model_stays(
    on_the_box: Project,
) -> None:
    forbid(on_the_box, "validate")
    on_the_box.set("train.epochs", 1)
    done = on_the_box.dvc("repro", "--allow-missing", "train_align", "validate", check=False)
    assert done.returncode != 0 and "reports/left_out.csv" in done.stdout
    assert (on_the_box.root / "models/alignment.pt").is_file()
    again = on_the_box.dvc("repro", "--pull", "--allow-missing", "train_align", "validate", check=False)
    assert ran(again.stdout) == ["validate"]


def test_dvc_checks_the_host_key_where_the_page_says_how(finished_project: Project, tmp_path: Path) -> None:
    (variable,) = re.findall(r"export (FSSPEC_\w+)=", PAGE.read_text(encoding="utf-8"))
    with started("ssh", tmp_path) as remote:
        assert remote.known_hosts
        project = on_a_machine_of_its_own(finished_project.copy(tmp_path / "project"), remote)
        hide_the_demo(project)
        use_remote(project, remote)
        project.environment[variable] = str(remote.known_hosts)
        project.dvc("push", "models/encoder.pt")
        another = remote.known_hosts.with_name("another")
        host, kind, _ = remote.known_hosts.read_text(encoding="utf-8").split()
        key = (tmp_path / "key.pub").read_text(encoding="utf-8").split()[1]
        another.write_text(f"{host} {kind} {key}\n", encoding="utf-8")
        project.environment[variable] = str(another)
        refused = project.dvc("push", "models/alignment.pt", check=False)
        assert refused.returncode != 0 and "Host key is not trusted" in refused.stdout
        assert remote.folder and len(objects(remote.folder)) == 1


@pytest.mark.long
def test_with_the_demo_as_source_the_box_makes_no_clinic(tmp_path: Path) -> None:
    """The demo clinic is a stage before all others, in a pipeline file of its own."""
    remote = Remote(str(tmp_path / "storage"), folder=tmp_path / "storage")
    home = on_a_machine_of_its_own(make(tmp_path / "home" / "teeth"), remote)
    for name, value in yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["source"].items():
        home.set(f"source.{name}", value)
    home.set("demo_clinic.cases", 40)
    home.set("autoencoder.cases", "autoencoder.csv")
    home.dvc("repro", "data/dvc.yaml:demo_clinic")
    few = case_list.for_autoencoder(case_list.read(home.root / "data/demo/cases.csv")[0], 4)
    case_list.write(home.root / "autoencoder.csv", few)
    assert home.repro()[-2:] == ["train_autoencoder", "validate"]
    keep_cases_out_of_git(home)
    shared = Shared(home, bare_repository(home, tmp_path / "teeth.git"), remote)
    use_remote(home, remote)
    home.commit()
    home.dvc("push")
    home.run("git", "push", "-q", "origin", "HEAD")
    box = shared.clone(tmp_path / "box")
    box.dvc("pull", *NEEDED)
    words = ("--pull", "--allow-missing", "-S", "train.seed=1", "train_align", "validate")
    assert ran(box.dvc("exp", "run", *words).stdout) == ["train_align", "validate"]
    assert not (box.root / "data/demo").exists()

"""The autoencoder's own cases: an explicit list from the train split, whatever else comes or goes."""

from pathlib import Path

import numpy as np
import pytest

from dentalign.dataset import mouth_store
from dentalign.dataset.autoencoder_cases import extract
from dentalign.dataset.mouth_store import Layout, MouthStore
from dentalign.errors import DentalignError, NothingUsable
from dentalign.mouth import Mouth

LAYOUT = Layout(4)
Cases = tuple[list[tuple[str, str]], ...]


@pytest.fixture(autouse=True)
def _own_state(state: Path) -> None:
    """Locks go below the test's folder."""


def mouth_of(case_id: str, split: str) -> Mouth:
    rng = np.random.default_rng(list(case_id.encode()))
    return Mouth(
        points=rng.normal(size=(32, 4, 3)).astype(np.float32),
        pose=rng.normal(size=(2, 32, 4, 4)),
        present=rng.random((2, 32)) < 0.5,
        case_id=case_id,
        split=split,
    )


def shards(folder: Path, *cases: list[tuple[str, str]]) -> list[Path]:
    files = []
    for number, rows in enumerate(cases):
        files.append(folder / f"{number}.h5")
        with mouth_store.create(files[-1], LAYOUT, {"shard": f"s{number}"}) as writer:
            for case_id, split in rows:
                writer.append(mouth_of(case_id, split))
    return files


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    file = tmp_path / "list.csv"
    file.write_text("\ufeffcase_id,patient_id\nb,1\n c ,2\ngone,3\n", encoding="utf-8")
    return file


FEW: Cases = ([("a", "val"), ("c", "train")], [("b", "train")])
MANY: Cases = ([("c", "train")], [], [("aa", "test"), ("b", "train"), ("bb", "train"), ("z", "train")])


def test_the_listed_cases_come_sorted_and_the_absent_are_named(tmp_path: Path, listed: Path) -> None:
    assert extract(shards(tmp_path, *FEW), listed, tmp_path / "out.h5") == (2, ["gone"])
    with MouthStore(tmp_path / "out.h5") as store:
        assert list(store.case_ids) == ["b", "c"]
        np.testing.assert_array_equal(store.mouth(1).points, mouth_of("c", "train").points)


def test_other_cases_and_shards_leave_the_bytes_as_they_are(tmp_path: Path, listed: Path) -> None:
    for name, cases in (("few", FEW), ("many", MANY)):
        (tmp_path / name).mkdir()
        extract(shards(tmp_path / name, *cases), listed, tmp_path / f"{name}.h5")
    assert (tmp_path / "few.h5").read_bytes() == (tmp_path / "many.h5").read_bytes()


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_case_outside_the_train_split_is_refused(tmp_path: Path, listed: Path, split: str) -> None:
    files = shards(tmp_path, [("b", "train"), ("c", split)])
    with pytest.raises(DentalignError, match=r"list\.csv: c \(1 in all\) are not in the train split"):
        extract(files, listed, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_a_list_of_absent_cases_is_nothing_usable(tmp_path: Path, listed: Path) -> None:
    with pytest.raises(NothingUsable, match="none of its 3 cases is in the data set"):
        extract(shards(tmp_path, [("x", "train")]), listed, tmp_path / "out.h5")


@pytest.mark.parametrize("text", [b"", b"id\nb\n", b"case_id\n\xff\xfe\n", None])
def test_what_is_no_list_is_refused(tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / "x.csv").write_bytes(text)
    with pytest.raises(DentalignError, match=r"x\.csv: "):
        extract(shards(tmp_path, *FEW), tmp_path / "x.csv", tmp_path / "out.h5")


def test_a_list_with_an_empty_line_or_a_missing_cell_is_read_or_refused_clearly(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("patient_id,case_id\n1,b\n2\n", encoding="utf-8")
    with pytest.raises(DentalignError, match="line 3 names no case"):
        extract(shards(tmp_path, *FEW), tmp_path / "x.csv", tmp_path / "out.h5")
    (tmp_path / "x.csv").write_text("case_id\nb\n\n", encoding="utf-8")
    assert extract(shards(tmp_path, *FEW), tmp_path / "x.csv", tmp_path / "out.h5") == (1, [])

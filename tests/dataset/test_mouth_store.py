"""HDF5 files of cases: what is written comes back, the same bytes each time, all or nothing."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout, MouthStore
from dentalign.errors import DentalignError
from dentalign.mouth import Mouth
from dentalign.teeth import SLOT_COUNT, SLOTS
from tests.support.stacked_mouths import stacked

LAYOUT = Layout(4, 2)


@pytest.fixture(autouse=True)
def _own_state(state: Path) -> None:
    """Locks go below the test's folder."""


def mouth(number: int, layout: Layout = LAYOUT) -> Mouth:
    rng = np.random.default_rng(number)
    values = {
        name: (rng.normal(size=shape) * 3).astype(dtype)
        for name, (shape, dtype) in layout.columns().items()
        if name not in ("case_id", "split", "planner")
    }

    def both(name: str) -> np.ndarray:
        return np.stack([values[f"{stage}/{name}"] for stage in ("t1", "t2")])

    return Mouth(
        points=values["points"],
        pose=both("pose"),
        present=both("mask"),
        fdi=values["fdi"],
        dropped=values["dropped"],
        latents=both("latents") if layout.features else None,
        case_id=f"näme-{number}",
        split=("train", "val", "test")[number % 3],
        planner=("", "planner-01", "planner-9999")[number % 3],
    )


def assert_same(found: Mouth, wanted: Mouth) -> None:
    for name, value in vars(wanted).items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)


def write(path: Path, rows: int, layout: Layout = LAYOUT) -> None:
    with mouth_store.create(path, layout, {"shard": "shard-000", "about": "ä"}) as writer:
        for number in range(rows):
            writer.append(mouth(number, layout))
        writer.write_record("left_out", [1, "ä"])


@pytest.mark.parametrize("layout", [LAYOUT, Layout(4)], ids=["latents", "clouds"])
def test_what_is_written_comes_back(tmp_path: Path, layout: Layout) -> None:
    write(tmp_path / "a.h5", 5, layout)
    with MouthStore(tmp_path / "a.h5") as store:
        assert (len(store), store.layout) == (5, layout)
        assert list(store.case_ids) == [f"näme-{number}" for number in range(5)]
        assert list(store.rows_of("val")) == [1, 4]
        assert store.attributes["about"] == "ä"
        assert store.record("left_out") == [1, "ä"]
        assert tuple(store.attributes["slots"]) == SLOTS
        for number in range(5):
            assert_same(store.mouth(number), mouth(number, layout))
        held_out = store.mouths(store.rows_of("val"), latents=bool(layout.features))
        wanted = stacked(mouth(1, layout), mouth(4, layout))
        for name, value in vars(wanted).items():
            np.testing.assert_array_equal(getattr(held_out, name), value, err_msg=name)
        np.testing.assert_array_equal(store.present(), [mouth(n, layout).present for n in range(5)])


def test_mouths_come_back_however_many_a_chunk_holds_and_though_the_writer_s_arrays_are_used_again(
    tmp_path: Path,
) -> None:
    layout, count = Layout(40, 8), 150  # chunks of 12, 17 and 64 rows
    reused = mouth(0, layout)
    with mouth_store.create(tmp_path / "a.h5", layout, {}) as writer:
        for number in range(count):
            one = mouth(number, layout)
            for name in ("points", "pose", "present", "fdi", "dropped", "latents"):
                getattr(reused, name)[:] = getattr(one, name)
            writer.append(replace(reused, case_id=one.case_id, split=one.split, planner=one.planner))
    with MouthStore(tmp_path / "a.h5") as store:
        assert store.case_ids == [f"näme-{number}" for number in range(count)]
        assert list(store.rows_of("val")) == list(range(1, count, 3))
        for number in (0, 11, 12, 63, 64, 149, -1):
            assert_same(store.mouth(number), mouth(number % count, layout))


def test_a_copy_is_the_same_file(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", 70)
    with MouthStore(tmp_path / "a.h5") as store:
        attributes = {name: store.attributes[name] for name in ("shard", "about")}
        with mouth_store.create(tmp_path / "b.h5", store.layout, attributes) as writer:
            for number in range(70):
                writer.append(store.mouth(number))
            writer.write_record("left_out", store.record("left_out"))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


GROWTH = """
import sys, pathlib
from dentalign.dataset import mouth_store, concat
mouth_store._CHUNK_BYTES = 4096  # a row a chunk, as of real cases
concat.account(sys.argv[1:2], ["s"])
concat.concatenate(sys.argv[1:2], ["s"], sys.argv[1] + ".joined")
print(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_joining_takes_no_more_memory_for_more_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, checksums and what HDF5 keeps: below 1 KiB a case; its directory of chunks alone was over 2."""
    monkeypatch.setattr(mouth_store, "_CHUNK_BYTES", 4096)
    layout, peak_kib = Layout(2, 32), []
    given = mouth(0, layout)
    for count in (200, 2700):
        with mouth_store.create(tmp_path / "a.h5", layout, {"shard": "s", "encoder_sha256": "x"}) as writer:
            for number in range(count):
                writer.append(replace(given, case_id=f"case-{number:06d}"))
            writer.write_record("left_out", [])
            writer.write_record("listed", {"cases": 0, "teeth": 0})
        told = subprocess.run(
            [sys.executable, "-c", GROWTH, str(tmp_path / "a.h5")], capture_output=True, text=True, check=True
        )
        peak_kib.append(int(told.stdout))
    assert peak_kib[1] - peak_kib[0] < 1.0 * 2500, peak_kib


def test_columns_have_the_contract_s_names_shapes_and_types(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", 2, Layout(256, 32))
    with h5py.File(tmp_path / "a.h5") as file:
        for stage in ("t1", "t2"):
            assert file[f"{stage}/latents"].shape == (2, SLOT_COUNT, 256, 32)
            assert file[f"{stage}/latents"].dtype in (np.float16, np.float32)
            assert (file[f"{stage}/mask"].shape, file[f"{stage}/mask"].dtype) == ((2, SLOT_COUNT), np.bool_)
            assert file[f"{stage}/pose"].shape == (2, SLOT_COUNT, 4, 4)
            assert file[f"{stage}/pose"].dtype == np.float64
        assert (file["points"].shape, file["points"].dtype) == ((2, SLOT_COUNT, 256, 3), np.float32)
        assert {"slots", "format_version"} <= set(file.attrs)
        assert file["case_id"].asstr()[0] == "näme-0"
        assert file["planner"].shape == (2,)
        assert list(file["planner"].asstr()) == ["", "planner-01"]


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", 0)
    with MouthStore(tmp_path / "a.h5") as store:
        assert len(store) == 0
        assert not len(store.rows_of("train"))


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", 4)
    write(tmp_path / "b.h5", 4)
    write(tmp_path / "c.h5", 3)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert (tmp_path / "a.h5").read_bytes() != (tmp_path / "c.h5").read_bytes()


@pytest.mark.parametrize("version", [0, 2, None])
def test_another_format_version_is_refused(tmp_path: Path, version: int | None) -> None:
    write(tmp_path / "a.h5", 1)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file.attrs["format_version"]
        if version is not None:
            file.attrs["format_version"] = version
    with pytest.raises(DentalignError, match=rf"a\.h5: format_version {version}, this program reads 4"):
        MouthStore(tmp_path / "a.h5")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    write(tmp_path / "a.h5", 3)
    data = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(data[: int(share * len(data))])
    with pytest.raises(DentalignError, match=r"a\.h5: cannot be read as HDF5"):
        MouthStore(tmp_path / "a.h5")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DentalignError, match=r"none\.h5: cannot be read as HDF5"):
        MouthStore(tmp_path / "none.h5")


def test_a_mouth_of_another_layout_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="näme-0: 4 points and 0 features per point"):  # noqa: SIM117
        with mouth_store.create(tmp_path / "out" / "a.h5", LAYOUT, {}) as writer:
            writer.append(mouth(0, Layout(4)))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_killed_writer_leaves_an_earlier_file_as_it_was_and_no_new_one(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from dentalign.dataset import mouth_store\n"
        "with mouth_store.create(sys.argv[1], mouth_store.Layout(4), {}):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    write(tmp_path / "out" / "there.h5", 2)
    before = (tmp_path / "out" / "there.h5").read_bytes()
    for name in ("there.h5", "new.h5"):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out" / name)], check=False)
        assert done.returncode == -9
    assert (tmp_path / "out" / "there.h5").read_bytes() == before
    assert not (tmp_path / "out" / "new.h5").exists()

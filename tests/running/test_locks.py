"""Locks: what is said where the file system has none. tests/pipeline/test_interruption.py has the rest."""

import errno
import fcntl
from pathlib import Path
from typing import Any

import pytest

from dentalign.errors import DentalignError
from dentalign.running.locks import exclusive


def test_a_file_system_without_locks_is_named(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(DentalignError) as caught, exclusive(tmp_path / "out"):
        pytest.fail("taken without a lock")
    assert str(caught.value).startswith(
        f"{state / 'locks'}: this file system has no locks (No locks available)"
    )
    assert "mount it with locks" in str(caught.value)

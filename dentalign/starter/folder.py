"""Folder of the starter weights."""

from pathlib import Path

STARTER = Path(__file__).parent

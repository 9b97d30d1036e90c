"""Excerpts of published benchmarks, which are not part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Beside the checkout, or wherever the variable says.
EXCERPTS = Path(os.environ.get("CHAREMBED_EXCERPTS", ROOT.parent / "shared" / "formats"))


def excerpt(path: str) -> Path:
    """Return a file or folder of the excerpts; skip the test if it is missing."""
    if not (found := EXCERPTS / path).exists():
        pytest.skip(f"needs the excerpt {found}")
    return found

"""Saved parts on the Hugging Face hub, as "hf:owner/name". Only this needs huggingface_hub."""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import CharEmbedError

_PREFIX = "hf:"


def named(path: str | Path) -> str:
    """Return the repository of a hub path, "" for a folder: "hf:owner/name" -> "owner/name"."""
    text = str(path)
    # "hf:" alone names no repository, but no folder either
    return text.removeprefix(_PREFIX) or " " if text.startswith(_PREFIX) else ""


def push(repository: str, save: Callable[[Path], None]) -> None:
    """Run `save` on a temporary folder and upload it as one commit; create a missing repository."""
    _check(repository)
    api = _hub().HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="Character encoder, saved by charembed",
        )


def fetch(repository: str, file: str) -> Path:
    """Download one file of a repository and return the folder that holds it."""
    _check(repository)
    return Path(_hub().hf_hub_download(repository, file)).parent


def _check(repository: str) -> None:
    """Raise CharEmbedError if this is no name of a repository."""
    if not re.fullmatch(r"([\w.-]+/)?[\w.-]+", repository):
        raise CharEmbedError(
            f"{repository!r} is no repository of the hub. Pass 'hf:owner/name', with letters, "
            "digits, '-', '_' and '.'."
        )


def _hub() -> Any:
    # Imported here, so charembed works without the package.
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise CharEmbedError(
            f"A path that begins with {_PREFIX!r} needs the package huggingface_hub. Run "
            "pip install huggingface_hub."
        ) from None

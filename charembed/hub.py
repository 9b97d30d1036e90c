"""Character parts on the Hugging Face hub, as "hf:owner/name"; this alone needs huggingface_hub."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import CharEmbedError

PREFIX = "hf:"


def named(path: str | Path) -> str:
    """ "hf:owner/name" -> "owner/name"; "" for a folder."""
    text = str(path)
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else ""


def push(repository: str, save: Callable[[Path], None]) -> None:
    """Let `save` write into a folder and upload it as one commit; the repository is made if it is missing."""
    api = _hub().HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="The letters of a charembed model",
        )


def fetch(repository: str, file: str) -> Path:
    """The folder that holds the downloaded file."""
    return Path(_hub().hf_hub_download(repository, file)).parent


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise CharEmbedError(
            f"a name that begins with {PREFIX!r} needs the package huggingface_hub: pip install "
            "huggingface_hub."
        ) from None

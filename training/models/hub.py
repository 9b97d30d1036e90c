"""Names on the Hugging Face hub: the hub is asked once, and a machine without a network is not kept waiting.

transformers and datasets ask for each file, and wait between six attempts for half a minute.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
)

from training.errors import BadInput

PATIENCE = 3.0  # seconds for the hub's first answer


@cache
def answers(name: str, kind: str) -> bool:
    """Does the hub say that it has this "model" or "dataset"? False where it cannot be reached.

    A process asks once for each name.

    Raises BadInput for a name that cannot be one, and for one that the hub does not have.
    """
    try:
        HfApi().repo_info(name, repo_type=kind, timeout=PATIENCE)
    except HFValidationError:
        raise BadInput(
            f"{name!r} is neither a folder nor a name on the hub: name a {kind} that is."
        ) from None
    except RepositoryNotFoundError:
        raise BadInput(
            f"{name!r} is neither a folder nor a {kind} on the hub that may be read: name one that is, or "
            "log in with 'hf auth login' where it is private."
        ) from None
    except (HTTPError, OSError):
        return False
    return True


@contextmanager
def asked_once(name: str, kind: str) -> Iterator[None]:
    """Within it the hub is read if it answers, and else what it left in its cache, at once.

    Raises BadInput like `answers`.
    """
    before, reached = constants.HF_HUB_OFFLINE, answers(name, kind)
    constants.HF_HUB_OFFLINE = before or not reached
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def load_dataset(name: str, wanted: str, **options: Any) -> Any:
    """`datasets.load_dataset` of a folder or a hub name, asked once.

    Raises BadInput, with what is `wanted` and the library's own first line, where there is none.
    """
    import datasets

    datasets.disable_progress_bars()  # the laboratory has its own
    try:
        with nullcontext() if os.path.exists(name) else asked_once(name, "dataset"):
            return datasets.load_dataset(name, **options)
    except BadInput:
        raise
    except Exception as error:  # whatever the library finds wrong with it
        raise BadInput(
            f"{name!r} gives no {wanted} ({first_line(error)}): name another one, or a file."
        ) from None


def first_line(error: Exception) -> str:
    """What a library says of an error, on one line and without the full stop."""
    said = str(error).strip() or type(error).__name__
    return said.splitlines()[0].rstrip(".:")

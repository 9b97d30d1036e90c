"""Models and datasets by name: a folder, or a name on the Hugging Face hub.

transformers and datasets request every file separately and retry each for half a minute. Here the
hub gets one short request per name; without an answer, the libraries use their local cache alone.
A machine without a network therefore gets its error message in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
)

from training.errors import BadInput

_TIMEOUT = 3.0  # seconds for the hub's first answer


@cache
def _is_reachable(name: str, kind: str) -> bool:
    """Whether the hub answers and has this "model" or "dataset"; one request in a process."""
    seen = f"{name!r} is neither a folder nor"
    try:
        HfApi().repo_info(name, repo_type=kind, timeout=_TIMEOUT)
    except HFValidationError:
        raise BadInput(f"{seen} a name on the hub: name a {kind} that exists.") from None
    except RepositoryNotFoundError:
        raise BadInput(
            f"{seen} a public {kind} on the hub: name one that exists, or log in with 'hf auth "
            "login' if it is private."
        ) from None
    except (HTTPError, OSError):
        return False
    return True


@contextmanager
def _reading(name: str, kind: str, wanted: str) -> Iterator[None]:
    """Within it, libraries read a folder, the hub, or their cache; their errors become BadInput."""
    before = constants.HF_HUB_OFFLINE
    try:
        if not os.path.exists(name):
            reached = _is_reachable(name, kind)
            # transformers and datasets look this constant up in each call
            constants.HF_HUB_OFFLINE = before or not reached
        yield
    except BadInput:
        raise
    except Exception as error:  # the libraries have no common class for their errors
        other = {"model": "another model", "dataset": "another one, or a file"}[kind]
        raise BadInput(f"{name!r} gives no {wanted} ({first_line(error)}): name {other}.") from None
    finally:
        constants.HF_HUB_OFFLINE = before


def dataset_revision(name: str) -> str:
    """The commit of a dataset on the hub; "" if the hub does not answer.

    Raises BadInput if the hub has no such dataset.
    """
    if constants.HF_HUB_OFFLINE or not _is_reachable(name, "dataset"):
        return ""
    return HfApi().repo_info(name, repo_type="dataset", timeout=_TIMEOUT).sha or ""


def load_dataset(name: str, wanted: str, /, **options: Any) -> Any:
    """Load a dataset with `datasets.load_dataset` from a folder or a hub name.

    `wanted` names the dataset in messages, such as "dataset with a split 'train'".

    Raises BadInput, with the first line of the library's message, if there is none.
    """
    import datasets

    datasets.disable_progress_bars()  # the laboratory has its own
    with _reading(name, "dataset", wanted):
        return datasets.load_dataset(name, **options)


def read(kind: str, name: str, wanted: str, **options: Any) -> Any:
    """Call `transformers.KIND.from_pretrained(name)` without its warnings.

    read("AutoConfig", "gpt2", "config") -> a GPT2Config

    Raises BadInput, in one sentence, if the `wanted` thing is missing or unreadable.
    """
    way_out = "name a folder that save_pretrained wrote, or a hub name."
    if os.path.isfile(name):
        raise BadInput(f"the model {name!r} is a file: {way_out}")
    if os.path.isdir(name) and not os.path.isfile(os.path.join(name, "config.json")):
        raise BadInput(f"the folder {name!r} holds no model (it has no config.json): {way_out}")
    import transformers  # takes half a second, which runs without a pretrained model save
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # the laboratory has its own
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with _reading(name, "model", wanted):
            return getattr(transformers, kind).from_pretrained(name, **options)
    finally:
        logging.set_verbosity(verbosity)


def text_config(name: str) -> Any:
    """The config of a pretrained model's text part."""
    return read("AutoConfig", name, "config").get_text_config()


def num_parameters(name: str) -> int:
    """Parameters of a pretrained causal model, counted from its config without its weights.

    Raises BadInput if the config is not one of a causal model.
    """
    import transformers

    config = read("AutoConfig", name, "config")
    make: Any = transformers.AutoModelForCausalLM.from_config
    with _reading(name, "model", "causal language model"), torch.device("meta"):
        model = make(config)
    return sum(parameter.numel() for parameter in model.parameters())


def first_line(error: BaseException) -> str:
    """The first line of a library's error message, without its full stop.

    `datasets` says "An error occurred while generating the dataset"; its cause is the message.
    """
    while type(error).__name__ == "DatasetGenerationError" and error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".:")

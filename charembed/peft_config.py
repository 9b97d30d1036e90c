"""A PEFT config with which each adapter trains and saves its own copy of the character encoder."""

from __future__ import annotations

import copy
import importlib
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from .adapters import modules_in_use
from .embedding import CharEmbedding
from .errors import AttachError
from .mark import check_module

if TYPE_CHECKING:
    Config = TypeVar("Config", bound=Any)
else:
    Config = TypeVar("Config")


def peft_config(model: nn.Module, config: Config) -> Config:
    """Return a copy of a PEFT config whose adapter trains and saves the character encoder too.

    model = charembed.attach(AutoModelForCausalLM.from_pretrained("gpt2"), tokenizer)
    config = charembed.peft_config(model, LoraConfig(target_modules=["c_attn"]))
    model = get_peft_model(model, config)     # or SFTTrainer(model, ..., peft_config=config)

    The encoder becomes one of `modules_to_save`: PEFT trains a copy of it, saves the copy with the
    adapter, and uses the original while the adapter is disabled. So checkpoints, resuming, the best
    step, the reference of DPO and GRPO, several adapters and merging all have the right encoder.
    The token table stays frozen. The encoder is one of `exclude_modules` too, so PEFT warns if the
    adapter is loaded onto a base without it. To ship the model, fold first, then merge:
    `charembed.fold(model).merge_and_unload()`.

    Arguments:
        model: a model with an attached encoder, before PEFT wraps it.
        config: a LoraConfig or another PEFT config with `modules_to_save`. It is not changed.

    Raises AttachError if the model has no encoder, if it is already a PEFT model, if the config
    has no `modules_to_save`, adapts or wraps the embedding itself, or has trainable tokens.
    """
    check_module(model)
    path = _path(model)
    kind = type(config).__name__
    if isinstance(config, type):  # deepcopy returns a class itself, and its attributes would change
        raise AttachError(
            f"config is the class {config.__name__}. Pass an object: {config.__name__}(...)."
        )
    if not hasattr(config, "modules_to_save"):
        raise AttachError(
            f"A {kind} has no modules_to_save, so its adapter cannot hold the character encoder. "
            "Use another config, such as LoraConfig, or train the encoder without PEFT's help: set "
            "requires_grad of charembed.parameters(model), and save it with charembed.save."
        )
    if getattr(config, "trainable_token_indices", None) or kind == "TrainableTokensConfig":
        raise AttachError(
            "trainable_token_indices looks rows up without the embedding's forward, so character "
            "vectors would have no effect. Leave it out."
        )
    if isinstance(config.modules_to_save, str):
        raise AttachError(
            f"modules_to_save is {config.modules_to_save!r}, and PEFT would read each letter as the "
            f"name of a module. Pass a list: [{config.modules_to_save!r}]."
        )
    saved = list(config.modules_to_save or ())
    if any(path.endswith(name) for name in saved):
        raise AttachError(
            f"modules_to_save has the embedding {path!r}, which PEFT then trains with its encoder. "
            "Use that config as it is (with ensure_weight_tying=True if the head is tied), or "
            "leave the embedding out."
        )
    if _targets(config, path):
        raise AttachError(
            f"target_modules has the embedding {path!r}, and PEFT cannot save an encoder inside an "
            "adapter's layer. Leave it out of target_modules. To train the rows too, pass "
            f"modules_to_save=[{path.rpartition('.')[2]!r}], ensure_weight_tying=True instead of "
            "this function."
        )
    if getattr(config, "is_prompt_learning", False):
        warnings.warn(
            f"With a {kind}, PEFT uses the trained copy of the encoder also while the adapter is "
            "disabled. So disable_adapter() and the reference of DPO and GRPO do not give the base. "
            "Use a LoraConfig if you need that.",
            stacklevel=2,
        )
    made = copy.deepcopy(config)
    encoder = f"{path}.encoder"
    made.modules_to_save = [*(name for name in saved if name != encoder), encoder]
    excluded = getattr(config, "exclude_modules", None)
    # a str is a regular expression, which is left as it is
    if hasattr(config, "exclude_modules") and not isinstance(excluded, str):
        made.exclude_modules = {*(excluded or ()), encoder}
    return made


def _path(model: nn.Module) -> str:
    """Return the path of the embedding that holds the encoder."""
    if hasattr(model, "peft_config"):
        raise AttachError(
            "The model already has a PEFT adapter. Call peft_config before get_peft_model."
        )
    for path, part in modules_in_use(model):
        if isinstance(part, CharEmbedding) and part.holds_encoder:
            return path
    raise AttachError(
        "The model has no CharEmbedding. First call charembed.attach(model, tokenizer)."
    )


def _targets(config: Any, path: str) -> bool:
    """True if the adapter would wrap the embedding, by PEFT's own rule."""
    if not getattr(config, "target_modules", None) or config.target_modules == "all-linear":
        return False
    rule: Any = importlib.import_module("peft.tuners.tuners_utils").check_target_module_exists
    found = rule(config, path)
    return bool(found) and type(found).__name__ != "_ExcludedModule"

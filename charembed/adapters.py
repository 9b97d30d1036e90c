"""Where PEFT's adapters change which encoder, or which embedding, a model uses.

PEFT's `modules_to_save` puts a wrapper in place of a module. The wrapper holds the original module
and a copy for each adapter. Its classes are recognised by their parts, because PEFT may not be
installed.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from .errors import AttachError, CharEmbedError, MismatchError

_SKIPS_FORWARD = (
    "PEFT's trainable_token_indices looks rows up in the embedding's weight and skips its forward, "
    "so character vectors would have no effect."
)


def is_wrapper(module: nn.Module) -> bool:
    """True if the module is PEFT's wrapper of a module in `modules_to_save`."""
    return "modules_to_save" in module._modules and "original_module" in module._modules


def in_use(module: nn.Module) -> nn.Module:
    """Return the module that computes: the active adapter's copy, or the module itself.

    in_use(wrapper)     # wrapper.modules_to_save["default"]; original_module if adapters are off

    Raises CharEmbedError if PEFT has set `adapter_names`, which chooses an adapter for each row of
    the batch: the encoder sees distinct tokens, not rows.
    """
    if "modules_to_save" not in module._modules or not is_wrapper(module):
        return module
    wrapper: Any = module
    if any("adapter_names" in getattr(hook, "keywords", ()) for hook in _hooks(wrapper)):
        raise CharEmbedError(
            "adapter_names mixes adapters in one batch, but each adapter has its own character "
            "encoder. Choose one adapter for the batch with model.set_adapter(name)."
        )
    active = wrapper.active_adapters[:1]
    copies = wrapper.modules_to_save
    found: nn.Module = (
        wrapper.original_module
        if wrapper.disable_adapters or not active or active[0] not in copies
        else copies[active[0]]
    )
    return found


def _hooks(wrapper: nn.Module) -> Any:
    return wrapper._forward_pre_hooks.values()


def versions(module: nn.Module) -> list[nn.Module]:
    """Return the original module and every adapter's copy; [module] if PEFT has not wrapped it."""
    if not is_wrapper(module):
        return [module]
    wrapper: Any = module
    return [wrapper.original_module, *wrapper.modules_to_save.values()]


def modules_in_use(model: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield (path, module) as `named_modules` does, without the copies that PEFT does not use."""
    seen: set[int] = set()

    def walk(part: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
        if id(part) in seen:
            return
        seen.add(id(part))
        yield path, part
        used = in_use(part) if is_wrapper(part) else None
        for name, child in part._modules.items():
            if child is None:
                continue
            below = f"{path}.{name}" if path else name
            if used is None or child is used:
                yield from walk(child, below)
            elif name == "modules_to_save":
                for adapter, copy in child._modules.items():
                    if copy is used:
                        yield from walk(copy, f"{below}.{adapter}")

    yield from walk(model, path)


def check_reachable(model: nn.Module, found: nn.Module) -> None:
    """Raise AttachError if PEFT's trainable tokens wrap the embedding."""
    for part in model.modules():
        if type(part).__name__ == "TrainableTokensLayer" and (
            any(inner is part for inner in found.modules())
            or any(inner is found for inner in part.modules())
        ):
            raise AttachError(
                f"{_SKIPS_FORWARD} Merge that adapter first (merge_and_unload), or leave "
                "trainable_token_indices out."
            )


def check_order(model: nn.Module, host: nn.Module) -> None:
    """Raise AttachError if the model has an adapter that was trained with an encoder.

    PEFT has already dropped the encoder's values, because the model had no place for them.
    """
    path = next((path for path, part in model.named_modules() if part is host), "")
    configs: Any = getattr(model, "peft_config", None)
    for config in configs.values() if isinstance(configs, dict) else ():
        for name in getattr(config, "modules_to_save", None) or ():
            if f".{path}.encoder".endswith(f".{name}") and name.count("."):
                raise AttachError(
                    f"The model has an adapter that was trained with a character encoder ({name}), "
                    "and PEFT has loaded it without. Call charembed.attach on the base, then load "
                    "the adapter (PeftModel.from_pretrained)."
                )


def check_keys(wrapper: nn.Module, prefix: str, names: Iterable[str]) -> None:
    """Raise MismatchError if a state dict has values that the wrapper's encoder does not have.

    PEFT drops such keys without an error. An example is the factor of `set_scale`.
    """
    own = wrapper.state_dict().keys()
    for name in names:
        key = name.removeprefix(prefix)
        if key != name and key not in own:
            raise MismatchError(
                f"The adapter was trained with another encoder: it has {key!r}, and this model's "
                "encoder does not. Call charembed.attach with the arguments (and set_scale with the "
                "scale) of the training."
            )


def check_reader(frame: types.FrameType) -> None:
    """Raise CharEmbedError if the frame is PEFT's own look-up of rows in the embedding's weight."""
    if str(frame.f_globals.get("__name__")).startswith("peft.tuners.trainable_tokens"):
        raise CharEmbedError(
            f"{_SKIPS_FORWARD} Leave trainable_token_indices out; to train the rows too, pass the "
            "embedding's name in modules_to_save."
        )


def caller(name: str, package: str) -> types.FrameType | None:
    """Return the innermost frame of a function `name` of a package that is being called."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if frame.f_code.co_name == name and module.partition(".")[0] == package:
            return frame
        frame = frame.f_back
    return None

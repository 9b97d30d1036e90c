"""The transformer blocks of a model: the parts that are compiled and sharded one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from training.errors import BadInput

from .language_model import LanguageModel


def blocks_of(model: LanguageModel) -> list[nn.Module]:
    """Return the blocks of a model in their order: the members of its outermost lists of one class.

    blocks_of(decoder) -> [Block(...), Block(...), Block(...)]

    The character encoder, which may hold lists of its own, is no block. A model without such a list
    has none.
    """
    table = set(model.get_submodule(model.embedding).modules())
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for module in model.modules():  # outer modules come before inner ones
        if module in table or module in inside or not isinstance(module, nn.ModuleList):
            continue
        if len({type(block) for block in module}) == 1:
            found += module
            inside.update(part for block in module for part in block.modules())
    return found


@contextmanager
def compiled(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Compile the methods that compute each block for the `with` block, in training mode alone.

    Evaluation stays as it is: its rows grow token by token, and each length would compile anew.
    """
    own = [(block, name, vars(block).get(name)) for block in blocks for name in ways_of(block)]
    for block, name, _ in own:
        # on the instance: names of parameters and hooks stay, and no other model is touched
        setattr(block, name, _in_training(block, getattr(block, name)))
    try:
        yield
    finally:
        for block, name, before in own:
            delattr(block, name)
            if before is not None:
                setattr(block, name, before)


def ways_of(block: nn.Module) -> list[str]:
    """The methods that compute a block: `forward`, and `packed` of the decoder's blocks."""
    return [name for name in ("forward", "packed") if hasattr(block, name)]


def _in_training(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    fast = torch.compile(forward)

    def chosen(*args: Any, **kwargs: Any) -> Any:
        return (fast if block.training else forward)(*args, **kwargs)

    return chosen


def check_compiler(device: torch.device) -> None:
    """Raise BadInput if torch.compile does not work on this device; takes seconds."""
    # a trial: which compiler is needed depends on the device, and it may be there and fail
    try:
        torch.compile(_trial)(torch.ones(8, device=device))
    except Exception as error:
        seen = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(
            f"--compile does not work on this machine ({type(error).__name__}: {seen}): install a "
            "C++ compiler (for a GPU also triton), or leave --compile out."
        ) from None


def of_compiler(error: Exception) -> bool:
    """Whether torch.compile raised an error, such as that of a C++ compiler that was stopped."""
    # imported here: the compiler of torch takes a second to import, and most runs do not use it
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import CppCompileError

    return isinstance(error, TorchDynamoException | CppCompileError)


def _trial(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1

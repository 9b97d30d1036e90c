"""The modules, hooks and code that read the weight of an embedding besides its own forward."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def codes_of(part: nn.Module) -> list[types.CodeType]:
    """Return the code of a module's forward and of its own methods that are named in it."""
    found: dict[types.CodeType, None] = {}
    names, seen = ["forward"], {"forward"}
    while names:
        name = names.pop()
        for kind in (vars(part), *map(vars, type(part).__mro__)):
            held = kind.get(name)
            if held is None:
                continue
            held = held.fget if isinstance(held, property) else held
            code = getattr(inspect.unwrap(held), "__code__", None) if callable(held) else None
            for one in (code, *getattr(code, "co_consts", ())):  # inner functions are constants
                if isinstance(one, types.CodeType):
                    found[one] = None
                    names += {*one.co_names} - seen
                    seen |= {*one.co_names}
            if "super" not in getattr(code, "co_names", ()):
                break  # the definitions of the superclasses are overridden
    return list(found)


def names_weight(hook: Any) -> bool:
    """True if the code of a hook names an attribute `weight`: it may read the embedding's."""
    while isinstance(hook, functools.partial):
        hook = hook.func
    code = getattr(inspect.unwrap(hook), "__code__", None)
    if code is None:
        code = getattr(type(hook).__call__, "__code__", None)
    return "weight" in getattr(code, "co_names", ())


class Readers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Find the modules whose operators get one of the weights, and refuse collectives.

    A collective waits for the other processes, which may not fold.

    Arguments:
        weights: the weights.
        names: path of each module of the model, by id.
        known: ids of the model's parameters. If given, a parameter of the same shape as a weight
            that is not among them counts too: a deep copy may read the weight of its original
            (x-transformers).

    Attributes:
        found: a description of each such module.
    """

    def __init__(
        self, weights: list[Tensor], names: dict[int, str], known: set[int] | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known, self._shapes = known, {weight.shape for weight in weights}
        self._storages = {weight.untyped_storage().data_ptr() for weight in weights}
        self._names = names
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if "c10d" in func.namespace:
            raise RuntimeError(f"{func} waits for other processes")
        for value in (*args, *(kwargs or {}).values()):
            if type(value) in (Tensor, nn.Parameter) and self._counts(value):
                self.found.append(self._innermost_module())
                break
        return func(*args, **(kwargs or {}))

    def _counts(self, tensor: Tensor) -> bool:
        if tensor.untyped_storage().data_ptr() in self._storages:
            return True
        foreign = self._known is not None and id(tensor) not in self._known
        return foreign and isinstance(tensor, nn.Parameter) and tensor.shape in self._shapes

    def _innermost_module(self) -> str:
        """Return the module of the model whose method runs, found in the call stack."""
        frame = sys._getframe(1)
        while frame is not None:
            part = frame.f_locals.get("self")
            if isinstance(part, nn.Module) and id(part) in self._names:
                return describe(part, self._names)
            frame = frame.f_back  # type: ignore[assignment]
        return "A function"


def describe(part: nn.Module, names: dict[int, str]) -> str:
    path, kind = names.get(id(part)), type(part).__name__
    return f"{path} ({kind})" if path else kind

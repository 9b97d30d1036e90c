"""Check that folding keeps a model's outputs.

Folding writes the character vectors into the token table. That is wrong for a model that also
reads the table elsewhere, as `x @ self.wte.weight.T` does: its head would get the vectors too. No
parameter shows this, so the outputs before and after are compared.

Axes: V vocabulary, D model width.
"""

from __future__ import annotations

import dis
import functools
import inspect
import logging
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .embedding import CharEmbedding
from .errors import CharEmbedError
from .model_state import ModelState, address, state_tensors
from .partition import TOKENS_AT_ONCE
from .weight_readers import Readers, codes_of, describe, names_weight

Inputs = Tensor | Mapping[str, Any]
_IDS = 4  # ids of the automatic check
_MAX_STATE = 2**28  # bytes of buffers, such as a KV cache, that are copied before the model runs
# Two runs of a model on a GPU may differ. A difference is an error if it is this many times larger.
_OVER_NOISE = 10.0
_WRAPPERS = {"DistributedDataParallel", "DataParallel", "OptimizedModule"}
_META = {
    "dtype",
    "device",
    "shape",
    "size",
    "ndim",
    "dim",
    "is_meta",
    "requires_grad",
    "element_size",
}
# Names of further arguments that are ids too; the model gets them if it requires them.
_MORE_IDS = ("labels", "targets", "target", "tgt", "trg", "y")
_PRODUCTS = {"T", "t", "mT", "transpose", "linear", "matmul", "mm", "einsum"}


class FoldCheck:
    """Outputs of a model for a few ids, to compare them before and after the fold.

    Arguments:
        model: the model that is folded.
        embeddings: its CharEmbeddings.
        tables_VD: their token + character vectors.
        inputs: ids (B, T), or keyword arguments of the model's forward. Default: None, the outputs
            for four ids with character vectors.
    """

    def __init__(
        self,
        model: nn.Module,
        embeddings: list[CharEmbedding],
        tables_VD: list[Tensor],
        inputs: Inputs | None = None,
    ) -> None:
        self._model, self._embeddings, self._tables = model, embeddings, tables_VD
        self._given = inputs is not None
        self._inputs = inputs
        self._names = {id(part): path for path, part in model.named_modules()}
        self._weights: list[Tensor] = [embedding.weight for embedding in embeddings]
        self._before = self._outputs_before()

    def _outputs_before(self) -> list[Tensor] | None:
        """Return the outputs before the fold, None if they cannot or need not be computed."""
        if self._given:
            try:
                before = self._run()
            except CharEmbedError:
                raise
            except Exception as error:
                raise CharEmbedError(
                    f"The model cannot be run with the inputs of check=... "
                    f"({type(error).__name__}: {error}). Pass ids (B, T), or a dict of the "
                    "arguments of its forward."
                ) from error
            if not before:
                raise CharEmbedError(
                    "The model returns no floating-point tensor for check=..., so there is nothing "
                    "to compare. Pass inputs that give logits."
                )
            return before
        if (ids := _ids_with_vectors(self._embeddings[0], self._tables[0])) is None:
            return None  # the fold changes no value
        for inputs in _guesses(self._model, ids[None]) if _can_run(self._model) else ():
            self._inputs = inputs
            try:
                if before := self._run():
                    return before
            except CharEmbedError:
                raise  # the attached model cannot work in this way
            except Exception:
                pass
        if (reader := self._reader_in_source()) is not None:
            raise CharEmbedError(
                f"The forward of {reader} reads the embedding's weight, and the model cannot be "
                "run with ids alone to see whether folding changes its outputs. Pass its inputs: "
                "fold(model, check={...})."
            )
        return None

    def difference(self, commit: Callable[[], None], undo: Callable[[], None]) -> None:
        """Compare after the fold. Raises CharEmbedError if the outputs differ.

        Arguments:
            commit: function that folds the model again.
            undo: function that puts the model back, called before the error is raised.
        """
        if self._before is None:
            return
        held = {id(parameter) for parameter in self._model.parameters()}
        # load_state_dict(assign=True) gives a tied head a parameter with the same memory
        places = {address(parameter) for parameter in self._model.parameters()}
        hidden = [weight for weight in self._weights if address(weight) not in places]
        readers = None
        if hidden and not self._given:
            readers = Readers(hidden, self._names, known=held)
        try:
            after = self._run(folded=True, readers=readers)
        except Exception as error:
            raise CharEmbedError(
                f"After folding the model fails ({error}), so nothing was folded."
            ) from error
        largest = _largest_difference(self._before, after)
        if largest:
            undo()
            again = self._run()
            if largest > _OVER_NOISE * _largest_difference(self._before, again):
                raise CharEmbedError(
                    f"Folding would change the outputs by up to {largest:.3g}, so nothing was "
                    f"folded. {self._reason()}"
                )
            commit()
        elif readers is not None and readers.found:
            raise CharEmbedError(
                f"{readers.found[0]} reads an embedding's weight that no module of the model holds "
                "as a parameter, so a checkpoint of the folded model would lose it. Assign the "
                "weight to an attribute of a module, or keep the encoder attached (charembed.save)."
            )

    def _reason(self) -> str:
        readers = Readers(self._weights, self._names)
        if not self._given:
            try:
                self._run(readers=readers)
            except Exception:
                readers.found.clear()
        reader = next(iter(readers.found), None) or self._reader_in_source()
        keep = "or keep the encoder attached (charembed.save, charembed.load)."
        if reader is None:
            return (
                "Something besides the embedding uses its weight, or its output is changed "
                f"(hooks, a patched forward?). Remove that, {keep}"
            )
        return (
            f"{reader} reads the embedding's weight and would get the character vectors too. Give "
            f"the head a weight of its own, {keep}"
        )

    def _run(self, folded: bool = False, readers: Readers | None = None) -> list[Tensor]:
        """Compute the outputs. The model and the random state are the same afterwards."""
        with _unchanged(self._model):
            if not self._given:
                # the user did not start this run and could not place its warnings; _unchanged undoes it
                logging.disable(logging.WARNING)
                # Hooks of the user, which may count or record, see nothing of the automatic check.
                for part in self._model.modules():
                    for hooks in (part._forward_hooks, part._forward_pre_hooks):
                        for key in [key for key, hook in hooks.items() if not names_weight(hook)]:
                            del hooks[key]
                if not folded:
                    # The tables exist already, so the encoder need not compute them again.
                    for embedding, table_VD in zip(self._embeddings, self._tables, strict=True):
                        vars(embedding)["_checked"] = functools.partial(_look_up, table_VD)
                        vars(embedding)["disabled"] = False
            watch: AbstractContextManager[Any] = readers or nullcontext()
            if readers is None and not self._given and _several_processes():
                watch = Readers([], self._names)
            with nullcontext() if self._given else _ids_in_range(), watch:
                # DDP would wait for the other processes to synchronise its buffers
                model = self._model if self._given else _inner(self._model)
                return _tensors_in(_call(model, self._inputs))

    def _reader_in_source(self) -> str | None:
        """Return a module whose forward multiplies with the weight of the embedding, by its code."""
        leaves = {self._names.get(id(part), "").rpartition(".")[2] for part in self._embeddings}
        for part in self._model.modules():
            if part in self._embeddings or not {*self._embeddings} & {*part.modules()}:
                continue
            codes = codes_of(part)
            if not any(_PRODUCTS & {*code.co_names} for code in codes):
                continue
            for code in codes:
                names = [step.argval for step in dis.get_instructions(code)]
                for leaf, weight, then in zip(names, names[1:], names[2:], strict=False):
                    if leaf in leaves and weight == "weight" and str(then) not in _META:
                        return describe(part, self._names)
        return None


def _ids_with_vectors(embedding: CharEmbedding, table_VD: Tensor) -> Tensor | None:
    """Return a few ids (T,) whose character vectors are not zero, None if there are none."""
    weight_VD = embedding.weight.detach()
    every = torch.arange(len(table_VD), device=weight_VD.device)
    # a sample first: comparing a large table takes as much memory as the table
    stride = max(1, len(every) // 256)
    for ids in (every[::stride], *torch.split(every, TOKENS_AT_ONCE)):
        moved = ids[(table_VD[ids] != weight_VD[ids]).any(dim=1)]
        if embedding.padding_idx is not None:
            # a model may ignore its padding token
            others = moved[moved != embedding.padding_idx]
            moved = others if len(others) else moved
        if len(moved):
            which = torch.linspace(0, len(moved) - 1, min(_IDS, len(moved))).long()
            found: Tensor = moved[which.to(moved.device)]
            return found
    return None


def _can_run(model: nn.Module) -> bool:
    """False if a run would fail on missing weights or copy large buffers."""
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        return False
    return (
        sum(tensor.numel() * tensor.element_size() for tensor in state_tensors(model)) <= _MAX_STATE
    )


def _look_up(table_VD: Tensor, ids: Tensor, look_up: Any = None) -> Tensor:
    """Return token + character vectors; it takes the place of CharEmbedding._checked."""
    return nn.functional.embedding(ids, table_VD)


def _several_processes() -> bool:
    group = torch.distributed
    return group.is_available() and group.is_initialized() and group.get_world_size() > 1


def _inner(model: Any) -> Any:
    """Return the model inside wrappers whose forward takes any arguments."""
    while type(model).__name__ in _WRAPPERS:
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    return model


def _guesses(model: nn.Module, ids: Tensor) -> Iterator[Inputs]:
    """Yield inputs for an automatic run: the ids, then with values for other required arguments.

    The outputs must be equal before and after for any inputs, so the values need no meaning.
    """
    yield ids
    known = inspect.signature(_inner(model).forward).parameters
    names = [
        name
        for name, parameter in known.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    first = "input_ids" if "input_ids" in known else next(iter(known), None)
    others = [name for name in names if name != first]
    if first is not None and others:
        given = {first: ids} | {name: ids for name in others if name in _MORE_IDS}
        # a mask or a scale, a mask of ids, a first position
        for value in (
            torch.ones_like(ids, dtype=torch.get_default_dtype()),
            torch.ones_like(ids),
            0,
        ):
            yield {**dict.fromkeys(others, value), **given}


def _call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    known = inspect.signature(_inner(model).forward).parameters
    kwargs: dict[str, Any] = {}
    for name in ("input_ids", "decoder_input_ids"):
        if name in known:
            kwargs[name] = inputs
    if "use_cache" in known:
        kwargs["use_cache"] = False
    positions = torch.arange(inputs.shape[-1], device=inputs.device).expand_as(inputs)
    required = {"position_ids": positions, "attention_mask": torch.ones_like(inputs)}
    required |= dict.fromkeys(_MORE_IDS, inputs)
    for name, value in required.items():
        if name in known and known[name].default is inspect.Parameter.empty:
            kwargs[name] = value
    return model(**kwargs) if "input_ids" in known else model(inputs, **kwargs)


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Run a model in evaluation mode, without gradients; afterwards it is as before."""
    snapshot = ModelState(model, values=True)
    devices = {parameter.device for parameter in model.parameters()}
    cuda = sorted({device.index for device in devices if device.type == "cuda"})
    numpy: Any = sys.modules.get("numpy")  # some models draw from its generator
    states = random.getstate(), numpy and numpy.random.get_state()
    silenced = logging.root.manager.disable
    try:
        with (
            warnings.catch_warnings(),
            torch.random.fork_rng(devices=cuda),
            torch.no_grad(),
            _eager(),
        ):
            warnings.simplefilter("ignore")
            for part in model.modules():
                # not eval(): some classes merge or prepare weights there
                part.training = False
            yield
    finally:
        snapshot.restore()
        logging.disable(silenced)
        random.setstate(states[0])
        if numpy:
            numpy.random.set_state(states[1])


def _eager() -> AbstractContextManager[Any]:
    """Run compiled models without compiling, which would take longer than the fold."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and its import takes a second
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def _ids_in_range() -> Iterator[None]:
    """Refuse ids that another embedding does not have: on a GPU they would end the process."""

    def check(module: nn.Module, args: tuple[Any, ...]) -> None:
        # a class with a forward of its own may use the shape of its input alone (BART's positions)
        if getattr(type(module), "forward", None) is nn.Embedding.forward and args:
            ids, kept = args[0], int(module.num_embeddings)  # type: ignore[arg-type]
            if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < kept:
                raise IndexError(f"an id is outside of {kept} rows")

    handle = nn.modules.module.register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


def _tensors_in(output: Any) -> list[Tensor]:
    """Return the floating-point tensors of an output, in order, from any nesting of containers."""
    if isinstance(output, Tensor):
        floating = output.is_floating_point() or output.is_complex()
        return [output.detach()] if floating else []
    if isinstance(output, Mapping):
        parts = list(output.values())
    elif isinstance(output, (list, tuple)):
        parts = list(output)
    elif is_dataclass(output) and not isinstance(output, type):
        parts = [getattr(output, item.name) for item in fields(output)]
    else:
        return []
    return [tensor for part in parts for tensor in _tensors_in(part)]


def _largest_difference(before: list[Tensor], after: list[Tensor]) -> float:
    """Return the largest absolute difference, infinity if the shapes differ. NaN equals NaN."""
    if [tensor.shape for tensor in before] != [tensor.shape for tensor in after]:
        return float("inf")
    largest = 0.0
    for one, other in zip(before, after, strict=True):
        if not torch.equal(one, other):
            wide = torch.complex128 if one.is_complex() else torch.float64
            gap = (one.to(wide) - other.to(wide)).abs()
            # equal infinities and two NaN give NaN here
            same = (one == other) | (one.isnan() & other.isnan())
            gap = torch.where(same, 0.0, gap).nan_to_num(nan=float("inf"))
            largest = max(largest, float(gap.max()))
    return largest

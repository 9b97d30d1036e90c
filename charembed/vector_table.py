"""The character vectors of the vocabulary, each computed once and kept while it is valid.

Axes: V vocabulary, D model width.
"""

from __future__ import annotations

import weakref
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from .partition import chunk_reader, chunks_of
from .snapshot import Snapshot, is_leaf, is_sharded, note_steps, tensors_of
from .step_rows import StepRows

_FEW = 64  # ids that are looked up one by one in Python, which is faster than a torch operation


class VectorTable:
    """The table char_VD (V, D) of the character vectors of all ids, computed on demand.

    table = VectorTable()
    table.get(encoder, embedding.weight, 50257, ids)     # (50257, D), with the rows of `ids`

    On the CPU only the chunks of the vocabulary that `ids` need are computed, in the fixed
    partition of partition.py. On other devices the first call computes all, because it would wait
    for the values of the ids.

    The table is computed again if the spellings or a tensor of the encoder have changed; see
    `Snapshot`. An event that makes it compare all values is a step of any optimizer, `train()` or
    `eval()` of the embedding, and a gradient of a parameter. So after a write through `.data` on a
    GPU call `model.eval()`.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None
        self._event, self._step = object(), note_steps()
        self._partition: _Partition | None = None
        self._step_rows = StepRows()
        itself = weakref.ref(self)  # the hooks do not keep the table of a detached embedding alive

        def doubt(_: Tensor) -> None:
            if (table := itself()) is not None:
                table.doubt()

        # without this mark torch warns about the hook if the model is sent to another process
        doubt.__torch_unserializable__ = True  # type: ignore[attr-defined]
        self._hook = doubt

    def drop(self) -> None:
        """Forget the table."""
        self._kept = None

    def doubt(self) -> None:
        """Compare all values of the encoder's tensors at the next use."""
        self._event = object()

    def get(self, encoder: nn.Module, like: Tensor, rows: int, ids: Tensor) -> Tensor:
        """Return the table (rows, D) in the dtype and on the device of `like`.

        Only the rows of `ids` are sure to be computed. Raises IndexError if an id on the CPU is
        outside the table. It waits for a GPU only if an event happened since the last call.
        """
        event = (self._event, self._step[0])
        kept = self._kept  # subtle: one access, because another thread may drop it meanwhile
        key = (rows, like.dtype, like.device, getattr(encoder, "spellings", None))
        if kept is None or kept.key != key or not kept.snapshot.holds(encoder, event):
            self.watch(encoder)
            with torch.inference_mode(False):
                char_VD = like.new_empty(rows, like.shape[-1])
            self._partition = partition = _Partition.of(encoder, rows, self._partition)
            # not part by part if the encoder's forward is a collective: all processes must join
            in_parts = char_VD.device.type == "cpu" and not is_sharded(encoder)
            kept = _Kept(key, Snapshot(encoder, event), char_VD, partition, in_parts)
            self._kept = kept
        if not kept.has(ids):
            kept.fill(encoder, ids)
        return kept.char_VD

    def same_in_a_step(
        self, encoder: nn.Module, ids_U: Tensor, char_UD: Tensor, rows: int
    ) -> Tensor:
        """Return char_UD (U, D) with the rows that the same ids had before in this step.

        Encoders whose vectors are not a function of id and weights alone, such as those with
        dropout, are left as they are.
        """
        if not getattr(encoder, "deterministic", False) or _drops(encoder):
            return char_UD
        device = char_UD.device.type
        autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        spellings = getattr(encoder, "spellings", None)
        key = (rows, char_UD.dtype, char_UD.device, spellings, autocast)
        self.watch(encoder)
        event = (self._event, self._step[0])
        return self._step_rows.same(key, encoder, event, ids_U, char_UD, rows)

    def watch(self, encoder: nn.Module) -> None:
        """Call `doubt` if a parameter gets a gradient, also from elsewhere than the embedding.

        Examples: the spelling loss, or a compiled graph.
        """
        for tensor in tensors_of(encoder)[0]:
            # subtle: no list of the tensors with a hook. torch.utils.swap_tensors would refuse a
            # tensor with a weak reference.
            hooks = (tensor._backward_hooks or {}).values()
            if tensor.requires_grad and is_leaf(tensor) and self._hook not in hooks:
                tensor.register_hook(self._hook)  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: dict[int, Any]) -> VectorTable:
        # a copy of the model computes its own table
        twin: VectorTable = memo.setdefault(id(self), VectorTable())
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return VectorTable, ()


def _drops(encoder: nn.Module) -> bool:
    """True if a part applies dropout. A subclass may inherit `deterministic` and add it."""
    return any(
        isinstance(part, _DropoutNd) and part.training and part.p > 0 for part in encoder.modules()
    )


class _Partition(NamedTuple):
    """The chunks of the vocabulary. They depend on the spellings alone, so they are kept longer."""

    key: tuple[Any, ...]
    chunks: list[Tensor]
    chunk_of_V: Tensor

    @classmethod
    def of(cls, encoder: nn.Module, rows: int, before: _Partition | None) -> _Partition:
        key = (rows, getattr(encoder, "spellings", None))
        if before is not None and before.key == key:
            return before
        chunks = chunks_of(encoder, rows)
        with torch.inference_mode(False), torch.device("cpu"):
            chunk_of_V = torch.empty(rows, dtype=torch.int32)
            for number, ids_U in enumerate(chunks):
                chunk_of_V[ids_U] = number
        return cls(key, chunks, chunk_of_V)


class _Kept:
    """A table, the snapshot of the encoder that it was computed from, and the missing chunks."""

    def __init__(
        self,
        key: tuple[Any, ...],
        snapshot: Snapshot,
        char_VD: Tensor,
        partition: _Partition,
        in_parts: bool,
    ) -> None:
        self.key, self.snapshot, self.char_VD = key, snapshot, char_VD
        self._chunks, self._chunk_of_V = partition.chunks, partition.chunk_of_V
        self._in_parts = in_parts
        self._missing = set(range(len(partition.chunks)))
        # one memory for Python, which reads single ids fast, and for torch
        self._known = bytearray(len(char_VD) or 1)
        with torch.inference_mode(False):  # it is written to later, in any mode
            self._known_V = torch.frombuffer(self._known, dtype=torch.uint8)

    def has(self, ids: Tensor) -> bool:
        """True if it is sure that the rows of some ids are computed. It is fast for a few ids."""
        if not self._missing:
            return True
        if ids.numel() > _FEW or not self._readable(ids):
            return False
        dims = ids.dim()
        few: Any = ids.tolist() if dims else [ids.item()]
        while dims > 1:
            few, dims = chain.from_iterable(few), dims - 1
        return all(map(self._known.__getitem__, few))

    def fill(self, encoder: nn.Module, ids: Tensor) -> None:
        """Compute the missing chunks that have one of the ids; all if the ids cannot be read."""
        numbers = sorted(self._missing)
        if self._readable(ids):
            flat = ids.flatten()
            unknown = flat[self._known_V.index_select(0, flat) == 0]
            numbers = torch.unique(self._chunk_of_V[unknown]).tolist()
        if not numbers:
            return
        with chunk_reader(encoder, self.char_VD) as read:
            for number in numbers:
                ids_U = self._chunks[number]
                self.char_VD[ids_U.to(self.char_VD.device)] = read(ids_U)
                # subtle: after the rows, because another thread may read them now. If two threads
                # compute the same chunk, they write the same values.
                self._known_V[ids_U] = 1
                self._missing.discard(number)
        self.snapshot.renew_attributes(encoder)

    def _readable(self, ids: Tensor) -> bool:
        """True if the values of the ids can be read in Python, without a wait or a trace."""
        return (
            self._in_parts
            and type(ids) is Tensor
            and torch._C._get_tracing_state() is None
            and torch._C._functorch.peek_interpreter_stack() is None
        )

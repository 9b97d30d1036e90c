"""CharEmbedding: an nn.Embedding that adds a character vector to each token vector.

Axes: B batch, T tokens per row, U distinct tokens, V vocabulary, D model width.
"""

from __future__ import annotations

import functools
import sys
import types
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from .errors import AttachError, CharEmbedError
from .mark import ON_EMBEDDING, check_marks
from .partition import encode_vocabulary
from .sharding import check_unsharded
from .spelling import SpellingTable
from .takeover import check, encoder_for
from .vector_table import VectorTable

Model = TypeVar("Model", bound=nn.Module)


class CharEmbedding(nn.Embedding):
    """An embedding that returns token vector + character vector: ids_BT (B, T) -> (B, T, D).

    embedding = CharEmbedding(host, encoder)     # `embedding is host`; host keeps its weight

    The host object stays, with its weight, state-dict keys, hooks and buffers. Its class becomes a
    subclass of CharEmbedding and of its former class, so tied heads, `isinstance` checks and plain
    checkpoints keep working. A character vector depends on the id alone. Therefore

    - if gradients may be needed, each distinct token of a batch is encoded once and then gathered;
    - otherwise the character vectors of the whole vocabulary are one table (V, D), computed once.

    Arguments:
        host: the nn.Embedding to take over.
        encoder: a module that maps distinct ids (U,) to vectors (U, D).
        first: the CharEmbedding that shares the host's weight and already holds the encoder.
            Default: None, the host holds the encoder itself.

    Attributes:
        host_class: class of the host before.
        disabled: if True, the encoder is ignored; see `charembed.disabled`.

    Raises AttachError if the embedding cannot be taken over.
    """

    host_class: type[nn.Embedding]
    disabled: bool
    _table: VectorTable

    def __new__(cls, host: Any = None, *_: Any) -> CharEmbedding:
        if host is None:  # copy and unpickling build an empty object first
            return super().__new__(cls)
        check(host)
        # accelerate leaves the class's own forward on the instance when its hooks are removed
        vars(host).pop("forward", None)
        host.__class__ = _class_for(type(host))  # type: ignore[arg-type]
        assert isinstance(host, CharEmbedding)
        return host

    def __init__(
        self, host: nn.Embedding, encoder: nn.Module, first: CharEmbedding | None = None
    ) -> None:
        self.disabled = False
        self._key = _register(self)
        if first is not None:
            # subtle: plain attributes, not submodules. Otherwise the encoder's parameters would
            # have two names, and transformers refuses to save such a model.
            vars(self).update(_first=first, _table=first._table)
            return
        self._table = VectorTable()
        self._modules["encoder"] = encoder.train(host.training)
        # On meta the parameters have no values yet: from_pretrained or the first use sets them.
        if not any(parameter.is_meta for parameter in encoder.parameters()):
            # from_pretrained of transformers initializes every module without this mark again
            for part in encoder.modules():
                part._is_hf_initialized = True  # type: ignore[assignment]

    @property
    def encoder(self) -> nn.Module:
        """The character encoder; embeddings that share their weight share it."""
        found: nn.Module = self._holder._modules["encoder"]  # type: ignore[assignment]
        return found

    @property
    def _holder(self) -> CharEmbedding:
        """The CharEmbedding that holds the encoder; another one if several share their weight."""
        holder: CharEmbedding = vars(self).get("_first", self)
        return holder

    @classmethod
    def from_embedding(
        cls, embedding: nn.Embedding, table: SpellingTable, encoder: str = "lstm", **arguments: Any
    ) -> CharEmbedding:
        """Add character vectors to one embedding, in place, if `attach` does not know its model.

        table = SpellingTable.from_tokenizer(tokenizer, embed.num_embeddings)
        embed = CharEmbedding.from_embedding(embed, table, init="normal")

        The encoder is created on the embedding's device and in float32, also if the embedding has
        half precision, in which small updates of an LSTM would be lost.

        Arguments:
            embedding: the nn.Embedding to take over; the object stays the same.
            table: spellings of the vocabulary, one for each row of the embedding.
            encoder: a name in `charembed.ENCODERS`. Default: "lstm".
            arguments: keyword arguments of that encoder, such as init and seed.

        Raises AttachError, and changes nothing, if the embedding cannot be taken over or if the
        table has another number of tokens.
        """
        check(embedding)
        return cls(embedding, encoder_for(embedding, encoder, table, arguments))

    def release(self) -> nn.Embedding:
        """Turn it back into the host: its former class, without an encoder."""
        self._modules.pop("encoder", None)
        if (mark := vars(self).pop(ON_EMBEDDING, None)) is not None:
            mark.released = True
        for name in ("disabled", "_table", "_key", "_first"):
            vars(self).pop(name, None)
        self.__class__ = self.host_class  # type: ignore[assignment]
        return self

    def as_host(self) -> nn.Embedding:
        """Return a new object of the host's class with the same parameters, without hooks."""
        host = self.host_class.__new__(self.host_class)
        host.__dict__ = {
            **vars(self),
            "_modules": {name: m for name, m in self._modules.items() if name != "encoder"},
            "_parameters": dict(self._parameters),
            "_forward_hooks": OrderedDict(),
            "_forward_pre_hooks": OrderedDict(),
        }
        own = host.__dict__.get("forward")
        if own == types.MethodType(type(self).forward, self):
            del host.__dict__["forward"]  # left there by accelerate
        return host

    def forward(self, ids: Tensor) -> Tensor:
        """Return token + character vectors: ids (...) -> (..., D).

        Raises CharEmbedError if an id is outside the vocabulary. (On a GPU, torch asserts instead.)
        """
        if torch.compiler.is_compiling():
            # The error below reads the values of the ids, which would break the graph.
            return self._vectors(ids)
        try:
            return self._vectors(ids)
        except IndexError:
            wrong = ids[(ids < 0) | (ids >= self.num_embeddings)]
            if len(wrong) == 0:  # the error comes from elsewhere, such as the host's own forward
                raise
            raise CharEmbedError(
                f"Token id {int(wrong[0])} is outside the embedding of {self.num_embeddings} "
                "tokens. Use the tokenizer that the model was built for, or resize the embedding "
                "first."
            ) from None

    def _vectors(self, ids: Tensor) -> Tensor:
        if self.disabled:
            return super().forward(ids)
        parameters = (parameter for part in (self, self.encoder) for parameter in part.parameters())
        with_gradient = torch.is_grad_enabled() and any(
            parameter.requires_grad for parameter in parameters
        )
        if with_gradient:
            self._table.drop()  # an optimizer step may follow
        # In training mode dropout of a user's encoder must apply. A replica of nn.DataParallel
        # lives for one forward, so a table would not pay off. An exported graph must not need this
        # process.
        if (
            with_gradient
            or self.training
            or "_is_replica" in self.__dict__
            or torch.compiler.is_exporting()
        ):
            return self.encode(ids)
        if torch.compiler.is_compiling():
            looked_up: Tensor = _look_up(ids, self.weight.detach(), self._key)
            return looked_up
        return self.look_up(ids)

    def look_up(self, ids: Tensor) -> Tensor:
        """Return token + character vectors from the table of all ids, without gradients.

        ids (...) -> (..., D), bit-equal to the rows that `charembed.fold` writes.
        """
        char_VD = self._table.get(self.encoder, self.weight, self.num_embeddings)
        embedding = nn.functional.embedding
        vectors = embedding(ids, self.weight.detach()) + embedding(ids, char_VD)
        if self._plain:
            return vectors
        return self._through_host(vectors.view(-1, vectors.shape[-1])).view_as(vectors)

    def encode(self, ids_BT: Tensor) -> Tensor:
        """Return token + character vectors with gradients: ids_BT (B, T) -> (B, T, D).

        Each distinct token of the batch is encoded once.
        """
        token_BTD = super().forward(ids_BT)
        if torch.compiler.is_compiling():
            # The number of distinct ids is data-dependent and would break the graph. The recurrent
            # encoders find the distinct ids inside their custom op.
            ids_U = ids_BT.flatten()
            which_BT = torch.arange(len(ids_U), device=ids_BT.device).view(ids_BT.shape)
        else:
            ids_U, which_BT = torch.unique(ids_BT, return_inverse=True)
        # nn.DataParallel: the holder of the encoder may be on another device than this replica
        char_UD: Tensor = self.encoder(ids_U.to(self._holder.weight.device))
        char_UD = char_UD.to(self.weight.device, self.weight.dtype)
        if self.padding_idx is not None:
            # as nn.Embedding does for its own row: the padding token gives no gradient
            char_UD = torch.where((ids_U == self.padding_idx)[:, None], char_UD.detach(), char_UD)
        return token_BTD + nn.functional.embedding(which_BT, self._through_host(char_UD))

    @property
    def _plain(self) -> bool:
        """True if the host uses the forward of nn.Embedding itself."""
        return self.host_class.forward is nn.Embedding.forward

    def _through_host(self, rows_UD: Tensor) -> Tensor:
        """Apply the host's own forward to rows (U, D). Gemma-like hosts scale the vectors there."""
        if self._plain:
            return rows_UD
        # subtle: a new object for each call. If the rows were written into self, two threads would
        # overwrite each other's.
        host = self.host_class.__new__(self.host_class)
        host.__dict__ = {
            **vars(self),
            "weight": rows_UD,
            "padding_idx": None,
            "num_embeddings": len(rows_UD),
        }
        return self.host_class.forward(host, torch.arange(len(rows_UD), device=rows_UD.device))

    def table(self) -> Tensor:
        """Compute token + character vectors of all ids: (V, D), without the host's own scaling.

        The result is new on each call; it is not the table that `look_up` keeps.
        """
        with torch.no_grad():
            return self.weight.detach() + encode_vocabulary(
                self.encoder, self.weight, self.num_embeddings
            )

    @property
    def spellings(self) -> SpellingTable:
        """The spellings that the encoder uses.

        Raises AttachError if the encoder has no SpellingTable.
        """
        found = getattr(self.encoder, "spellings", None)
        if not isinstance(found, SpellingTable):
            kind = type(self.encoder).__name__
            raise AttachError(
                f"The encoder is a {kind}, which has no SpellingTable in its attribute spellings."
            )
        return found

    def update_spellings(self, spellings: SpellingTable) -> None:
        """Give the encoder new spellings; `charembed.update_spellings` does it for a model.

        Raises AttachError if the encoder has no method of this name.
        """
        if not hasattr(self.encoder, "update_spellings"):
            raise AttachError(
                f"The encoder is a {type(self.encoder).__name__} without the method "
                "update_spellings. Define it (version 0.1 called it respell)."
            )
        self.encoder.update_spellings(spellings)  # type: ignore[operator]
        self._table.drop()

    def check_whole(self) -> None:
        """Raise AttachError if this process does not hold the whole token table."""
        if any(parameter.is_meta for parameter in self.parameters()):
            raise AttachError("The weights are on the meta device. Load them first.")
        sharded = any(hasattr(parameter, "device_mesh") for parameter in self.parameters())
        if sharded or self.weight.dim() != 2 or self.weight.numel() == 0:
            raise AttachError(
                "The weights are sharded over processes. First gather them into an unsharded copy "
                "of the model (torch.distributed.checkpoint.state_dict.get_model_state_dict with "
                "full_state_dict=True)."
            )
        if len(self.weight) != self.num_embeddings:
            rows = len(self.weight)
            raise AttachError(
                f"The weight has {rows} rows, but num_embeddings is {self.num_embeddings}. Set "
                f"num_embeddings to {rows}."
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # No encoder keys (a plain checkpoint): keep the current encoder. Only some of them: error.
        if self._holder is self and not any(
            name.startswith(f"{prefix}encoder.") for name in state_dict
        ):
            state_dict.update(
                {
                    f"{prefix}encoder.{name}": value
                    for name, value in self.encoder.state_dict().items()
                }
            )
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._table.drop()

    def _save_to_state_dict(self, *args: Any) -> None:
        # subtle: only the call stack shows that transformers' save_pretrained is the caller. That
        # file would hold encoder keys which from_pretrained drops without an error.
        frame: types.FrameType | None = sys._getframe()
        while frame is not None and not _saves_for_from_pretrained(frame):
            frame = frame.f_back
        if frame is not None:
            warnings.warn(
                "from_pretrained will not load the character encoder that save_pretrained writes. "
                "Save it with charembed.save(model, folder), or first write the character vectors "
                "into a plain model with charembed.fold(model).",
                stacklevel=2,
            )
        super()._save_to_state_dict(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is created at run time, so pickle and copy cannot find it by name.
        return _rebuild, (self.host_class,), self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._key = _register(self)  # a copy must not look up the original's table


def char_embeddings(model: nn.Module) -> Iterator[CharEmbedding]:
    """Yield all CharEmbeddings of a model: more than one if embeddings share their weight."""
    return (module for module in model.modules() if isinstance(module, CharEmbedding))


def attached(model: nn.Module) -> list[CharEmbedding]:
    """Return all CharEmbeddings of a model, an empty list if nothing is attached.

    Raises AttachError if another module was put in the place of one after `attach`.
    """
    check_marks(model)
    return list(char_embeddings(model))


def char_embedding_of(model: nn.Module) -> CharEmbedding:
    """Return the model's CharEmbedding; if several share weight and encoder, the first.

    Raises AttachError if the model has none, or if this process does not hold all its weights.
    """
    embedding = next(iter(attached(model)), None)
    if embedding is None:
        raise AttachError(
            "The model has no CharEmbedding. First call charembed.attach(model, tokenizer)."
        )
    check_unsharded(model, embedding, gathered=True)
    embedding.check_whole()
    return embedding


def _saves_for_from_pretrained(frame: types.FrameType) -> bool:
    """True if the frame is transformers' save_pretrained. (PEFT's saves its adapter alone.)"""
    module = str(frame.f_globals.get("__name__"))
    return frame.f_code.co_name == "save_pretrained" and module.startswith("transformers.")


@functools.cache
def _class_for(host_class: Any) -> Any:
    """Create the class of an attached embedding, once for each class of hosts.

    CharEmbedding comes before the host's class, so `super().forward` is the host's own forward.
    """
    return type("CharEmbedding", (CharEmbedding, host_class), {"host_class": host_class})


def is_untouched(embedding: CharEmbedding) -> bool:
    """True if no other tool has changed the embedding's class, as parametrize does."""
    host_class: Any = embedding.host_class
    return type(embedding) is _class_for(host_class)


def _rebuild(host_class: Any) -> CharEmbedding:
    embedding: CharEmbedding = _class_for(host_class).__new__(_class_for(host_class))
    return embedding


# A compiled graph cannot check whether the table is up to date; a custom op can. The op gets the
# embedding by a key that is unique over processes (uuid), because an op takes no Python objects.
# torch.export uses the path of training, which needs no key.
_EMBEDDINGS: WeakValueDictionary[str, CharEmbedding] = WeakValueDictionary()


def _register(embedding: CharEmbedding) -> str:
    key = str(uuid.uuid4())
    _EMBEDDINGS[key] = embedding
    return key


@torch.library.custom_op("charembed::look_up", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def _look_up(ids: Tensor, weight: Tensor, key: str) -> Tensor:
    if key not in _EMBEDDINGS:
        raise CharEmbedError(
            f"The embedding {key} of a compiled graph does not exist in this process any more. "
            "Compile the model again."
        )
    with torch.no_grad():
        return _EMBEDDINGS[key].look_up(ids).clone()


@_look_up.register_fake
def _(ids: Tensor, weight: Tensor, key: str) -> Tensor:
    return weight.new_empty(*ids.shape, weight.shape[1])

"""The token embedding that also knows the letters.

Axes: B batch, T tokens per row, U distinct tokens, V vocabulary, D model width.
"""

from __future__ import annotations

import functools
import sys
import types
import uuid
import warnings
from collections.abc import Iterator
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from .errors import AttachError, CharEmbedError
from .spelling import SpellingTable
from .takeover import check, encoder_for
from .vector_table import VectorTable, encode_vocabulary

Model = TypeVar("Model", bound=nn.Module)


class CharEmbedding(nn.Embedding):
    """An embedding whose vectors are token + spelled: ids_BT (B, T) -> (B, T, D).

    CharEmbedding(host, encoder) takes the host over: the object stays, with its weight, keys, hooks and
    buffers, and its class becomes this one in front of its own, so that tied heads, `isinstance` checks and
    plain checkpoints keep working. The encoder is any module that maps distinct ids (U,) to vectors (U, D).
    Because those depend on the id alone,

    - where gradients may be taken, each distinct token of a batch is encoded once and gathered;
    - elsewhere the letters of the whole vocabulary are one table, computed once and looked up.

    Raises AttachError for an embedding that it cannot take over.
    """

    host_class: type[nn.Embedding]  # the class it had before
    disabled: bool  # see charembed.disabled
    _table: VectorTable

    def __new__(cls, host: Any = None, *_: Any) -> CharEmbedding:
        if host is None:  # what copies are made of
            return super().__new__(cls)
        check(host)
        vars(host).pop(
            "forward", None
        )  # accelerate leaves the class's own when its hooks are removed
        host.__class__ = _class_for(type(host))  # type: ignore[arg-type]
        assert isinstance(host, CharEmbedding)
        return host

    def __init__(
        self, host: nn.Embedding, encoder: nn.Module, first: CharEmbedding | None = None
    ) -> None:
        self.disabled = False
        self._key = _register(self)
        if first is not None:
            # subtle: not registered, as transformers refuses to save a parameter of two names
            vars(self).update(_first=first, _table=first._table)
            return
        self._table = VectorTable()
        self._modules["encoder"] = encoder.train(host.training)
        if not any(parameter.is_meta for parameter in encoder.parameters()):
            for part in encoder.modules():  # transformers initialises what has not this mark
                part._is_hf_initialized = True  # type: ignore[assignment]

    @property
    def encoder(self) -> nn.Module:
        """Of embeddings that share their weight the first holds it."""
        found: nn.Module = self._holder._modules["encoder"]  # type: ignore[assignment]
        return found

    @property
    def _holder(self) -> CharEmbedding:
        holder: CharEmbedding = vars(self).get("_first", self)
        return holder

    @classmethod
    def from_embedding(
        cls, embedding: nn.Embedding, table: SpellingTable, encoder: str = "lstm", **arguments: Any
    ) -> CharEmbedding:
        """Give an embedding its letters, for hosts that `attach` does not know; it stays the object that it
        was.

        CharEmbedding.from_embedding(embed, SpellingTable.from_tokenizer(tokenizer, embed.num_embeddings),
        init="normal")

        The encoder stands on the embedding's device, in float32 even where the embedding has half precision:
        small updates of an LSTM would be lost there. `arguments` are those of the encoder (see
        `charembed.ENCODERS`).

        Raises AttachError, and changes nothing, for an embedding that cannot be taken over or a table of
        another size.
        """
        check(embedding)
        return cls(embedding, encoder_for(embedding, encoder, table, arguments))

    def release(self) -> nn.Embedding:
        """The host again, without letters."""
        self._modules.pop("encoder", None)
        for name in ("disabled", "_table", "_key", "_first"):
            vars(self).pop(name, None)
        self.__class__ = self.host_class  # type: ignore[assignment]
        return self

    def forward(self, ids: Tensor) -> Tensor:
        """ids (...) -> (..., D). Raises CharEmbedError for an id outside (on a GPU torch asserts)."""
        if torch.compiler.is_compiling():
            return self._vectors(ids)
        try:
            return self._vectors(ids)
        except IndexError:
            wrong = ids[(ids < 0) | (ids >= self.num_embeddings)]
            if len(wrong) == 0:
                raise
            raise CharEmbedError(
                f"token id {int(wrong[0])} is outside the embedding of {self.num_embeddings} tokens: use the "
                "tokenizer that the model was built for, or resize the embedding first."
            ) from None

    def _vectors(self, ids: Tensor) -> Tensor:
        if self.disabled:
            return super().forward(ids)
        parameters = (parameter for part in (self, self.encoder) for parameter in part.parameters())
        with_gradient = torch.is_grad_enabled() and any(
            parameter.requires_grad for parameter in parameters
        )
        if with_gradient:
            self._table.drop()  # the weights may move
        # a replica of nn.DataParallel lives for one forward, an exported graph must not need this process
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
        """The sum from the table, without gradients: bit for bit what `charembed.fold` writes."""
        char_VD = self._table.get(self.encoder, self.weight, self.num_embeddings)
        embedding = nn.functional.embedding
        vectors = embedding(ids, self.weight.detach()) + embedding(ids, char_VD)
        if self._plain:
            return vectors
        return self._through_host(vectors.view(-1, vectors.shape[-1])).view_as(vectors)

    def encode(self, ids_BT: Tensor) -> Tensor:
        """The sum with its gradient: the letters of each distinct token are read once."""
        token_BTD = super().forward(ids_BT)
        if (
            torch.compiler.is_compiling()
        ):  # shapes must not depend on the data: the encoder finds the distinct
            ids_U = ids_BT.flatten()
            which_BT = torch.arange(len(ids_U), device=ids_BT.device).view(ids_BT.shape)
        else:
            ids_U, which_BT = torch.unique(ids_BT, return_inverse=True)
        # a replica's encoder may be on another device, where the first of several embeddings is
        char_UD: Tensor = self.encoder(ids_U.to(self._holder.weight.device))
        char_UD = char_UD.to(self.weight.device, self.weight.dtype)
        if self.padding_idx is not None:
            char_UD = torch.where((ids_U == self.padding_idx)[:, None], char_UD.detach(), char_UD)
        return token_BTD + nn.functional.embedding(which_BT, self._through_host(char_UD))

    @property
    def _plain(self) -> bool:
        return self.host_class.forward is nn.Embedding.forward

    def _through_host(self, rows_UD: Tensor) -> Tensor:
        """(U, D) rows as the host's own forward gives them back: Gemma-like hosts scale there."""
        if self._plain:
            return rows_UD
        # subtle: an object of its own, as two threads may be here and each has rows of its own
        host = self.host_class.__new__(self.host_class)
        host.__dict__ = {
            **vars(self),
            "weight": rows_UD,
            "padding_idx": None,
            "num_embeddings": len(rows_UD),
        }
        return self.host_class.forward(host, torch.arange(len(rows_UD), device=rows_UD.device))

    def table(self) -> Tensor:
        """(V, D): token + spelled for every id, computed anew, before any scaling of the host's."""
        with torch.no_grad():
            return self.weight.detach() + encode_vocabulary(
                self.encoder, self.weight, self.num_embeddings
            )

    @property
    def spellings(self) -> SpellingTable:
        """What the encoder reads. Raises AttachError when it reads no SpellingTable."""
        found = getattr(self.encoder, "spellings", None)
        if not isinstance(found, SpellingTable):
            kind = type(self.encoder).__name__
            raise AttachError(
                f"the encoder is a {kind}, which has no spellings to look at or to change."
            )
        return found

    def update_spellings(self, spellings: SpellingTable) -> None:
        """See `charembed.update_spellings`."""
        if not hasattr(self.encoder, "update_spellings"):
            raise AttachError(
                f"the encoder is a {type(self.encoder).__name__} without the method update_spellings: "
                "define it (version 0.1 called it respell)."
            )
        self.encoder.update_spellings(spellings)  # type: ignore[operator]
        self._table.drop()

    def check_whole(self) -> None:
        """Raises AttachError when the weights here are not the whole table."""
        if any(parameter.is_meta for parameter in self.parameters()):
            raise AttachError("the weights are on the meta device: load them first.")
        sharded = any(hasattr(parameter, "device_mesh") for parameter in self.parameters())
        if sharded or self.weight.dim() != 2 or self.weight.numel() == 0:
            raise AttachError(
                "the weights are sharded over processes: gather them into an unsharded copy of the model "
                "first (torch.distributed.checkpoint.state_dict.get_model_state_dict with "
                "full_state_dict=True)."
            )
        if len(self.weight) != self.num_embeddings:
            rows = len(self.weight)
            raise AttachError(
                f"the weight has {rows} rows, but num_embeddings is {self.num_embeddings}: set it to {rows}."
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # a plain checkpoint says nothing about the encoder, which then stays; a part of one is an error
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
        frame: types.FrameType | None = sys._getframe()
        while frame is not None and not _saves_for_from_pretrained(frame):
            frame = frame.f_back
        if frame is not None:
            warnings.warn(
                "save_pretrained writes the letters where from_pretrained does not look for them: keep them "
                "with charembed.save(model, folder), or make them part of a plain model with "
                "charembed.fold(model) first.",
                stacklevel=2,
            )
        super()._save_to_state_dict(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.host_class,), self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._key = _register(self)


def char_embeddings(model: nn.Module) -> Iterator[CharEmbedding]:
    """All CharEmbeddings of a model; more than one where embeddings share their weight."""
    return (module for module in model.modules() if isinstance(module, CharEmbedding))


def char_embedding_of(model: nn.Module) -> CharEmbedding:
    """The model's CharEmbedding; of several, which share weight and encoder, the first.

    Raises AttachError where there is none, or its weights are not all here.
    """
    embedding = next(char_embeddings(model), None)
    if embedding is None:
        raise AttachError(
            "the model has no CharEmbedding: call charembed.attach(model, tokenizer)."
        )
    embedding.check_whole()
    return embedding


def _saves_for_from_pretrained(frame: types.FrameType) -> bool:
    """Is it transformers' save_pretrained? (PEFT's keeps its adapter alone.)"""
    module = str(frame.f_globals.get("__name__"))
    return frame.f_code.co_name == "save_pretrained" and module.startswith("transformers.")


@functools.cache
def _class_for(host_class: Any) -> Any:
    """CharEmbedding in front of the host's class: `super().forward` is the host's own."""
    return type("CharEmbedding", (CharEmbedding, host_class), {"host_class": host_class})


def _rebuild(host_class: Any) -> CharEmbedding:
    embedding: CharEmbedding = _class_for(host_class).__new__(_class_for(host_class))
    return embedding


# A compiled graph cannot ask whether the table is still true; an operator, which it does not look into, can.
# It finds the embedding by a name that no other process has, and `torch.export` takes the way of training,
# which needs none.
_EMBEDDINGS: WeakValueDictionary[str, CharEmbedding] = WeakValueDictionary()


def _register(embedding: CharEmbedding) -> str:
    key = str(uuid.uuid4())
    _EMBEDDINGS[key] = embedding
    return key


@torch.library.custom_op("charembed::look_up", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def _look_up(ids: Tensor, weight: Tensor, key: str) -> Tensor:
    if key not in _EMBEDDINGS:
        raise CharEmbedError(
            f"a compiled graph looks for the embedding {key}, which is not in this process any more."
        )
    with torch.no_grad():
        return _EMBEDDINGS[key].look_up(ids).clone()


@_look_up.register_fake
def _(ids: Tensor, weight: Tensor, key: str) -> Tensor:
    return weight.new_empty(*ids.shape, weight.shape[1])

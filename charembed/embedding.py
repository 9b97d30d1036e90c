"""CharEmbedding: an nn.Embedding that adds a character vector to each token vector.

Axes: B batch, T tokens per row, U distinct tokens, V vocabulary, D model width.
"""

from __future__ import annotations

import functools
import sys
import types
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from .adapters import check_keys, check_reader, in_use, is_wrapper, versions
from .encoder import CharEncoder
from .errors import AttachError, CharEmbedError
from .host_forward import ExchangedLookups
from .mark import ON_EMBEDDING, check_marks
from .other_checkpoints import check_resumed, warn_of_saving
from .partition import chunks_of, encode_vocabulary
from .peft_layers import check_caller
from .sharding import GATHER, check_unsharded
from .snapshot import tensors_of
from .spelling import SpellingTable
from .takeover import check, check_rows, encoder_for
from .training_step import check_training_step
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
        row_dropout: share of the vocabulary whose token vectors are replaced by the mean row of the
            table in a forward in training mode (drawn anew in each), so that the model learns to
            read the characters, as it must for a token that is added later. Default: 0.0. Whole
            rows are dropped, as in the embedding dropout of Gal & Ghahramani (2016, arXiv
            1512.05287); there the vector is zero, here the character vector and the mean row stay.
            Tokens without characters, such as special tokens, keep their rows.
        row_dropout_seed: seed of the draw; the same tokens are dropped until it changes. Default:
            None, torch's global generator, as in nn.Dropout.

    Raises AttachError if the embedding cannot be taken over.
    """

    host_class: type[nn.Embedding]
    disabled: bool
    row_dropout: float = 0.0
    row_dropout_seed: int | None = None
    _table: VectorTable
    made_by_class = False  # True if a model class attaches in its own __init__
    _unfilled = False  # True while an encoder that was attached on meta has no values

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
        # On meta the parameters have no values yet; see `_is_hf_initialized`.
        self._unfilled = any(parameter.is_meta for parameter in encoder.parameters())
        if isinstance(encoder, CharEncoder) or not self._unfilled:
            # from_pretrained of transformers initializes every module without this mark again
            for part in encoder.modules():
                part._is_hf_initialized = True  # type: ignore[assignment]

    @property
    def _is_hf_initialized(self) -> bool:
        """transformers' mark of the embedding itself.

        subtle: from_pretrained reads it of every module, after it has loaded or allocated all
        parameters and before the model is used. This is the one moment when the encoder can set
        the initial values of parameters that the file does not have.
        """
        if self._holder is self:
            self._fill_encoder()
        return bool(vars(self).get("_is_hf_initialized", False))

    @_is_hf_initialized.setter
    def _is_hf_initialized(self, value: bool) -> None:
        vars(self)["_is_hf_initialized"] = value
        # transformers 4 marks modules instead of parameters, and before it reads the marks
        if value and self._holder is self and isinstance(self.encoder, CharEncoder):
            self.encoder.mark_filled()

    def _fill_encoder(self) -> None:
        """Set initial values of an encoder that was attached on the meta device."""
        encoder: Any = self.encoder
        if isinstance(encoder, CharEncoder):
            encoder.fill_missing()
        elif self._unfilled and not any(p.is_meta for p in encoder.parameters()):
            # An encoder of the user's own; transformers has initialized its linear layers so far.
            self._unfilled = False
            loaded = (getattr(p, "_is_hf_initialized", False) for p in encoder.parameters())
            if hasattr(encoder, "reset_parameters") and not any(loaded):
                encoder.reset_parameters()

    def _materialize(self, device: torch.device) -> None:
        """Set initial values of an encoder that never had any, if the host now gets its own."""
        encoder = self.encoder
        never = not encoder.has_values if isinstance(encoder, CharEncoder) else self._unfilled
        if never and device.type != "meta" and all(p.is_meta for p in encoder.parameters()):
            encoder.to_empty(device=device)
            if not isinstance(encoder, CharEncoder):
                self._fill_encoder()

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        if self._holder is self:  # accelerate loads the base alone, then moves the model
            self._materialize(self.weight.device)
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        if self._holder is self and not isinstance(self.encoder, CharEncoder):
            self._fill_encoder()  # a CharEncoder does it in its own _apply
        return self

    @property
    def encoder(self) -> nn.Module:
        """The character encoder; embeddings that share their weight share it.

        If PEFT has wrapped it (`charembed.peft_config`), this is the wrapper; `encoder_in_use` is
        the module that computes.
        """
        found: nn.Module = self._holder._modules["encoder"]  # type: ignore[assignment]
        return found

    @property
    def encoder_in_use(self) -> nn.Module:
        """The encoder itself, or the copy of it that PEFT's active adapter has."""
        return in_use(self.encoder)

    @property
    def holds_encoder(self) -> bool:
        """True if the encoder is this module's own; False if another embedding holds it."""
        return self._holder is self

    @property
    def norm_type(self) -> float:  # type: ignore[override]
        # subtle: PEFT's trainable tokens never call this module, but read this attribute for their
        # own look-up. Nothing else shows that the character vectors are left out.
        if not torch.compiler.is_compiling():
            check_reader(sys._getframe(1))
        value: float = self.__dict__["norm_type"]
        return value

    @property
    def _holder(self) -> CharEmbedding:
        """The CharEmbedding that holds the encoder; another one if several share their weight."""
        holder: CharEmbedding = self.__dict__.get("_first", self)
        return holder

    @property
    def num_words(self) -> int:
        """Words without a row that ids from `num_embeddings` on stand for; see `whole_words`."""
        number: int = self._holder.__dict__.get("_num_words", 0)
        return number

    @classmethod
    def from_embedding(
        cls, embedding: nn.Embedding, table: SpellingTable, encoder: str = "lstm", **arguments: Any
    ) -> CharEmbedding:
        """Add character vectors to one embedding, in place, without `attach` and a model.

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
        own = (
            "disabled",
            "row_dropout",
            "row_dropout_seed",
            "_num_words",
            "_table",
            "_key",
            "_first",
            "_unfilled",
            "_frozen_checked",
            "_references",
        )
        for name in own:
            vars(self).pop(name, None)
        self.__class__ = self.host_class  # type: ignore[assignment]
        return self

    def as_host(self) -> nn.Embedding:
        """Return a new object of the host's class with the same parameters and attributes."""
        host = self.host_class.__new__(self.host_class)
        modules = {name: part for name, part in self._modules.items() if name != "encoder"}
        host.__dict__ = {**vars(self), "_modules": modules}
        own = host.__dict__.get("forward")
        if own == types.MethodType(type(self).forward, self):
            del host.__dict__["forward"]  # left there by accelerate
        return host

    def forward(self, input: Tensor) -> Tensor:
        """Return token + character vectors: ids (...) -> (..., D).

        If the host's class has a forward of its own, that one runs, with its own arguments.

        Raises CharEmbedError if an id is outside the vocabulary. (On a GPU, torch asserts instead.)
        """
        if self.disabled:
            return super().forward(input)
        if not torch.compiler.is_compiling():
            check_caller(self)
        return self._checked(input)

    def _checked(self, ids: Tensor, look_up: Callable[[], Tensor] | None = None) -> Tensor:
        """Return token + character vectors, with a message for ids outside the vocabulary.

        Arguments:
            ids: (...) token ids.
            look_up: function that returns the token vectors (..., D). Default: nn.Embedding's.
        """
        if torch.compiler.is_compiling():
            # The error below reads the values of the ids, which would break the graph.
            return self._in_a_graph(ids, look_up)
        try:
            return self._vectors(ids, look_up)
        except IndexError:
            wrong = ids[(ids < 0) | (ids >= self.num_embeddings)]
            if len(wrong) == 0:  # the error comes from elsewhere
                raise
            if self.num_words and not self.training:
                raise CharEmbedError(
                    f"Token id {int(wrong[0])} stands for a word without a row, and evaluation knows "
                    f"the {self.num_embeddings} tokens of the embedding alone. Call model.train() "
                    "first, or leave the words out of evaluation."
                ) from None
            raise CharEmbedError(
                f"Token id {int(wrong[0])} is outside the embedding of {self.num_embeddings} "
                "tokens. Use the tokenizer that the model was built for, or resize the embedding "
                "first."
            ) from None

    def _vectors(self, ids: Tensor, look_up: Callable[[], Tensor] | None) -> Tensor:
        with_gradient = torch.is_grad_enabled() and self._needs_gradient()
        if with_gradient:
            self._table.drop()  # an optimizer step may follow
        # In training mode dropout of a user's encoder must apply. A replica of nn.DataParallel
        # lives for one forward, so a table would not pay off.
        elif not (self.training or "_is_replica" in self.__dict__ or _transformed(self)):
            return self.look_up(ids)
        return self.encode(ids, self._token_vectors(ids, look_up))

    def _token_vectors(self, ids: Tensor, look_up: Callable[[], Tensor] | None) -> Tensor:
        """The token vectors of ids (...), (..., D); in training mode without the dropped rows."""
        if not (self.training and (self.row_dropout or self.num_words)):
            return look_up() if look_up else nn.Embedding.forward(self, ids)
        V = self.num_embeddings
        mean_D, dropped = self.weight.detach().mean(0), ids >= V
        if self.num_words:
            self._check_words(ids)
            vectors = nn.Embedding.forward(self, ids.clamp(max=V - 1))
        else:
            vectors = look_up() if look_up else nn.Embedding.forward(self, ids)
        if self.row_dropout:
            # A graph must hold neither the seed, which changes in each step, nor a generator.
            compiling = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
            dropped = dropped | (_draw(ids, self._key) if compiling else self._drawn(ids))
        return torch.where(dropped[..., None], mean_D.to(vectors), vectors)

    def _drawn(self, ids: Tensor) -> Tensor:
        """True for the ids (...) whose rows are dropped in this forward."""
        V, chance = self.num_embeddings, None
        if self.row_dropout_seed is not None:
            chance = torch.Generator(ids.device).manual_seed(self.row_dropout_seed)
        # of the vocabulary, not of the ids: equal ids of a batch are dropped together
        dropped_V = torch.rand(V, device=ids.device, generator=chance) < self.row_dropout
        spellings = getattr(self.encoder_in_use, "spellings", None)
        if isinstance(spellings, SpellingTable):
            # a special token has no characters to be known by; new rows have none yet
            lengths_V = spellings.lengths_V[:V].to(ids.device)
            dropped_V[: len(lengths_V)] &= lengths_V > 0
            dropped_V[len(lengths_V) :] = False
        return dropped_V[ids.clamp(max=V - 1)]

    def _check_words(self, ids: Tensor) -> None:
        end = self.num_embeddings + self.num_words
        if not torch.compiler.is_compiling() and bool((ids >= end).any()):
            raise CharEmbedError(
                f"Token id {int(ids.max())} is outside the embedding of {self.num_embeddings} tokens "
                f"and {self.num_words} words without a row."
            )

    @contextmanager
    def whole_words(self, words: Sequence[bytes]) -> Iterator[int]:
        """Within a with block, ids beyond the vocabulary stand for words in training.

        with embedding.whole_words([b" strawberry", b" raspberry"]) as first:
            model(torch.tensor([[the_id, first + 1]]))     # "the raspberry", one token for the word

        Such a word has no row: its vector is the mean row plus the character vector of the word. So
        the encoder learns to read words as long as tokens that are added after the training.
        Evaluation knows the vocabulary alone. Yields the id of the first word; a block within another
        one has the ids after the other's words. New spellings, such as those of `add_tokens`, end the
        words.

        Arguments:
            words: the spelling of each word, with its space if the tokenizer's tokens have one.

        Raises AttachError if the encoder has no SpellingTable, or if a word has characters that no
        token has.
        """
        words, known, before = list(words), self.spellings, self.num_words
        table = SpellingTable.from_bytes(
            [*known.to_bytes(), *words], known.unit, tuple(known.alphabet)
        )
        if new := table.alphabet[known.num_chars :]:
            raise AttachError(
                f"The words have {len(new)} characters that no token has, such as {chr(new[0])!r}: "
                "leave these words out."
            )
        holder = self._holder
        try:
            self.update_spellings(table)
            # of the holder: embeddings that share its encoder read the words too
            vars(holder)["_num_words"] = before + len(words)
            yield self.num_embeddings + before
        finally:
            # Within the block, fold() or detach() may have removed the encoder, and new spellings
            # have ended the words.
            if isinstance(self, CharEmbedding) and (self.num_words or self.spellings is table):
                self.update_spellings(known)
                vars(holder)["_num_words"] = before

    @property
    def own_spellings(self) -> SpellingTable:
        """The spellings of the rows alone, without the words of `whole_words`."""
        found = self.spellings
        return found.first(found.num_tokens - self.num_words) if self.num_words else found

    def _needs_gradient(self) -> bool:
        """True if a tensor of the embedding or of the encoder requires a gradient."""
        # Under FSDP1 the weights are views of a parameter elsewhere, and plain attributes here.
        parts = (self,) if self._holder is self else (self, self.encoder)
        return any(
            tensor.requires_grad for part in parts for found in tensors_of(part) for tensor in found
        )

    def _in_a_graph(self, ids: Tensor, look_up: Callable[[], Tensor] | None) -> Tensor:
        """`_vectors` while a graph is compiled or exported."""
        parameters = (parameter for part in (self, self.encoder) for parameter in part.parameters())
        with_gradient = torch.is_grad_enabled() and any(
            parameter.requires_grad for parameter in parameters
        )
        if with_gradient:
            self._table.drop()
        # An exported graph must not need this process, so it encodes the ids.
        if with_gradient or self.training or torch.compiler.is_exporting():
            return self.encode(ids, self._token_vectors(ids, look_up))
        looked_up: Tensor = _look_up(ids, self.weight.detach(), self._key)
        return looked_up

    def look_up(self, ids: Tensor) -> Tensor:
        """Return token + character vectors from the table of all ids, without gradients.

        ids (...) -> (..., D), bit-equal to the rows that `charembed.fold` writes.
        """
        # Dicts are faster than attributes of a module. Under FSDP1 the weight is no parameter here.
        found = self._parameters.get("weight")
        weight_VD: Tensor = self.weight if found is None else found
        if weight_VD.requires_grad and torch.is_grad_enabled():
            weight_VD = weight_VD.detach()
        # nn.functional.embedding calls torch.embedding with the same arguments. Tensor classes of
        # torchao replace the former alone.
        plain = type(weight_VD) in (nn.Parameter, Tensor)
        vectors = torch.embedding(weight_VD, ids) if plain else nn.Embedding.forward(self, ids)
        char_VD = self._table.get(self.encoder_in_use, weight_VD, self.num_embeddings, ids)
        vectors += torch.embedding(char_VD, ids)
        return vectors

    def encode(self, ids_BT: Tensor, token_BTD: Tensor) -> Tensor:
        """Return token + character vectors with gradients: ids_BT (B, T) -> (B, T, D).

        Each distinct token of the batch is encoded once. Until the encoder changes, equal ids get
        equal vectors, bit for bit, in whatever batch (if `encoder.deterministic` is True). Argument
        token_BTD: the token vectors.
        """
        which_BT: Tensor | None = None
        if torch.compiler.is_compiling():
            # The number of distinct ids is data-dependent and would break the graph. The recurrent
            # encoders find the distinct ids inside their custom op.
            ids_U = ids_BT.flatten()
        else:
            ids_U, which_BT = torch.unique(ids_BT, return_inverse=True)
        # nn.DataParallel: the holder of the encoder may be on another device than this replica
        char_UD: Tensor = self.encoder(ids_U.to(self._holder.weight.device))
        char_UD = char_UD.to(self.weight.device, self.weight.dtype)
        if not torch.compiler.is_compiling() and "_is_replica" not in self.__dict__:
            check_training_step(self, ids_U, char_UD)
            # The values inside a transform of torch.func belong to that transform alone.
            if torch._C._functorch.peek_interpreter_stack() is None:
                encoder, V = self.encoder_in_use, self.num_embeddings
                char_UD = self._table.same_in_a_step(encoder, ids_U, char_UD, V + self.num_words)
        if self.padding_idx is not None:
            # as nn.Embedding does for its own row: the padding token gives no gradient
            char_UD = torch.where((ids_U == self.padding_idx)[:, None], char_UD.detach(), char_UD)
        if which_BT is None:
            return token_BTD + char_UD.view(token_BTD.shape)
        return token_BTD + nn.functional.embedding(which_BT, char_UD)

    def train(self, mode: bool = True) -> Self:
        """Set the mode, as every module does. The next look-up compares all values."""
        if (table := vars(self).get("_table")) is not None:
            table.doubt()
        return super().train(mode)

    def table(self, grad: bool = False) -> Tensor:
        """Compute token + character vectors of all ids: (V, D), without the host's own scaling.

        probabilities_BTV @ embedding.table(grad=True)     # soft tokens, (B, T, D)

        The result is new on each call; it is not the table that `look_up` keeps. It does not
        follow `charembed.disabled`.

        Arguments:
            grad: if True, gradients flow into the token table and the encoder, as far as they
                require them. The encoder computes each chunk of the vocabulary again in the
                backward pass, so memory grows by a few copies of the table. Default: False.
        """
        if grad and torch.is_grad_enabled():
            return self._table_with_gradients()
        with torch.no_grad():
            char_VD = encode_vocabulary(self.encoder_in_use, self.weight, self.num_embeddings)
            return char_VD.add_(self.weight)  # in place: a third tensor of this size is saved

    def _table_with_gradients(self) -> Tensor:
        encoder, device = self.encoder_in_use, self._holder.weight.device
        chunks = [ids_U.to(device) for ids_U in chunks_of(encoder, self.num_embeddings)]
        # each chunk is computed again in the backward pass, so its states need not be kept
        read = [checkpoint(encoder, ids_U, use_reentrant=False) for ids_U in chunks]
        ids_V = torch.cat(chunks).to(self.weight.device)
        # the chunks may be in another order than the ids
        return self.weight.index_add(0, ids_V, torch.cat(read).to(self.weight))

    @property
    def spellings(self) -> SpellingTable:
        """The spellings that the encoder uses.

        Raises AttachError if the encoder has no SpellingTable.
        """
        found = getattr(self.encoder_in_use, "spellings", None)
        if not isinstance(found, SpellingTable):
            kind = type(self.encoder_in_use).__name__
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
        for encoder in versions(self.encoder):  # PEFT has a copy for each adapter
            encoder.update_spellings(spellings)  # type: ignore[operator]
        vars(self._holder)["_num_words"] = 0  # ids beyond the rows stand for no words any more
        self._table.drop()

    def check_whole(self) -> None:
        """Raise AttachError if this process does not hold the whole token table."""
        if any(parameter.is_meta for parameter in self.parameters()):
            if any(hasattr(part, "_hf_hook") for part in self.modules()):
                raise AttachError(
                    "accelerate has offloaded the embedding's weights. First call "
                    "accelerate.hooks.remove_hook_from_submodules(model), which brings them back."
                )
            raise AttachError("The weights are on the meta device. Load them first.")
        sharded = any(hasattr(parameter, "device_mesh") for parameter in self.parameters())
        if sharded or self.weight.dim() != 2 or self.weight.numel() == 0:
            raise AttachError(f"The weights are sharded over processes. {GATHER}")
        check_rows(self)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # No encoder keys (a plain checkpoint): keep the current encoder. Only some of them: error.
        if self._holder is self and not any(
            name.startswith(f"{prefix}encoder.") for name in state_dict
        ):
            check_resumed(self)
            weight, metadata = state_dict.get(f"{prefix}weight"), args[0]
            if metadata.get("assign_to_params_buffers") and weight is not None:
                self._materialize(weight.device)
            state_dict.update(
                {
                    f"{prefix}encoder.{name}": value
                    for name, value in self.encoder.state_dict().items()
                }
            )
        elif self._holder is self and is_wrapper(self.encoder):
            check_keys(self.encoder, f"{prefix}encoder.", state_dict)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._table.drop()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        warn_of_saving(self, prefix)
        super()._save_to_state_dict(destination, prefix, keep_vars)

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


def _transformed(embedding: CharEmbedding) -> bool:
    """True if a transform of torch.func or a forward-mode derivative holds one of the weights.

    Such a tensor has no memory of its own whose address and values could be compared.
    """
    if torch._C._functorch.peek_interpreter_stack() is None and forward_ad._current_level < 0:
        return False
    return any(
        torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        or forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]
        for part in (embedding, embedding.encoder)
        for found in tensors_of(part)
        for tensor in found
    )


@functools.cache
def _class_for(host_class: Any) -> Any:
    """Create the class of an attached embedding, once for each class of hosts."""
    members = {"host_class": host_class}
    if host_class.forward is not nn.Embedding.forward:
        members["forward"] = _own_forward(host_class)
    return type("CharEmbedding", (CharEmbedding, host_class), members)


def _own_forward(host_class: Any) -> Any:
    """Return the host class's own forward, whose look-ups also add the character vectors."""

    @functools.wraps(host_class.forward)  # with the host's signature
    def forward(self: CharEmbedding, *args: Any, **kwargs: Any) -> Any:
        if self.disabled:
            return host_class.forward(self, *args, **kwargs)
        if not torch.compiler.is_compiling():
            check_caller(self)
        with ExchangedLookups(self.weight, self._checked):
            return host_class.forward(self, *args, **kwargs)

    return forward


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


def _registered(key: str) -> CharEmbedding:
    if key not in _EMBEDDINGS:
        raise CharEmbedError(
            f"The embedding {key} of a compiled graph does not exist in this process any more. "
            "Compile the model again."
        )
    return _EMBEDDINGS[key]


@torch.library.custom_op("charembed::look_up", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def _look_up(ids: Tensor, weight: Tensor, key: str) -> Tensor:
    with torch.no_grad():
        return _registered(key).look_up(ids).clone()


@_look_up.register_fake
def _(ids: Tensor, weight: Tensor, key: str) -> Tensor:
    return weight.new_empty(*ids.shape, weight.shape[1])


@torch.library.custom_op(
    "charembed::draw",
    mutates_args=(),
    tags=(torch.Tag.cudagraph_unsafe, torch.Tag.nondeterministic_seeded),
)
def _draw(ids: Tensor, key: str) -> Tensor:
    return _registered(key)._drawn(ids)


@_draw.register_fake
def _(ids: Tensor, key: str) -> Tensor:
    return ids.new_empty(ids.shape, dtype=torch.bool)

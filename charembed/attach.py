"""Attach a character encoder to a model's input embedding, disable it, update it, or detach it.

Only the input embedding changes. Every module of the model stays the same Python object.
"""

from __future__ import annotations

import gc
import numbers
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from .adapters import check_order
from .embedding import CharEmbedding, Model, attached, char_embeddings, is_untouched
from .encoder import PRETRAINED, init_name
from .encoders import ENCODERS
from .errors import AttachError, SpellingError
from .input_embeddings import find_embeddings
from .mark import mark, remove_marks
from .scale import SCALE, check_scale, scale_vectors
from .sharding import check_unsharded, with_subclasses
from .spelling import SpellingTable
from .takeover import check, check_size, encoder_for

# If a larger share of the rows has no characters, the tokenizer is probably another model's.
_MAX_SHARE_WITHOUT_CHARACTERS = 0.25


def attach(
    model: Model,
    tokenizer: Any,
    *,
    module: str | None = None,
    encoder: str | nn.Module = "lstm",
    scale: float | Literal["auto"] | None = "auto",
    row_dropout: float = 0.0,
    **arguments: Any,
) -> Model:
    """Add character vectors to the model's input embedding, in place, and return the model.

    model = charembed.attach(GPT2LMHeadModel(config), tokenizer)
    model = charembed.attach(model, tokenizer, encoder="gru", hidden_size=256, init="normal")
    model = charembed.attach(GPT2LMHeadModel.from_pretrained(name), tokenizer, init="pretrained")

    Afterwards the embedding returns the token vector plus the character vector of each token.
    With init "zero" (the default) the outputs and the gradients of the base are bit-identical to
    those before, until the first update. With init "pretrained" the vectors encode the spelling
    from the first step, so a pretrained model learns to use them sooner. Its text quality drops
    until it has been trained with them (docs/retrofit.md). The global random state does not change.
    Call attach before DDP or FSDP wraps the model and before you build the optimizer.

    Arguments:
        model: a torch.nn.Module with an nn.Embedding for its input tokens.
        tokenizer: a tiktoken.Encoding, a Hugging Face tokenizer, a list with the bytes of each id,
            or a SpellingTable; docs/tokenizers.md lists the other kinds. It must be the model's.
            attach refuses one with more tokens than the embedding has rows, and warns if a quarter
            of the rows get no characters. It cannot notice another tokenizer of a similar size.
        module: path of the embedding inside the model ("transformer.wte"). Default:
            `model.get_input_embeddings()`. If other embeddings share its weight (T5, BART), they
            get the same character vectors.
        encoder: a name in `charembed.ENCODERS`, or a module that maps distinct ids (U,) to vectors
            (U, D). If it is a module, tokenizer may be None; otherwise the tokenizer must be the
            one that the module was built for.
        scale: standard deviation of the character vectors relative to the token embeddings, as in
            `set_scale`. None: no rescaling. "auto" (the default): 0.35 with init "pretrained", None
            with other inits.
        row_dropout: share of the vocabulary, 0 or more and below 1, whose token vectors are
            replaced by the mean row of the table in a training step. The model then has to read
            the characters of known tokens too, and so of unseen ones. Tokens without characters
            keep their vectors. Default: 0.0. It is an
            attribute of the CharEmbedding, applies in training mode alone, and is not saved.
        arguments: keyword arguments of the named encoder: init="zero", seed=0 and its sizes. The
            LSTM has char_dim=128 and hidden_size=128, or hidden_size=256 with init "pretrained".

    Raises AttachError if the model already has a CharEmbedding, if no embedding can be taken over,
    if an argument would have no effect, or if the scale cannot be set. Raises SpellingError if the
    tokenizer does not fit the embedding. After an error the model is unchanged.
    """
    hosts = find_embeddings(model, module, tokenizer)
    check_order(model, hosts[0])
    if scale == "auto":
        scale = SCALE if init_name(arguments.get("init")) == PRETRAINED else None
    if scale is not None:
        check_scale(scale)
    if not isinstance(row_dropout, numbers.Real) or not 0 <= row_dropout < 1:
        raise AttachError(f"row_dropout is {row_dropout!r}: give a share of 0 or more and below 1.")
    # parameters that are created in inference mode could not be trained
    with torch.inference_mode(False):
        made = (
            _given(encoder, tokenizer, hosts[0], arguments)
            if isinstance(encoder, nn.Module)
            else None
        )
        made = made or _named(encoder, tokenizer, hosts[0], arguments)
        if scale is not None:
            scale_vectors(made, hosts[0].weight, scale)
        put(model, hosts, made)
    for host in hosts:
        host.row_dropout = float(row_dropout)
    _warn_of_optimizers(model)
    return model


def put(model: nn.Module, hosts: list[nn.Embedding], encoder: nn.Module) -> None:
    """Exchange the class of the hosts, which share their weight and now the encoder too."""
    first, *others = hosts
    # a module that the user passes may be on another device than the embedding
    embedding = CharEmbedding(first, encoder.to(first.weight.device))
    for other in others:
        CharEmbedding(other, encoder, embedding)
    embedding.made_by_class = _within_init()
    mark(model, hosts)
    _warn_of_fsdp(embedding)


def _named(name: Any, tokenizer: Any, host: nn.Embedding, arguments: dict[str, Any]) -> nn.Module:
    """Build an encoder by name. An error leaves the model unchanged."""
    spellings = _spellings(tokenizer, host, getattr(ENCODERS.get(name), "unit", None))
    made = encoder_for(host, name, spellings, arguments)
    without = int((spellings.lengths_V == 0).sum())
    if without > _MAX_SHARE_WITHOUT_CHARACTERS * host.num_embeddings:
        warnings.warn(
            f"{without} of the embedding's {host.num_embeddings} rows have no characters. Check "
            "that this is the tokenizer of the model.",
            stacklevel=3,
        )
    return made


def _given(
    encoder: nn.Module, tokenizer: Any, host: nn.Embedding, arguments: dict[str, Any]
) -> nn.Module:
    """Check that a module fits the host and the tokenizer, and return it."""
    kind, spells = type(encoder).__name__, getattr(encoder, "spellings", None)
    if arguments:
        names = ", ".join(arguments)
        raise AttachError(
            f"The encoder is already built (a {kind}), so {names} would have no effect. Leave it "
            "out."
        )
    if spells is not None:
        check_size(spells, host)
    if (width := getattr(encoder, "dim", host.embedding_dim)) != host.embedding_dim:
        raise AttachError(
            f"The encoder returns vectors of width {width}, but the embedding has "
            f"{host.embedding_dim} columns. Build the encoder with dim={host.embedding_dim}."
        )
    if tokenizer is not None:
        table = _spellings(tokenizer, host, getattr(spells, "unit", None))
        if spells is not None and spells.fingerprint != table.fingerprint:
            raise SpellingError(
                "The encoder was built for a different tokenizer. If this is intended, pass "
                "tokenizer=None."
            )
    return encoder


def _spellings(tokenizer: Any, host: nn.Embedding, unit: str | None) -> SpellingTable:
    if isinstance(tokenizer, SpellingTable):
        return tokenizer
    # An encoder of the user's own may have no `unit`.
    return SpellingTable.from_tokenizer(tokenizer, host.num_embeddings, unit or "codepoint")


def detach(model: Model) -> Model:
    """Undo `attach`, in place, and return the model. Weights that were trained keep their values.

    charembed.detach(model)     # the embedding is a plain nn.Embedding again

    Does nothing if no encoder is attached. Raises AttachError, and changes nothing, if accelerate
    has placed the embedding, if another tool changed its class or its forward, or if the embedding
    was replaced after `attach`.
    """
    embeddings = attached(model)
    check_releasable(embeddings)
    for embedding in embeddings:
        embedding.release()
    remove_marks(model)
    return model


def check_releasable(embeddings: list[CharEmbedding]) -> None:
    """Raise AttachError if another tool holds one of the embeddings or has changed it."""
    for embedding in embeddings:
        if "_hf_hook" in vars(embedding):
            raise AttachError(
                "accelerate has placed the embedding (device_map, offload). First call "
                "accelerate.hooks.remove_hook_from_submodules(model)."
            )
        if not is_untouched(embedding):
            raise AttachError(
                f"Another tool has changed the embedding's class to {type(embedding).__name__} "
                "(torch.nn.utils.parametrize, fully_shard?). Undo that first, for example with "
                "torch.nn.utils.parametrize.remove_parametrizations."
            )
        own = vars(embedding).get("forward")
        if own is not None and own != types.MethodType(type(embedding).forward, embedding):
            raise AttachError(
                "The embedding's forward was replaced on the instance after attach, and the change "
                "would be lost. First undo it: del embedding.forward."
            )
    for embedding in embeddings:
        # Removed hooks of accelerate leave the class's own forward on the instance.
        vars(embedding).pop("forward", None)


def check_as_host(embedding: CharEmbedding) -> None:
    """Raise AttachError if the embedding was changed so that `attach` would refuse it now."""
    # first, because reading a parametrized weight may change buffers (spectral_norm)
    if "weight" not in embedding._parameters:
        raise AttachError(
            "The embedding's weight was pruned, parametrized or replaced by a plain tensor after "
            "attach. First make it a parameter again, with torch.nn.utils.prune.remove(embedding, "
            "'weight') or torch.nn.utils.parametrize.remove_parametrizations(embedding, 'weight')."
        )
    embedding.check_whole()
    if "_hf_hook" not in vars(embedding):  # check_releasable has the message for that
        check(embedding.as_host())


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Compute without character vectors inside a with block: bit for bit the base model.

    with charembed.disabled(model):
        base_logits = model(ids)

    It also holds in training: the encoder then takes no part in the forward pass and gets no
    gradient. After the block, also after an exception, the embedding is as it was before.
    """
    embeddings = attached(model)
    before = [embedding.disabled for embedding in embeddings]
    try:
        for embedding in embeddings:
            embedding.disabled = True
        yield
    finally:
        for embedding, was_disabled in zip(embeddings, before, strict=True):
            # detach() or fold() within the block exchange the class back.
            if isinstance(embedding, CharEmbedding):
                embedding.disabled = was_disabled


def update_spellings(model: Model, tokenizer: Any) -> Model:
    """Update the spellings after the vocabulary changed, in place, and return the model.

    model.resize_token_embeddings(len(tokenizer))
    charembed.update_spellings(model, tokenizer)

    The trained weights of the encoder stay, so new tokens have character vectors without further
    training. Removed tokens lose theirs. If the new tokens contain new characters, the encoder's
    table of characters grows; build the optimizer afterwards. Their rows come last in that table.
    So a state dict or PEFT adapter of the model fits only a model that was attached with the former
    tokenizer and then updated in the same way; `charembed.save` and `load` need none of this.

    Arguments:
        model: a model with an attached encoder.
        tokenizer: the changed tokenizer, in any form that `attach` takes.

    Raises AttachError if no encoder is attached, or if FSDP manages its weights. Raises
    SpellingError if the tokenizer has more tokens than the embedding has rows.
    """
    embeddings = attached(model)
    if not embeddings:
        raise AttachError(
            "The model has no CharEmbedding to update. First call charembed.attach(model, "
            "tokenizer)."
        )
    for embedding in embeddings:
        check_unsharded(model, embedding)
    # All tables first: if one of them is refused, no embedding has changed.
    tables = [_spellings_of(embedding, tokenizer) for embedding in embeddings]
    for embedding, spellings in zip(embeddings, tables, strict=True):
        with torch.inference_mode(False):
            embedding.update_spellings(spellings.over(embedding.spellings.alphabet))
    return model


def _spellings_of(embedding: CharEmbedding, tokenizer: Any) -> SpellingTable:
    known, rows = embedding.spellings, embedding.num_embeddings
    if not isinstance(tokenizer, SpellingTable):
        return SpellingTable.from_tokenizer(tokenizer, rows, known.unit, known.alphabet)
    if (tokenizer.num_tokens, tokenizer.unit) != (rows, known.unit):
        raise SpellingError(
            f"The spelling table has {tokenizer.num_tokens} tokens in unit {tokenizer.unit!r}, but "
            f"the embedding has {rows} rows in unit {known.unit!r}. Build the table with "
            f"num_tokens={rows}, unit={known.unit!r}."
        )
    return tokenizer


def _warn_of_optimizers(model: nn.Module) -> None:
    # torch hooks `step` of a class when its first optimizer is built. If no class is hooked, no
    # optimizer exists, and the search through all objects (0.1 s) is saved.
    kinds = {
        kind for kind in with_subclasses(torch.optim.Optimizer) if hasattr(kind.step, "hooked")
    }
    if not kinds:
        return
    every = {id(parameter) for parameter in model.parameters()}
    added = {id(p) for embedding in char_embeddings(model) for p in embedding.encoder.parameters()}
    for optimizer in [thing for thing in gc.get_objects() if type(thing) in kinds]:
        held = {id(p) for group in getattr(optimizer, "param_groups", ()) for p in group["params"]}
        if held & every and not held & added:
            warnings.warn(
                f"A {type(optimizer).__name__} was built before charembed.attach, so it does not "
                "train the character encoder. Build the optimizer again.",
                stacklevel=3,
            )
            return


def _within_init() -> bool:
    """True if a model class of transformers attaches in its own `__init__`.

    from_pretrained of that class creates the encoder too, and so loads its keys.
    """
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "__init__" and "self" in frame.f_code.co_varnames:
            made = frame.f_locals.get("self")
            if isinstance(made, nn.Module) and hasattr(made, "save_pretrained"):
                return True
        frame = frame.f_back
    return False


def _warn_of_fsdp(embedding: CharEmbedding) -> None:
    """Warn in a distributed run that FSDP shards tensors of one dtype only."""
    dtypes = {parameter.dtype for parameter in embedding.parameters()}
    distributed = torch.distributed.is_available() and (
        torch.distributed.is_initialized() or torch.distributed.is_torchelastic_launched()
    )
    if distributed and len(dtypes) > 1:
        warnings.warn(
            f"The token table is {embedding.weight.dtype}, the character encoder torch.float32. "
            "FSDP refuses to shard both together: first shard the encoder by itself, "
            "fully_shard(model.get_input_embeddings().encoder) or an auto_wrap_policy of FSDP1 "
            f"that wraps it, or call model.to({embedding.weight.dtype}) after attach. DDP needs "
            "neither.",
            stacklevel=4,
        )

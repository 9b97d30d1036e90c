"""Give an existing model its letters, silence them, and take them away again.

Only the input embedding changes; every module of the model stays the object it was.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from .embedding import CharEmbedding, Model, char_embeddings
from .encoder import PRETRAINED, init_name
from .encoders import ENCODERS
from .errors import AttachError, SpellingError
from .scale import SCALE, check_scale, scale_vectors
from .spelling import SpellingTable
from .takeover import check, check_size, encoder_for

WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel", "DataParallel"}
LETTERLESS = 0.25  # a larger share of rows without letters looks like the wrong tokenizer


def attach(
    model: Model,
    tokenizer: Any,
    *,
    module: str | None = None,
    encoder: str | nn.Module = "lstm",
    scale: float | Literal["auto"] | None = "auto",
    **arguments: Any,
) -> Model:
    """Give the model's input embedding its letters, in place, and return the model.

    model = charembed.attach(GPT2LMHeadModel(config), tokenizer)
    model = charembed.attach(model, tokenizer, encoder="gru", hidden_size=256, init="normal")
    model = charembed.attach(AutoModelForCausalLM.from_pretrained(name), tokenizer, init="pretrained")

    With the default init "zero" the model's outputs and the base's gradients are bit-identical to what they
    were, until the first update. With "spelled" the letters can be read from the first step, and a
    pretrained model learns sooner to use them; its text suffers until it has been trained with them
    (docs/retrofit.md). The global random state is not touched. Attach before DDP, FSDP or an optimizer sees
    the model.

    Arguments:
        tokenizer: a tiktoken.Encoding, a Hugging Face tokenizer, a list with the bytes of each id, or a
            SpellingTable.
        module: path of the embedding inside the model ("transformer.wte"); by default
            `model.get_input_embeddings()`. Embeddings that share its weight (T5, BART) get the same letters.
        encoder: a name in `charembed.ENCODERS`, or a module that maps distinct ids (U,) to vectors (U, D).
            With a module `tokenizer` may be None; if it is given, it must be the one that the module spells.
        scale: how loud the letters are beside the tokens, as in `set_scale`; None leaves them as the encoder
            makes them. "auto" is 0.35 with init "spelled" and None with others.
        arguments: of the named encoder: init="zero", seed=0 and its sizes (char_dim=128, hidden_size=128 for
            the LSTM, 256 with init "spelled").

    Raises AttachError when there is already a CharEmbedding, no embedding that can be taken over, an argument
    that would have no effect, or a scale that cannot be set (see `set_scale`), SpellingError when the tokenizer
    does not fit it; the model is then unchanged.
    """
    hosts = find_embeddings(model, module, tokenizer)
    if scale == "auto":
        scale = SCALE if init_name(arguments.get("init")) == PRETRAINED else None
    if scale is not None:
        check_scale(scale)
    with torch.inference_mode(False):
        made = (
            _given(encoder, tokenizer, hosts[0], arguments)
            if isinstance(encoder, nn.Module)
            else None
        )
        made = made or _named(encoder, tokenizer, hosts[0], arguments)
        if scale is not None:
            scale_vectors(made, hosts[0].weight, scale)
        put(hosts, made)
    _warn_of_optimizers(model)
    return model


def put(hosts: list[nn.Embedding], encoder: nn.Module) -> None:
    """Exchange the class of the hosts, which share their weight and now their letters."""
    first, *others = hosts
    embedding = CharEmbedding(first, encoder.to(first.weight.device))
    for other in others:
        CharEmbedding(other, encoder, embedding)


def _named(name: Any, tokenizer: Any, host: nn.Embedding, arguments: dict[str, Any]) -> nn.Module:
    """A new encoder of a named kind. Raises before anything changes."""
    spellings = _spellings(tokenizer, host, getattr(ENCODERS.get(name), "unit", None))
    made = encoder_for(host, name, spellings, arguments)
    without = int((spellings.lengths_V == 0).sum())
    if without > LETTERLESS * host.num_embeddings:
        warnings.warn(
            f"{without} of the embedding's {host.num_embeddings} rows get no letters: is this the model's "
            "own tokenizer?",
            stacklevel=3,
        )
    return made


def _given(
    encoder: nn.Module, tokenizer: Any, host: nn.Embedding, arguments: dict[str, Any]
) -> nn.Module:
    kind, spells = type(encoder).__name__, getattr(encoder, "spellings", None)
    if arguments:
        names = ", ".join(arguments)
        raise AttachError(
            f"the encoder is a {kind} already, so {names} would have no effect: leave it out."
        )
    if spells is not None:
        check_size(spells, host)
    if (width := getattr(encoder, "dim", host.embedding_dim)) != host.embedding_dim:
        raise AttachError(
            f"the encoder gives vectors of width {width}, but the embedding has {host.embedding_dim} "
            f"columns: build it with dim={host.embedding_dim}."
        )
    if tokenizer is not None:
        table = _spellings(tokenizer, host, getattr(spells, "unit", None))
        if spells is not None and spells.fingerprint != table.fingerprint:
            raise SpellingError(
                "the encoder spells other tokens than the tokenizer: pass None in the tokenizer's place if "
                "that is meant."
            )
    return encoder


def _spellings(tokenizer: Any, host: nn.Embedding, unit: str | None) -> SpellingTable:
    if isinstance(tokenizer, SpellingTable):
        return tokenizer
    return SpellingTable.from_tokenizer(tokenizer, host.num_embeddings, unit or "codepoint")


def detach(model: Model) -> Model:
    """Undo `attach`: the embedding is what it was, with the weights of now. Idempotent; returns the model.

    Raises AttachError, and changes nothing, where accelerate has placed the embedding.
    """
    embeddings = list(char_embeddings(model))
    check_releasable(embeddings)
    for embedding in embeddings:
        embedding.release()
    return model


def check_releasable(embeddings: list[CharEmbedding]) -> None:
    for embedding in embeddings:
        if "_hf_hook" in vars(embedding):
            raise AttachError(
                "accelerate has placed the embedding (device_map, offload): call "
                "accelerate.hooks.remove_hook_from_submodules(model) first."
            )
        vars(embedding).pop("forward", None)  # what those hooks leave behind


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Silence the letters for a while: within, the model is its base, bit for bit, in training too.

    with charembed.disabled(model): without_letters = model(ids)
    """
    embeddings = list(char_embeddings(model))
    before = [embedding.disabled for embedding in embeddings]
    try:
        for embedding in embeddings:
            embedding.disabled = True
        yield
    finally:
        for embedding, was_disabled in zip(embeddings, before, strict=True):
            if isinstance(embedding, CharEmbedding):  # not detached or folded meanwhile
                embedding.disabled = was_disabled


def update_spellings(model: Model, tokenizer: Any) -> Model:
    """Read the letters of a vocabulary that changed, with what the encoder has learnt; returns the model.

    model.resize_token_embeddings(len(tokenizer)); charembed.update_spellings(model, tokenizer)

    New tokens then have their letters without any training; rows that are gone take theirs with them.
    Characters that are new too get a first vector, so that the encoder's table of characters grows: build the
    optimizer afterwards.

    Raises AttachError when there is nothing attached, SpellingError when the tokenizer has more tokens than
    the embedding.
    """
    embeddings = list(char_embeddings(model))
    if not embeddings:
        raise AttachError(
            "the model has no CharEmbedding to respell: call charembed.attach(model, tokenizer)."
        )
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
            f"the spelling table has {tokenizer.num_tokens} tokens in unit {tokenizer.unit!r}, the embedding "
            f"{rows} rows in {known.unit!r}: build it with num_tokens={rows}, unit={known.unit!r}."
        )
    return tokenizer


def find_embeddings(model: Any, path: str | None, tokenizer: Any = None) -> list[nn.Embedding]:
    """The embedding to take over and those that share its weight. Raises AttachError, naming the choice."""
    if not isinstance(model, nn.Module):
        swapped = (
            " (model and tokenizer seem to be swapped)" if isinstance(tokenizer, nn.Module) else ""
        )
        kind = type(model).__name__
        raise AttachError(
            f"the model is a {kind}, not a torch.nn.Module{swapped}: attach(model, tokenizer)."
        )
    if any(True for _ in char_embeddings(model)):
        raise AttachError(
            "the model already has a CharEmbedding: call charembed.detach(model) first."
        )
    for part in model.modules():
        if (wrapper := type(part).__name__) in WRAPPERS:
            raise AttachError(
                f"the model is wrapped in {wrapper}, which would not see new parameters: attach first, wrap "
                "afterwards."
            )
    found: Any
    try:
        found = model.get_input_embeddings() if path is None else model.get_submodule(path)  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        missing = "the model has no module " + repr(path)
        missing = (
            f"{type(model).__name__} has no get_input_embeddings()" if path is None else missing
        )
        raise AttachError(f"{missing}: {_embeddings_to_choose(model)}") from None
    if found is model:
        raise AttachError(
            "the model is the embedding itself: use charembed.CharEmbedding.from_embedding."
        )
    if not isinstance(found, nn.Embedding):
        raise AttachError(
            f"the input embedding is a {type(found).__name__}, not an nn.Embedding: "
            f"{_embeddings_to_choose(model)}"
        )
    hosts = [found, *_tied_to(found, model)]
    for host in hosts:
        check(host)
    return hosts


def _tied_to(found: nn.Embedding, model: Any) -> Iterator[nn.Embedding]:
    """The other embeddings that hold its weight, or will: from_pretrained ties what it built on meta."""
    later = {}
    if found.weight.is_meta and hasattr(model, "get_expanded_tied_weights_keys"):
        later = model.get_expanded_tied_weights_keys(all_submodels=True)
    source = {
        part: later.get(f"{path}.weight", f"{path}.weight")
        for path, part in model.named_modules()
        if isinstance(part, nn.Embedding)
    }
    for part in source:
        same = part._parameters.get("weight", 0) is found.weight or source[part] == source.get(
            found
        )
        if same and part is not found:
            yield part


def _embeddings_to_choose(model: nn.Module) -> str:
    paths = [
        repr(path) for path, module in model.named_modules() if isinstance(module, nn.Embedding)
    ]
    if not paths:
        return "it holds no nn.Embedding at all."
    return f"name the embedding with module=..., one of {', '.join(paths)}."


def _warn_of_optimizers(model: nn.Module) -> None:
    # torch hooks the step of a class when its first optimizer is built; to look for them takes 0.1 s
    kinds = {
        kind for kind in _with_subclasses(torch.optim.Optimizer) if hasattr(kind.step, "hooked")
    }
    if not kinds:
        return
    every = {id(parameter) for parameter in model.parameters()}
    letters = {
        id(p) for embedding in char_embeddings(model) for p in embedding.encoder.parameters()
    }
    for optimizer in [thing for thing in gc.get_objects() if type(thing) in kinds]:
        held = {id(p) for group in getattr(optimizer, "param_groups", ()) for p in group["params"]}
        if held & every and not held & letters:
            warnings.warn(
                f"a {type(optimizer).__name__} was built before the letters were attached, so it does not "
                "train them: build it again.",
                stacklevel=3,
            )
            return


def _with_subclasses(kind: Any) -> set[Any]:
    return {kind}.union(*map(_with_subclasses, kind.__subclasses__()))

"""Build the model of an arm. The same seed gives all arms the same shared parameters."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

import charembed
from charembed import SpellingTable
from charembed.spelling import characters
from synthetic_tasks import stream
from training.config.config import CompareConfig
from training.config.phase import Phase
from training.data.batches import text_batches
from training.data.prepare import Data
from training.data.questions import WholeWords
from training.errors import BadInput
from training.models.arms import ARMS, Parts, TableEncoder
from training.models.decoder import Decoder, DecoderConfig
from training.models.huggingface import HuggingFace
from training.models.language_model import LanguageModel

# Tokens of text for each embedding column, from which the low-Fisher directions are estimated.
_TOKENS_PER_COLUMN = 4


def build_model(config: CompareConfig, seed: int) -> LanguageModel:
    """Return the base model. The same seed gives the same weights; a pretrained model is loaded."""
    with torch.random.fork_rng(devices=[]):  # the random numbers of the caller stay the same
        torch.manual_seed(seed)
        if config.model.pretrained:
            return HuggingFace.load(config.model.model, config.context)
        return Decoder(
            DecoderConfig(
                vocab_size=config.data.vocab_size,
                context=config.text.context,
                n_layer=config.model.layers,
                n_head=config.model.heads,
                n_embd=config.model.width,
                dropout=config.model.dropout,
                output=config.model.output,
                init_std=config.model.init_std,
            )
        )


def build_arm(
    config: CompareConfig, arm: str, seed: int, spellings: SpellingTable
) -> LanguageModel:
    """Return the base model with the input embedding of an arm."""
    model = build_model(config, seed)
    host = model.get_submodule(model.embedding)
    assert isinstance(host, nn.Embedding)
    made = ARMS[arm].build(
        Parts(
            spellings=spellings,
            dim=host.embedding_dim,
            char_dim=config.model.char_dim,
            hidden_size=config.model.char_hidden,
            init=config.model.init,
            seed=seed,
        )
    )
    if made is None:
        return model
    scale = None if _all_zero(made) else config.model.scale or None
    return charembed.attach(model, None, module=model.embedding, encoder=made, scale=scale)


def settle(model: LanguageModel, data: Data) -> None:
    """Set the scale of an arm's character vectors and project them to low-Fisher directions.

    Both only if the config says so. Needed again after a warm-up on spelling, which trains the
    encoder without the model and so changes both.
    """
    config = data.config
    embedding = model.get_submodule(model.embedding)
    if not isinstance(embedding, charembed.CharEmbedding):
        return
    scale = None if _all_zero(embedding.encoder) else config.model.scale or None
    if config.model.low_fisher_share:
        rows = max(
            32, math.ceil(_TOKENS_PER_COLUMN * embedding.embedding_dim / config.text.context)
        )
        # "quiet" seeds the random stream of finished runs: it must stay as it is.
        text = text_batches(data.train_ids, rows, config.text.context, "quiet")(0)
        ids_BT = text.ids_BT.to(embedding.weight.device)
        share = config.model.low_fisher_share
        charembed.project_to_low_fisher(model, ids_BT, share=share, scale=scale)
    elif scale:
        charembed.set_scale(model, scale)


def _all_zero(encoder: nn.Module) -> bool:
    """Whether an encoder is a table of zero vectors, which no factor can rescale."""
    return isinstance(encoder, TableEncoder) and not encoder.projection.weight.any()


def extend_context(model: LanguageModel, phase: Phase, seed: int) -> None:
    """Allow the rows of a phase, which may be longer than those of the phases before it."""
    if phase.reads_rows:
        model.extend_context(phase.context, torch.Generator().manual_seed(seed))


def _reader(model: LanguageModel) -> charembed.CharEmbedding | None:
    """The embedding of an arm that reads characters; None for other arms."""
    embedding = model.get_submodule(model.embedding)
    if not isinstance(embedding, charembed.CharEmbedding):
        return None
    # a table has a row for each token and reads no characters
    return None if isinstance(embedding.encoder, TableEncoder) else embedding


def with_spellings(model: LanguageModel, config: CompareConfig, arm: str) -> LanguageModel:
    """The model of an arm, before any step.

    Raises BadInput if words are to be whole (`Phase.whole_words`) and the encoder takes none.
    """
    embedding = _reader(model)
    if embedding is None or not any(phase.whole_words and phase.steps for phase in config.phases):
        return model
    encoder = embedding.encoder
    has_table = isinstance(getattr(encoder, "spellings", None), SpellingTable)
    if not (has_table and hasattr(encoder, "update_spellings")):
        raise BadInput(
            f"--whole-words gives new words to the encoder of the arm {arm!r}, a "
            f"{type(encoder).__name__} without spellings and update_spellings: define both, or leave "
            "the arm or --whole-words out."
        )
    return model


@contextmanager
def whole_words(
    model: LanguageModel, data: Data, phase: Phase, arm: str, seed: int
) -> Iterator[Data]:
    """Within a with block, let an arm with an encoder read training words as one token each.

    Yields the data with these words (`Phase.whole_words`); the same data for other arms and phases.
    """
    embedding = _reader(model)
    if not (phase.whole_words and data.splits and embedding):
        yield data
        return
    alphabet, unit = set(embedding.spellings.alphabet), embedding.spellings.unit
    spelled: dict[str, bytes] = {}
    for word in data.splits["seen"]:
        pieces = data.tokenizer.encode_word(word)
        spelling = b"".join(data.tokenizer.spellings[token] or b"" for token in pieces)
        # the table of characters must not grow for the time of a phase
        if len(pieces) > 1 and alphabet.issuperset(map(ord, characters(spelling, unit))):
            spelled[word] = spelling
    spellings = list(spelled.values())
    if arm == "shuffled":  # a word has the letters of another one, too
        stream("whole words", arm, seed).shuffle(spellings)
    with embedding.whole_words(spellings) as first:
        ids = {word: first + number for number, word in enumerate(spelled)}
        yield replace(data, whole=WholeWords(ids, phase.whole_words))


def assert_paired(arms: Iterable[tuple[str, nn.Module]]) -> str:
    """Assert that every parameter of the base model starts with the same value in all arms.

    Returns the hash of these values.
    """
    # Hashes are kept, not values: models that are equal but large need not be in memory together.
    first, shared = "", dict[str, str]()
    for name, model in arms:
        values = {
            key: _digest(value) for key, value in model.named_parameters() if ".encoder." not in key
        }
        first, shared = first or name, shared or values
        assert values.keys() == shared.keys(), f"{first} and {name} have different models"
        for key, value in values.items():
            assert value == shared[key], f"{key} begins differently in {first} and {name}"
    return hashlib.sha256(json.dumps(shared).encode()).hexdigest()


def _digest(values: torch.Tensor) -> str:
    return hashlib.sha256(
        values.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
    ).hexdigest()

"""Build the model of an arm: the same seed gives every arm of a pair the same shared parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import torch
from torch import nn

import charembed
from charembed import SpellingTable
from training.config.config import CompareConfig
from training.models.arms import ARMS, Parts
from training.models.decoder import Decoder, DecoderConfig
from training.models.huggingface import HuggingFace
from training.models.language_model import LanguageModel


def build_model(config: CompareConfig, seed: int) -> LanguageModel:
    """The model under the arms: the same seed gives the same one.

    A pretrained one is read from its folder.
    """
    with torch.random.fork_rng(devices=[]):
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
                init_std=config.model.init_std,
            )
        )


def build_arm(
    config: CompareConfig, arm: str, seed: int, spellings: SpellingTable
) -> LanguageModel:
    """The model with the arm's input embedding. The same seed gives every arm the same model."""
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
    gain = config.model.scale or None
    return charembed.attach(model, None, module=model.embedding, encoder=made, scale=gain)


def assert_paired(arms: Iterable[tuple[str, nn.Module]]) -> str:
    """The arms' law: every parameter of the model begins with the same value in all of them.

    Holds one arm at a time. Returns a hash of these values.
    """
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

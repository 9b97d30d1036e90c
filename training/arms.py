"""The arms of a comparison: one model, different input embeddings. A new arm is one entry of ARMS.

Axes: U distinct tokens, V vocabulary, D model width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import charembed
from charembed import ENCODERS, SpellingTable
from charembed.encoder import SPELLED

from .controls import TableEncoder, every_token, its_first_letter, its_length, same_size
from .decoder import Decoder, DecoderConfig
from .huggingface import HuggingFace
from .models import LanguageModel

if TYPE_CHECKING:
    from .config import CompareConfig, ModelConfig


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What an arm's encoder is made of."""

    spellings: SpellingTable
    dim: int
    config: ModelConfig
    seed: int

    @property
    def init(self) -> str:
        """Of the encoders and tables that nobody has taught to spell."""
        return "loud" if self.config.init == SPELLED else self.config.init


@dataclass(frozen=True, kw_only=True)
class Arm:
    """How an arm's encoder is built (None: the model as it is), its colour, and what it is.

    `sentence` is the line of the report that explains the arm, `called` what follows "the model" in its
    headline. `projects`: do its vectors come from a projection, whose loudness and directions can be set?
    """

    build: Callable[[Parts], nn.Module | None]
    colour: str
    called: str
    sentence: str
    projects: bool = True


def encoder(name: str, *sizes: str) -> Callable[[Parts], nn.Module]:
    """An arm with one of charembed's encoders.

    `sizes` are those that the config sets; the others are the encoder's own.
    """
    kind: Any = ENCODERS[name]

    def build(parts: Parts) -> nn.Module:
        known = {"char_dim": parts.config.char_dim, "hidden_size": parts.config.char_hidden}
        spellings = in_unit(parts.spellings, kind.unit)
        made: nn.Module = kind(
            spellings,
            parts.dim,
            init=parts.config.init if parts.config.init in kind.other_inits else parts.init,
            seed=parts.seed,
            **{size: known[size] for size in sizes},
        )
        return made

    return build


def in_unit(spellings: SpellingTable, unit: str) -> SpellingTable:
    """The same spellings in characters or in bytes, as an encoder wants them."""
    if unit == spellings.unit:
        return spellings
    return SpellingTable.from_bytes(spellings.to_bytes(), unit)


lstm = encoder("lstm", "char_dim", "hidden_size")


def shuffled(parts: Parts) -> nn.Module:
    spellings = parts.spellings.shuffled(torch.Generator().manual_seed(parts.seed))
    return lstm(replace(parts, spellings=spellings))


def matched(parts: Parts) -> TableEncoder:
    width = same_size(parts.spellings, parts.dim, num_parameters(lstm(parts)))
    return TableEncoder(every_token(parts.spellings), width, parts.dim, init=parts.init, seed=parts.seed)


def control(
    rows: Callable[[SpellingTable], torch.Tensor], *, trained: bool = True
) -> Callable[[Parts], TableEncoder]:
    """An arm that looks up one row per token, as wide as a character's vector."""
    return lambda parts: TableEncoder(
        rows(parts.spellings),
        parts.config.char_dim,
        parts.dim,
        init=parts.init,
        seed=parts.seed,
        trained=trained,
    )


ARMS: dict[str, Arm] = {
    "plain": Arm(
        build=lambda parts: None,
        colour="#8a8f98",
        called="without letters",
        sentence="the model as it is: a token is a number, and its letters are hidden",
    ),
    "matched": Arm(
        build=matched,
        colour="#d1603d",
        called="without letters",
        sentence="no letters, but as many extra parameters as they take, in a second table: more size alone",
    ),
    "shuffled": Arm(
        build=shuffled,
        colour="#a08624",
        called="with the letters of other tokens",
        sentence="each token gets the letters of another one: everything but the truth of the letters",
    ),
    "lstm": Arm(
        build=lstm,
        colour="#1f6f8b",
        called="with letters",
        sentence="the letters of each token, read by a small recurrent network (an LSTM)",
    ),
    "gru": Arm(
        build=encoder("gru", "char_dim", "hidden_size"),
        colour="#2f9e8f",
        called="with letters read by a GRU",
        sentence="the letters of each token, read by a GRU",
    ),
    "cnn": Arm(
        build=encoder("cnn"),
        colour="#6a4c93",
        called="with letters read by a convolution",
        sentence="the letters of each token, read by a convolution and a maximum over places",
    ),
    "bag": Arm(
        build=encoder("bag", "char_dim"),
        colour="#c2577a",
        called="with letters in no order",
        sentence="the letters of each token without their order",
    ),
    "bee": Arm(
        build=encoder("bee"),
        colour="#b07f10",
        called="with the mean of its tokens' bytes",
        sentence="the mean of the token's bytes, each turned by its place",
        projects=False,
    ),
    "transformer": Arm(
        build=encoder("transformer"),
        colour="#3d5a80",
        called="with letters read by a transformer",
        sentence="the letters of each token, read by a small transformer",
    ),
    "length": Arm(
        build=control(its_length),
        colour="#7d8f4e",
        called="with the lengths of its tokens alone",
        sentence="only how many letters a token has",
    ),
    "first": Arm(
        build=control(its_first_letter),
        colour="#5c7a99",
        called="with the first letters of its tokens alone",
        sentence="only the first letter of a token",
    ),
    "random": Arm(
        build=control(every_token, trained=False),
        colour="#b07aa1",
        called="with random vectors",
        sentence="a fixed random vector for each token",
    ),
}


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
                tie=config.model.tie,
                init_std=config.model.init_std,
            )
        )


def build_arm(config: CompareConfig, arm: str, seed: int, spellings: SpellingTable) -> LanguageModel:
    """The model with the arm's input embedding. The same seed gives every arm the same model."""
    model = build_model(config, seed)
    host = model.get_submodule(model.embedding)
    assert isinstance(host, nn.Embedding)
    made = ARMS[arm].build(Parts(spellings=spellings, dim=host.embedding_dim, config=config.model, seed=seed))
    if made is None:
        return model
    gain = config.model.gain or None
    return charembed.attach(model, None, module=model.embedding, encoder=made, gain=gain)


def num_parameters(model: nn.Module) -> int:
    """Trainable parameters, each counted once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def num_parameters_after_fold(model: LanguageModel) -> int:
    """What `num_parameters` will say of the folded model: no encoder, and an own head where it was tied."""
    embedding = model.get_submodule(model.embedding)
    weight = embedding.get_parameter("weight")
    letters = charembed.parameters(model)
    owners = sum(
        parameter is weight for module in model.modules() for parameter in module._parameters.values()
    )
    untied = weight.numel() if letters and owners > 1 else 0
    return (
        num_parameters(model)
        - sum(parameter.numel() for parameter in letters if parameter.requires_grad)
        + untied
    )


def assert_paired(arms: Iterable[tuple[str, nn.Module]]) -> str:
    """The arms' law: every parameter of the model begins with the same value in all of them.

    Holds one arm at a time. Returns a hash of these values.
    """
    first, shared = "", dict[str, str]()
    for name, model in arms:
        values = {key: _digest(value) for key, value in model.named_parameters() if ".encoder." not in key}
        first, shared = first or name, shared or values
        assert values.keys() == shared.keys(), f"{first} and {name} have different models"
        for key, value in values.items():
            assert value == shared[key], f"{key} begins differently in {first} and {name}"
    return hashlib.sha256(json.dumps(shared).encode()).hexdigest()


def _digest(values: torch.Tensor) -> str:
    return hashlib.sha256(values.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()

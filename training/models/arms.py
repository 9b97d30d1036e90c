"""The arms of a comparison: one model, different input embeddings. A new arm is one entry of ARMS.

Axes: U distinct tokens, V vocabulary, D model width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

import charembed
from charembed import ENCODERS, SpellingTable
from charembed.encoder import PRETRAINED

from .controls import TableEncoder, every_token, its_first_letter, its_length, same_size
from .language_model import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Arguments of an arm's `build`: the spellings, the widths (D, E, H), the initialisation, the seed."""

    spellings: SpellingTable
    dim: int
    char_dim: int
    hidden_size: int
    init: str
    seed: int

    @property
    def other_init(self) -> str:
        """Initialisation of tables and of encoders that ship without pretrained weights."""
        return "normal" if self.init == PRETRAINED else self.init


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
        known = {"char_dim": parts.char_dim, "hidden_size": parts.hidden_size}
        spellings = in_unit(parts.spellings, kind.unit)
        made: nn.Module = kind(
            spellings,
            parts.dim,
            init=parts.init if parts.init in kind.other_inits else parts.other_init,
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
    return TableEncoder(
        every_token(parts.spellings), width, parts.dim, init=parts.other_init, seed=parts.seed
    )


def control(
    rows: Callable[[SpellingTable], torch.Tensor], *, trained: bool = True
) -> Callable[[Parts], TableEncoder]:
    """An arm that looks up one row per token, as wide as a character's vector."""
    return lambda parts: TableEncoder(
        rows(parts.spellings),
        parts.char_dim,
        parts.dim,
        init=parts.other_init,
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


def num_parameters(model: nn.Module) -> int:
    """Trainable parameters, each counted once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def num_parameters_after_fold(model: LanguageModel) -> int:
    """What `num_parameters` will say of the folded model: no encoder, and an own head where it was tied."""
    embedding = model.get_submodule(model.embedding)
    weight = embedding.get_parameter("weight")
    letters = charembed.parameters(model)
    owners = sum(
        parameter is weight
        for module in model.modules()
        for parameter in module._parameters.values()
    )
    untied = weight.numel() if letters and owners > 1 else 0
    return (
        num_parameters(model)
        - sum(parameter.numel() for parameter in letters if parameter.requires_grad)
        + untied
    )

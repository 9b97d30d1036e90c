"""The arms of a comparison: one model with different input embeddings.

An arm is an experimental condition: an entry of ARMS, with an encoder whose vectors are added to
the token embeddings. An entry of `charembed.ENCODERS` is an arm of the same name without any entry
here. Controls see less than the characters of a token: they separate the effects of size, of form
and of a single letter from the effect of the characters.

Axes: U distinct tokens, V vocabulary, R rows of a table, K its width, D model width.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import charembed
from charembed import ENCODERS, SpellingTable
from charembed.encoder import PRETRAINED

from .language_model import LanguageModel

_PALETTE = ("#b4532a", "#4f6d7a", "#7a5195", "#3f7d44", "#a23b72", "#6b705c")  # of added encoders
_LONGEST = 32  # tokens of this length or more share a row
AGAIN = "again"  # the A/A arm
_SIZES = ("char_dim", "hidden_size")  # the sizes of an encoder that the config sets


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Arguments of an arm's `build`: spellings, the widths D, E and H, initial values and seed."""

    spellings: SpellingTable
    dim: int
    char_dim: int
    hidden_size: int
    init: str
    seed: int

    @property
    def other_init(self) -> str:
        """Initial values of tables, and of encoders without pretrained weights."""
        return "normal" if self.init == PRETRAINED else self.init


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An arm of a comparison.

    Attributes:
        build: makes the encoder; None: the model without one.
        colour: of the arm in every picture.
        called: follows "the model" in the headline of a report.
        sentence: explains the arm in the report.
        role: "encoder"; "control", an arm that sees less than the characters of a token; or
            "rival", an arm without an encoder that learns spellings otherwise (data/rivals.py).
        projects: whether the vectors come from a projection, which can be rescaled and restricted
            to low-Fisher directions.
    """

    build: Callable[[Parts], nn.Module | None]
    colour: str
    called: str
    sentence: str
    role: str = "encoder"
    projects: bool = True


def encoder(name: str, *sizes: str) -> Callable[[Parts], nn.Module]:
    """The `build` of an arm with a class of ENCODERS, charembed's or a user's.

    `sizes` are those of _SIZES that the config sets for it; the class has defaults for the rest.
    """

    def build(parts: Parts) -> nn.Module:
        kind = ENCODERS[name]  # now: a script may have replaced the class since
        init = parts.init if parts.init in getattr(kind, "other_inits", ()) else parts.other_init
        known = {"char_dim": parts.char_dim, "hidden_size": parts.hidden_size}
        given = {"init": init, "seed": parts.seed} | {size: known[size] for size in sizes}
        takes = inspect.signature(kind).parameters
        spellings = in_unit(parts.spellings, getattr(kind, "unit", "codepoint"))
        # a user's class may draw its first values from the global generator
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(parts.seed)
            taken = {name: given[name] for name in given if name in takes}
            made: nn.Module = kind(spellings, parts.dim, **taken)
        return made

    return build


def _encoded_by(name: str, colour: str, by: str, *sizes: str, exactly: str | None = None) -> Arm:
    """The arm of an encoder, in words such as "a GRU". Raises KeyError for an unknown name."""
    kind = ENCODERS[name]
    return Arm(
        build=encoder(name, *sizes),
        colour=colour,
        called=f"with characters encoded by {by}",
        sentence=f"the characters of each token, encoded by {exactly or by}",
        projects=hasattr(kind, "set_output_scale"),
    )


class _Arms(dict[str, Arm]):
    """The arms by name; an encoder without an entry is found too."""

    def __missing__(self, name: str) -> Arm:
        # an added encoder; its colour depends on the order of the added ones
        added = [each for each in ENCODERS if each not in self]
        number = added.index(name) if name in added else 0
        return _encoded_by(name, _PALETTE[number % len(_PALETTE)], name, *_SIZES)


def arm_names() -> tuple[str, ...]:
    """The names of all arms, including those of added encoders."""
    return tuple(dict.fromkeys((*ARMS, *ENCODERS)))


def is_added(name: str) -> bool:
    """Whether a script added the arm. A process that imports the laboratory alone lacks it."""
    return not (_is_ours(ARMS[name].build) and _is_ours(ENCODERS.get(_encoder_of(name))))


def import_path(name: str) -> str:
    """The import of an added encoder by other processes: "vowels=my_encoders:Vowels".

    "" if there is none: the class is of the script itself or local to a function, or the arm is
    not an encoder's.
    """
    key = _encoder_of(name)
    kind = ENCODERS.get(key)
    module, path = getattr(kind, "__module__", "__main__"), getattr(kind, "__qualname__", "<")
    is_found = _is_ours(ARMS[name].build) and module != "__main__" and "<" not in path
    return f"{key}={module}:{path}" if is_found else ""


def _encoder_of(name: str) -> str:
    """The name of the encoder that an arm is built with."""
    return "lstm" if name in ("matched", "shuffled", AGAIN) else name


def _is_ours(maker: Any) -> bool:
    return maker is None or maker.__module__.startswith(("charembed.", "training."))


def in_unit(spellings: SpellingTable, unit: str) -> SpellingTable:
    """The same spellings in the unit of an encoder, "codepoint" or "byte"."""
    if unit == spellings.unit:
        return spellings
    return SpellingTable.from_bytes(spellings.to_bytes(), unit)


class TableEncoder(nn.Module):
    """A projected row of a small table for each token: ids_U (U,) -> (U, D).

    Arguments:
        rows_V: row of each token; tokens may share one. Row -1 gives exactly zero.
        parts: with `init` "zero" (projection zero), "normal" (rows N(0, 1), projection N(0, 1/K))
            or "parent" (both N(0, 0.02)).
        trained: whether the table is trained; the projection always is.
    """

    rows_V: Tensor

    def __init__(self, rows_V: Tensor, width: int, parts: Parts, trained: bool = True) -> None:
        super().__init__()
        init, generator = parts.other_init, torch.Generator().manual_seed(parts.seed)
        num_rows = int(rows_V.max()) + 1
        # made on meta, so that the global generator is not moved
        self.table = nn.Embedding(num_rows, width, device="meta").to_empty(device="cpu")
        self.projection = nn.Linear(width, parts.dim, device="meta").to_empty(device="cpu")
        self.register_buffer("rows_V", rows_V, persistent=False)
        std = {"zero": 0.0, "normal": width**-0.5, "parent": 0.02}[init]
        with torch.no_grad():
            self.table.weight.normal_(0, 0.02 if init == "parent" else 1, generator=generator)
            self.projection.weight.normal_(0, std, generator=generator)
            self.projection.bias.zero_()
        if not trained:
            # not persistent: the seed makes the same numbers again, so they need not be stored
            values = self.table.weight.detach().clone()
            del self.table.weight
            self.table.register_buffer("weight", values, persistent=False)

    def add_means(self, tokens: Sequence[Sequence[int]]) -> None:
        """Add a token for each group of tokens: its row is the mean of their rows."""
        table = self.table.weight.detach()
        means = [table[self.rows_V[list(group)].clamp(min=0)].mean(0) for group in tokens]
        rows = torch.cat([table, torch.stack(means)])
        self.table = nn.Embedding(len(rows), rows.shape[1], _weight=rows)
        places = torch.arange(len(table), len(table) + len(means), device=self.rows_V.device)
        self.rows_V = torch.cat([self.rows_V, places])

    def forward(self, ids_U: Tensor) -> Tensor:
        rows_U = self.rows_V[ids_U]
        char_UD: Tensor = self.projection(F.embedding(rows_U.clamp(min=0), self.table.weight))
        return torch.where((rows_U >= 0)[:, None], char_UD, 0)


def every_token(spellings: SpellingTable) -> Tensor:
    """A row of its own for each token."""
    return torch.arange(spellings.num_tokens)


def its_length(spellings: SpellingTable) -> Tensor:
    """One row for all tokens with the same number of characters."""
    # length 0 becomes row -1, which gives a vector of zeros
    return spellings.lengths_V.long().clamp(max=_LONGEST) - 1


def its_first_letter(spellings: SpellingTable) -> Tensor:
    """One row for all tokens with the same first letter, after a leading space if there is one."""
    letters = spellings.chars_VC.long()
    # -1 matches no character of a vocabulary without spaces
    space = spellings.alphabet.index(ord(" ")) if ord(" ") in spellings.alphabet else -1
    place_V = ((letters[:, 0] == space) & (spellings.lengths_V > 1)).long()
    first_V = letters.gather(1, place_V[:, None]).squeeze(1)
    return torch.where(spellings.lengths_V > 0, first_V, -1)


_lstm = encoder("lstm", *_SIZES)


def _shuffled(parts: Parts) -> nn.Module:
    # the seed of the arm: other pairs shuffle otherwise
    spellings = parts.spellings.shuffled(torch.Generator().manual_seed(parts.seed))
    return _lstm(replace(parts, spellings=spellings))


def _matched(parts: Parts) -> TableEncoder:
    # table and projection have the size of the LSTM, which depends on the number of characters
    size, num_rows = num_parameters(_lstm(parts)), parts.spellings.num_tokens + parts.dim
    width = max(1, round((size - parts.dim) / num_rows))
    # A second table that starts with random vectors disturbs the first one: from zero it is the
    # stronger control (docs/LOG.md).
    return TableEncoder(every_token(parts.spellings), width, replace(parts, init="zero"))


def _control(
    rows: Callable[[SpellingTable], Tensor], trained: bool = True
) -> Callable[[Parts], nn.Module]:
    """The `build` of a control: a table with rows as wide as a character's vector."""
    return lambda parts: TableEncoder(rows(parts.spellings), parts.char_dim, parts, trained)


def _again(parts: Parts) -> nn.Module:
    # far from the seeds of any run, so that no arm of another seed begins with these values
    return _lstm(replace(parts, seed=parts.seed + 1_000_000))


def _no_encoder(parts: Parts) -> None:
    """The `build` of the untouched model: of `plain`, and of the rivals."""


ARMS: dict[str, Arm] = _Arms({
    "plain": Arm(
        build=_no_encoder, colour="#8a8f98", called="without characters",
        sentence="the model as it is: a token is an id, without its characters",
        role="control",
    ),
    "matched": Arm(
        build=_matched, colour="#d1603d", called="without characters",
        sentence="a second token table with as many parameters as an encoder: size alone",
        role="control",
    ),
    "shuffled": Arm(
        build=_shuffled, colour="#a08624", called="with the characters of other tokens",
        sentence="each token has the characters of another one: false spellings",
        role="control",
    ),
    "lstm": Arm(
        build=_lstm, colour="#1f6f8b", called="with characters",
        sentence="the characters of each token, encoded by a small recurrent network (an LSTM)",
    ),
    "gru": _encoded_by("gru", "#2f9e8f", "a GRU", *_SIZES),
    "cnn": _encoded_by("cnn", "#6a4c93", "a convolution", exactly="a convolution and a maximum"),
    "bag": Arm(
        build=encoder("bag", "char_dim"), colour="#c2577a",
        called="with characters in no order",
        sentence="the characters of each token without their order",
    ),
    "bee": Arm(
        build=encoder("bee"), colour="#b07f10", projects=False,
        called="with the mean of its tokens' bytes",
        sentence="the mean of the token's byte vectors, each rotated by its position",
    ),
    "transformer": _encoded_by(
        "transformer", "#3d5a80", "a transformer", exactly="a small transformer"
    ),
    "length": Arm(
        build=_control(its_length), colour="#7d8f4e",
        called="with the lengths of its tokens alone",
        sentence="only the number of characters of each token",
        role="control",
    ),
    "first": Arm(
        build=_control(its_first_letter), colour="#5c7a99",
        called="with the first letters of its tokens alone",
        sentence="only the first letter of each token",
        role="control",
    ),
    "random": Arm(
        build=_control(every_token, trained=False), colour="#b07aa1", called="with random vectors",
        sentence="a fixed random vector for each token",
        role="control",
    ),
    "spelling_data": Arm(
        build=_no_encoder, colour="#7d8a2b", called="trained on spellings",
        sentence="the model as it is; a share of its questions spells a token of the vocabulary",
        role="rival",
    ),
    "spelled_prompt": Arm(
        build=_no_encoder, colour="#b07a14", called="with the letters in the question",
        sentence="the model as it is; each question also gives the letters of its word",
        role="rival",
    ),
    "stochastok": Arm(
        build=_no_encoder, colour="#5f8f8a", called="trained on randomly split tokens",
        sentence="the model as it is; in training some tokens are split into smaller ones",
        role="rival",
    ),
    "spelling_loss": Arm(
        build=_no_encoder, colour="#9b6a6c", called="with a spelling loss",
        sentence="the model as it is; heads learn to predict a token's letters from its vector",
        role="rival",
    ),
    AGAIN: Arm(
        build=_again, colour="#74808c", called="with the same characters, begun otherwise",
        sentence="the arm lstm with other initial values of its encoder: an A/A test, in which no "
        "difference is real",
        role="control",
    ),
})  # fmt: skip


def num_parameters(model: nn.Module) -> int:
    """Trainable parameters, each counted once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def num_parameters_after_fold(model: LanguageModel) -> int:
    """`num_parameters` of the folded model: without the encoder, and with an untied head."""
    weight = model.get_submodule(model.embedding).get_parameter("weight")
    of_encoder = charembed.parameters(model)
    owners = [m for m in model.modules() if any(p is weight for p in m._parameters.values())]
    # fold() gives a tied head a table of its own
    untied = weight.numel() if of_encoder and len(owners) > 1 else 0
    folded = sum(parameter.numel() for parameter in of_encoder if parameter.requires_grad)
    return num_parameters(model) - folded + untied

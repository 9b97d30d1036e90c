"""What every encoder is: from the letters of a token to one vector.

Axes: V vocabulary, U distinct tokens, C characters per token (padded), A alphabet, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .device_tensors import DeviceTensors
from .errors import AttachError, CharEmbedError
from .spelling import SpellingTable

# Standard deviations of the characters' vectors and of the output projection; None is 1 / sqrt(its inputs).
INIT_STD: dict[str, tuple[float, float | None]] = {
    "zero": (1.0, 0.0),
    "normal": (1.0, None),
    "parent": (0.02, 0.02),
}
PRETRAINED = "pretrained"
# Names of 0.1. Saved parts keep them, so that a part is the same file whichever version wrote it.
FORMER_INITS = {"loud": "normal", "spelled": PRETRAINED}
ON_META = (
    "the encoder's parameters are on the meta device: fill them (load_state_dict, or "
    "encoder.reset_parameters()) before use."
)


def init_name(name: Any) -> Any:
    """The current name of an initialization: "loud" -> "normal", "spelled" -> "pretrained"."""
    return FORMER_INITS.get(name, name) if isinstance(name, str) else name


class CharEncoder(nn.Module):
    """Base of charembed's encoders: ids_U (U,) -> char_UD (U, D), exactly zero without characters.

    A subclass says in `build` which parameters it has, in `fill` their first values, in `prepare` what it
    derives from the spellings, and in `read` how letters become vectors. It keeps `chars`, one vector per
    character, whose rows follow the alphabet. A class of your own need not be a subclass; what `attach`,
    `save`, `load` and `update_spellings` use is

        Class(spellings, dim, **config), also on the meta device       .config, those keyword arguments
        forward(ids_U) -> char_UD                                   .spellings, the SpellingTable
        update_spellings(spellings)                                             reset_parameters()

    and `charembed.ENCODERS["name"] = Class` gives it a name.

    Arguments:
        spellings: of the vocabulary.
        dim: D, the width of the model's embedding.
        init: "zero" (attaching changes nothing until the first update), "loud" (characters N(0, 1) and
            projection N(0, 1/H), to learn from scratch), "parent" (the parent experiment: N(0, 0.02) and
            zero biases), or, for the LSTM, "spelled" (it can spell already; see spelled.py).
        seed: of a private generator; the global random state is neither read nor moved.
        sizes: what the subclass takes, each a whole number of 1 or more, or a tuple of them.
    """

    loudness: Tensor | None  # a factor of the vectors, not trained; see `set_loudness`
    unit: ClassVar[str] = "codepoint"  # of the spellings that `attach` reads for it
    other_inits: ClassVar[tuple[str, ...]] = ()
    chars: Rows

    def __init__(
        self, spellings: SpellingTable, dim: int, init: str, seed: int, **sizes: Any
    ) -> None:
        super().__init__()
        init = init_name(init)
        if init not in (known := (*INIT_STD, *self.other_inits)):
            way = " (or init 'normal' and then charembed.warm_up)" if init == PRETRAINED else ""
            raise AttachError(f"init is {init!r}; choose one of {', '.join(known)}{way}.")
        for name, size in sizes.items():
            for value in size if isinstance(size, tuple) else (size,):
                if type(value) is not int or value < 1:
                    raise AttachError(
                        f"{name} is {value!r}; it must be a whole number of 1 or more."
                    )
        self.token_chars: Any
        self.projection: Any
        self.spellings, self.dim, self.init, self.seed, self.sizes = (
            spellings,
            dim,
            init,
            seed,
            sizes,
        )
        on_meta = torch.get_default_device().type == "meta"
        with torch.device(
            "meta"
        ):  # without values, so that no number is drawn from the global generator
            self.build(spellings.num_chars, dim, **sizes)
        self.prepare(spellings)
        self.register_buffer(
            "loudness", None
        )  # none: the vectors are as loud as the projection makes them
        self._filled = False
        if not on_meta:
            self.to_empty(device="cpu")  # which fills it

    build: Callable[..., None]
    fill: Callable[[torch.Generator], None]
    prepare: Callable[[SpellingTable], None]
    read: Callable[[Tensor], Tensor]

    @property
    def config(self) -> dict[str, Any]:
        """The keyword arguments that, with spellings and dim, build this encoder again."""
        return {**self.sizes, "init": self.init, "seed": self.seed}

    @property
    def chars_std(self) -> float:
        return INIT_STD.get(self.init, (1.0, None))[0]

    @property
    def chars_seed(self) -> int:
        """Of the vectors that characters get which the alphabet had not when the encoder was made."""
        return self.seed

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Give every parameter its first value, a function of `init` and `seed` alone, in any dtype."""
        self.fill(torch.Generator().manual_seed(self.seed))
        self._filled = True

    def set_output_scale(self, factor: float) -> None:
        """Multiply all vectors by a factor that training does not move.

        A projection with small weights would be quiet too, but an optimizer whose steps have the size of its
        rate (AdamW) would overwrite it within a few of them.
        """
        self.loudness = torch.tensor(factor, dtype=torch.float32).to(self.chars.weight)

    @property
    def output_scale(self) -> Tensor | None:
        """The factor that `set_output_scale` set; None if the vectors are not scaled."""
        return self.loudness

    def fill_projection(self, generator: torch.Generator) -> None:
        """N(0, 1) characters and the output's values, as `init` says."""
        std, projection = INIT_STD.get(self.init, (1.0, None))[1], self.projection
        normal_(self.chars.weight, self.chars_std, generator)
        normal_(
            projection.weight, projection.weight.shape[1] ** -0.5 if std is None else std, generator
        )
        projection.bias.zero_()

    @torch.no_grad()
    def update_spellings(self, spellings: SpellingTable) -> None:
        """Read other spellings with the same weights; only characters that are new get a first vector.

        The alphabet of `spellings` must begin with this encoder's, as `SpellingTable.over` makes it, or be
        the beginning of it; characters behind that are then forgotten.
        """
        known, weight = self.spellings.alphabet, self.chars.weight
        kept = min(len(known), spellings.num_chars)
        assert spellings.alphabet[:kept] == known[:kept], (spellings.num_chars, len(known))
        rows = weight.data[:kept]
        if new := spellings.alphabet[kept:]:
            drawn = seeded_rows(new, weight.shape[1], self.chars_seed) * self.chars_std
            rows = torch.cat([rows, drawn.to(weight)])
        self.prepare(spellings)
        self.spellings = spellings
        if len(rows) != len(weight):
            weight.data = rows  # subtle: the Parameter stays, as when transformers resizes
            weight.grad = None  # of the old shape

    def forward(self, ids_U: Tensor) -> Tensor:
        if not self._filled or self.chars.weight.is_meta:
            self._fill_if_new()
        lengths_V = self.token_chars.on(ids_U.device).lengths_V
        has_chars_U = lengths_V[ids_U.clamp(max=len(lengths_V) - 1)] > 0
        read_UD = self.read(ids_U)
        if self.loudness is not None:
            read_UD = read_UD * self.loudness
        return torch.where(has_chars_U[:, None], read_UD, 0)

    def _fill_if_new(self) -> None:
        """After `from_pretrained` of a class that attaches in `__init__` nobody has filled the encoder."""
        parameters = list(self.parameters())
        if any(parameter.is_meta for parameter in parameters):
            raise CharEmbedError(ON_META)
        written = (
            p._version or getattr(p, "_is_hf_initialized", 0)
            for p in parameters
            if not p.is_inference()
        )
        if not any(written):
            self.reset_parameters()
        self._filled = True

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        """An encoder that comes from the meta device is filled, so that what is written to it then stays."""
        was_there = not any(parameter.is_meta for parameter in self.parameters())
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        if not was_there and not any(parameter.is_meta for parameter in self.parameters()):
            self.reset_parameters()
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        self._filled = True
        super()._load_from_state_dict(*args)


class Rows(nn.Module):
    """A table of vectors; no nn.Embedding, so that PEFT and transformers' init pass it by."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns, dtype=torch.float32))


class Affine(Rows):
    """x -> W x + b; no nn.Linear, so that LoRA on all linear layers, quantization and init pass it by."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__(rows, columns)
        self.bias = nn.Parameter(torch.empty(rows, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


def seeded_rows(symbols: Sequence[int], width: int, seed: int = 0) -> Tensor:
    """(n, width) of N(0, 1): a row is a function of its character alone, in whatever order they are met."""
    rows = torch.empty(len(symbols), width, dtype=torch.float32, device="cpu")
    for row, symbol in zip(rows, symbols, strict=True):
        row.normal_(generator=torch.Generator().manual_seed(seed + 1 + symbol))
    return rows


@torch.no_grad()
def normal_(parameter: Tensor, std: float, generator: torch.Generator) -> Tensor:
    values = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
    return parameter.copy_(values.normal_(0, std, generator=generator))


@torch.no_grad()
def uniform_(parameter: Tensor, bound: float, generator: torch.Generator) -> Tensor:
    values = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
    return parameter.copy_(values.uniform_(-bound, bound, generator=generator))


@dataclass(frozen=True, eq=False)
class PaddedSpellings(DeviceTensors):
    """The first characters of each token as rows of equal length, for encoders that read them all at once.

    chars_VC (V + 1, C) int32, padded with 0, and lengths_V (V + 1,), at most C; at the end an id without
    characters.
    """

    chars_VC: Tensor
    lengths_V: Tensor

    @classmethod
    def from_spellings(cls, spellings: SpellingTable, max_chars: int) -> PaddedSpellings:
        with torch.device("cpu"):
            lengths_V = spellings.lengths_V.long().clamp(max=max_chars)
            places_C = torch.arange(max(1, int(lengths_V.max())))
            real_VC = places_C < lengths_V[:, None]
            chars_VC = torch.zeros(real_VC.shape, dtype=torch.int32)
            chars_VC[real_VC] = spellings.chars_S[(spellings.starts_V[:, None] + places_C)[real_VC]]
            pad = nn.functional.pad
            return cls(pad(chars_VC, (0, 0, 0, 1)), pad(lengths_V, (0, 1)))

    def of(self, ids_U: Tensor) -> tuple[Tensor, Tensor]:
        """chars_UC, and real_UC: which of them are characters of the token."""
        here = self.on(ids_U.device)
        ids_U = ids_U.clamp(max=len(here.lengths_V) - 1)
        chars_UC = here.chars_VC[ids_U]
        return chars_UC, torch.arange(chars_UC.shape[1], device=ids_U.device) < here.lengths_V[
            ids_U
        ][:, None]

"""The base class of character encoders, which map token ids to character vectors.

Axes: V vocabulary, U distinct tokens, C characters per token (padded), A alphabet, D model width.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .arguments import check_int, check_number, check_seed
from .device_tensors import DeviceTensors
from .errors import AttachError, CharEmbedError
from .spelling import SpellingTable

# Standard deviations of the character embeddings and of the output projection. None: 1 /
# sqrt(number of the projection's inputs).
INIT_STD: dict[str, tuple[float, float | None]] = {
    "zero": (1.0, 0.0),
    "normal": (1.0, None),
    "parent": (0.02, 0.02),
}
PRETRAINED = "pretrained"
# Names of version 0.1. Saved parts still hold them, so 0.1 can load a part that 0.2 wrote.
FORMER_INITS = {"loud": "normal", "spelled": PRETRAINED}


def on_meta(encoder: nn.Module) -> CharEmbedError:
    """Return the error for an encoder whose parameters are on the meta device."""
    # accelerate leaves parameters on meta and puts their values there before each forward of the
    # module that holds them. But the encoder reads parameters of several modules in one forward.
    if any(hasattr(part, "_hf_hook") for part in encoder.modules()):
        return CharEmbedError(
            "accelerate has offloaded the parts of the character encoder one by one, but they are "
            "used together. Offload the embedding in one piece: pass "
            "preload_module_classes=['CharEmbedding'] to cpu_offload or dispatch_model. The values "
            "are not lost."
        )
    return CharEmbedError(
        "The encoder's parameters are on the meta device, so they have no values. Load them with "
        "load_state_dict(state, assign=True), or set the initial values with "
        "encoder.to_empty(device=...)."
    )


def init_name(name: Any) -> Any:
    """Return the current name of an init: "loud" -> "normal", "spelled" -> "pretrained"."""
    return FORMER_INITS.get(name, name) if isinstance(name, str) else name


def _warn_of_former(init: str) -> None:
    """Warn, at the line outside charembed that gave the init, that version 0.3 refuses it."""
    level, frame = 1, sys._getframe()
    # "torch.": CharEncoder may be built by a module's __init__ or a factory of torch
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in ("charembed", "torch"):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    warnings.warn(
        f"init={init!r} is called init={init_name(init)!r} since version 0.2, and will be refused by "
        "0.3: use the new name.",
        DeprecationWarning,
        stacklevel=level,
    )


class CharEncoder(nn.Module):
    """Base of charembed's encoders: ids_U (U,) -> vectors (U, D), exactly zero without characters.

    encoder = LSTMEncoder(SpellingTable.from_bytes([b"the", b"he", None]), dim=768)
    encoder(torch.tensor([0, 2]))     # (2, 768); row 1 is zero, because token 2 has no characters

    A subclass defines four methods: `build` creates the parameters, `fill` sets their initial
    values, `prepare` computes index tensors (`token_chars`) from the spellings, and `read` maps ids
    to vectors. Its parameter `chars` (A, E) has one row for each character of the alphabet.

    Your own encoder need not be a subclass. `attach`, `save`, `load` and `update_spellings` use

        Class(spellings, dim, **config)   also on the meta device
        forward(ids_U) -> vectors (U, D)
        update_spellings(spellings)
        reset_parameters()
        .spellings, a SpellingTable       .config, the keyword arguments
        .deterministic = True             if vectors depend on ids and weights alone (no dropout)

    Register it under a name with `charembed.ENCODERS["name"] = Class`.

    Arguments:
        spellings: SpellingTable of the vocabulary.
        dim: D, width of the model's embedding.
        init: "zero" (attaching changes nothing until the first update), "normal" (characters N(0,
            1) and projection N(0, 1/H), to train from scratch), "parent" (values of the parent
            experiment: N(0, 0.02) and zero biases), or "pretrained" (LSTM only; weights that encode
            the spelling, see encoders/pretrained.py). "loud" and "spelled", the names of "normal"
            and "pretrained" in 0.1, are accepted until 0.3.
        seed: of a private generator. The global random state is neither used nor changed.
        sizes: sizes of the subclass, each an int >= 1 or a tuple of them.

    Raises AttachError if init is unknown, if the seed is no int, or if a size is not an int >= 1.
    """

    # The factor of `set_output_scale`. Saved parts and checkpoints hold this key since 0.1.
    loudness: Tensor | None
    zeroes: ClassVar[bool] = False  # True if `read` itself returns zeros without characters
    unit: ClassVar[str] = "codepoint"  # or "byte": the unit in which `attach` splits spellings
    other_inits: ClassVar[tuple[str, ...]] = ()  # inits of this class beside INIT_STD
    # True if a vector depends on its id and the weights alone, in training too. Then all forwards
    # of one step return the same bits for an id. A subclass with dropout keeps False.
    deterministic: ClassVar[bool] = False
    chars: Rows

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "read" in vars(cls):
            # a `read` of its own need not return the zeros that the parent's does
            cls.zeroes = vars(cls).get("zeroes", False)

    def __init__(
        self, spellings: SpellingTable, dim: int, init: str, seed: int, **sizes: Any
    ) -> None:
        super().__init__()
        if init_name(init) != init:
            _warn_of_former(init)
        init = init_name(init)
        if init not in (known := (*INIT_STD, *self.other_inits)):
            way = " (or init 'normal', then charembed.warm_up)" if init == PRETRAINED else ""
            raise AttachError(f"init is {init!r}; it must be one of {', '.join(known)}{way}.")
        for name, size in sizes.items():
            for value in size if isinstance(size, tuple) else (size,):
                check_int(name, value, 1)
        check_seed(seed)
        self.token_chars: Any
        self.projection: Any
        self.spellings, self.dim, self.init = spellings, dim, init
        self.seed, self.sizes = seed, sizes
        on_meta = torch.get_default_device().type == "meta"
        # On meta no values are drawn, so the global generator does not move.
        with torch.device("meta"):
            self.build(spellings.num_chars, dim, **sizes)
        self.prepare(spellings)
        self.register_buffer("loudness", None)
        self._filled = False
        if not on_meta:
            self.to_empty(device="cpu")  # calls _apply, which calls reset_parameters

    build: Callable[..., None]
    fill: Callable[[torch.Generator], None]
    prepare: Callable[[SpellingTable], None]
    read: Callable[[Tensor], Tensor]

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that, with spellings and dim, build this encoder again."""
        return {**self.sizes, "init": self.init, "seed": self.seed}

    @property
    def chars_std(self) -> float:
        """Standard deviation of the initial character embeddings."""
        return INIT_STD.get(self.init, (1.0, None))[0]

    @property
    def chars_seed(self) -> int:
        """Seed for embeddings of characters that are added after construction."""
        return self.seed

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the initial values of all parameters, a function of init and seed alone."""
        self.fill(torch.Generator().manual_seed(self.seed))
        self._filled = True

    def set_output_scale(self, factor: float) -> None:
        """Multiply all character vectors by a factor that is not trained.

        A projection with small weights would also give small vectors. But the steps of AdamW have
        the size of its learning rate, so a few of them would overwrite small weights.
        """
        check_number("factor", factor, 1.0)
        self.loudness = torch.tensor(factor, dtype=torch.float32).to(self.chars.weight)

    @property
    def output_scale(self) -> Tensor | None:
        """The factor that `set_output_scale` set; None if the vectors are not scaled."""
        return self.loudness

    def fill_projection(self, generator: torch.Generator) -> None:
        """Set the initial character embeddings and output projection for `init`."""
        std, projection = INIT_STD.get(self.init, (1.0, None))[1], self.projection
        normal_(self.chars.weight, self.chars_std, generator)
        normal_(
            projection.weight, projection.weight.shape[1] ** -0.5 if std is None else std, generator
        )
        projection.bias.zero_()

    @torch.no_grad()
    def update_spellings(self, spellings: SpellingTable) -> None:
        """Use other spellings with the same weights; only new characters get initial embeddings.

        The alphabet of `spellings` must begin with this encoder's alphabet, as `SpellingTable.over`
        returns it, or be the beginning of it. In the second case the other characters are dropped.
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
            # subtle: the Parameter object stays, so an optimizer that holds it is not left with a
            # tensor that the model no longer uses
            weight.data = rows
            weight.grad = None  # it has the old shape

    def forward(self, ids_U: Tensor) -> Tensor:
        """Return character vectors: ids_U (U,) -> (U, D), zero rows without characters."""
        if not self._filled or self.chars.weight.is_meta:
            self._fill_if_new()
        read_UD = self.read(ids_U)
        if self.loudness is not None:
            read_UD = read_UD * self.loudness
        return read_UD if self.zeroes else self.zeroed(read_UD, ids_U)

    def zeroed(self, vectors_UD: Tensor, ids_U: Tensor) -> Tensor:
        """Return the vectors with zero rows for tokens without characters."""
        # token_chars has one more token without characters; ids beyond the table are clamped to it
        lengths_V = self.token_chars.on(ids_U.device).lengths_V
        has_chars_U = lengths_V[ids_U.clamp(max=len(lengths_V) - 1)] > 0
        # not a product with the mask: 0 x NaN would be NaN
        return torch.where(has_chars_U[:, None], vectors_UD, 0)

    def _fill_if_new(self) -> None:
        """Set the initial values on first use if nothing else has set them."""
        parameters = list(self.parameters())
        if any(parameter.is_meta for parameter in parameters):
            raise on_meta(self)
        # a version above 0 shows that something wrote values; inference tensors have no version
        if not any(p._version for p in parameters if not p.is_inference()):
            self.fill_missing()
        self._filled = True

    @torch.no_grad()
    def fill_missing(self) -> None:
        """Set the initial values of the parameters that transformers' loader left without.

        from_pretrained creates a class that calls `attach` in its `__init__` on the meta device.
        It loads the parameters that the file has, and marks them. The others it allocates without
        values. Does nothing after the encoder got its values, or on the meta device.
        """
        parameters = list(self.parameters())
        if self._filled or any(parameter.is_meta for parameter in parameters):
            return
        loaded = [p for p in parameters if getattr(p, "_is_hf_initialized", False)]
        values = [parameter.clone() for parameter in loaded]
        if len(loaded) < len(parameters):
            self.reset_parameters()
        for parameter, value in zip(loaded, values, strict=True):
            parameter.copy_(value)
        self._filled = True

    @property
    def has_values(self) -> bool:
        """True if the encoder ever got initial or loaded values."""
        return self._filled

    def mark_filled(self) -> None:
        """Keep the present values: no initial values are set on first use."""
        self._filled = not any(parameter.is_meta for parameter in self.parameters())

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        """Initialize an encoder that leaves the meta device; values loaded later stay."""
        was_there = not any(parameter.is_meta for parameter in self.parameters())
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        if not was_there and not any(parameter.is_meta for parameter in self.parameters()):
            self.reset_parameters()
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        # Loaded values must not be overwritten on first use. On meta nothing is loaded, except if
        # the tensors of the state dict become the parameters.
        on_meta = any(parameter.is_meta for parameter in self.parameters())
        if not on_meta or args[2].get("assign_to_params_buffers"):
            self._filled = True
        super()._load_from_state_dict(*args)


class Rows(nn.Module):
    """A table of vectors (rows, columns) as a plain module.

    It is not an nn.Embedding: PEFT and the initialization of transformers select modules by class.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns, dtype=torch.float32))


class Affine(Rows):
    """x -> W x + b as a plain module.

    It is not an nn.Linear: LoRA on all linear layers, quantization and the initialization of
    transformers select modules by class.
    """

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__(rows, columns)
        self.bias = nn.Parameter(torch.empty(rows, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


def seeded_rows(symbols: Sequence[int], width: int, seed: int = 0) -> Tensor:
    """Return an (n, width) tensor of N(0, 1). A row depends on its symbol and the seed alone.

    seeded_rows([97, 98], 128)[1] == seeded_rows([98], 128)[0]     # in whatever order
    """
    rows = torch.empty(len(symbols), width, dtype=torch.float32, device="cpu")
    # a generator for each symbol, so a row does not depend on the symbols before it
    for row, symbol in zip(rows, symbols, strict=True):
        row.normal_(generator=torch.Generator().manual_seed(seed + 1 + symbol))
    return rows


@torch.no_grad()
def normal_(parameter: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Fill a parameter with N(0, std), drawn in float32 on the CPU: equal on all devices."""
    values = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
    return parameter.copy_(values.normal_(0, std, generator=generator))


@torch.no_grad()
def uniform_(parameter: Tensor, bound: float, generator: torch.Generator) -> Tensor:
    """Fill a parameter with U(-bound, bound), drawn in float32 on the CPU."""
    values = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
    return parameter.copy_(values.uniform_(-bound, bound, generator=generator))


@dataclass(frozen=True, eq=False)
class PaddedSpellings(DeviceTensors):
    """The first characters of each token as rows of equal length, for encoders without recurrence.

    Attributes:
        chars_VC: (V + 1, C) int32, indices into the alphabet, padded with 0. The last row is an
            empty dummy token.
        lengths_V: (V + 1,) int64, number of characters, at most C.
    """

    chars_VC: Tensor
    lengths_V: Tensor

    @classmethod
    def from_spellings(cls, spellings: SpellingTable, max_chars: int) -> PaddedSpellings:
        """Cut each token to its first max_chars characters and pad the rows."""
        with torch.device("cpu"):
            lengths_V = spellings.lengths_V.long().clamp(max=max_chars)
            places_C = torch.arange(max(1, int(lengths_V.max())))
            real_VC = places_C < lengths_V[:, None]
            chars_VC = torch.zeros(real_VC.shape, dtype=torch.int32)
            chars_VC[real_VC] = spellings.chars_S[(spellings.starts_V[:, None] + places_C)[real_VC]]
            pad = nn.functional.pad
            return cls(pad(chars_VC, (0, 0, 0, 1)), pad(lengths_V, (0, 1)))

    def of(self, ids_U: Tensor) -> tuple[Tensor, Tensor]:
        """Return chars_UC (U, C) and real_UC (U, C), True for characters and False for padding."""
        here = self.on(ids_U.device)
        ids_U = ids_U.clamp(max=len(here.lengths_V) - 1)
        chars_UC = here.chars_VC[ids_U]
        places_C = torch.arange(chars_UC.shape[1], device=ids_U.device)
        return chars_UC, places_C < here.lengths_V[ids_U][:, None]

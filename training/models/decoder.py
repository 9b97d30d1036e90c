"""A GPT of the nanoGPT family: the model that is trained from scratch.

It is the parent experiment's decoder at any size: pre-norm blocks, learned positions, a ReLU MLP of
4x width, and no bias in queries, keys and values.

Axes: B batch, T tokens per row, S tokens so far (cached and new), M positions of all rows without
padding, N kept positions, V vocabulary, D model width, E several times D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.errors import BadInput

from .chunked_loss import Head, cross_entropy
from .language_model import LanguageModel, Mask
from .packing import Kept, Places

KeyValues = tuple[Tensor, Tensor]  # of one block, each (B, heads, S, D / heads)
Cache = list[KeyValues]  # of all blocks


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Size of a decoder.

    Attributes:
        output: weight of the output layer: its own; "tokens", the token embedding's table; or
            "vectors", the vectors that the embedding returns, with its character vectors.
        init_std: weights start as N(0, init_std^2); GPT-2's is 0.02.
    """

    vocab_size: int
    context: int = 64
    n_layer: int = 3
    n_head: int = 4
    n_embd: int = 128
    dropout: float = 0.0
    output: str = "own"
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if self.n_embd % self.n_head:
            seen = f"n_embd is {self.n_embd}, which {self.n_head} heads do not divide"
            raise BadInput(f"{seen}: choose a multiple of n_head.")


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        # queries, keys and values in one product, as in nanoGPT
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x_BTD: Tensor, past: KeyValues | None) -> tuple[Tensor, KeyValues]:
        q_BTD, k_BTD, v_BTD = self.qkv(x_BTD).chunk(3, dim=2)
        y_BTD, present = self._attend(q_BTD, k_BTD, v_BTD, past)
        return self.proj(y_BTD), present

    def packed(self, x_MD: Tensor, real: Places, kept: Kept | None) -> Tensor:
        """The same for packed rows: (M, D) -> (M, D), or (N, D) for kept positions alone."""
        projected: Tensor
        if kept is None:
            q_BTD, k_BTD, v_BTD = real.spread(self.qkv(x_MD)).chunk(3, dim=2)
            projected = self.proj(real.gather(self._attend(q_BTD, k_BTD, v_BTD)[0]))
            return projected
        # every position has a key and a value, and only kept ones have a query
        sizes = [x_MD.shape[1], 2 * x_MD.shape[1]]
        weight_DD, others_ED = torch.split(self.qkv.weight, sizes)
        q_BTD = kept.places.spread(F.linear(kept.of(x_MD), weight_DD))
        k_BTD, v_BTD = real.spread(F.linear(x_MD, others_ED)).chunk(2, dim=2)
        projected = self.proj(kept.places.gather(self._attend(q_BTD, k_BTD, v_BTD)[0]))
        return projected

    def _attend(
        self, q_BTD: Tensor, k_BTD: Tensor, v_BTD: Tensor, past: KeyValues | None = None
    ) -> tuple[Tensor, KeyValues]:
        B, T, D = q_BTD.shape
        heads = B, T, self.n_head, D // self.n_head
        q, k, v = (part.view(heads).transpose(1, 2) for part in (q_BTD, k_BTD, v_BTD))
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        mask_TS, S = None, k.shape[2]
        # subtle: is_causal would align the first new token with the first cached one
        if past is not None and T > 1:
            mask_TS = torch.ones(T, S, dtype=torch.bool, device=k.device).tril(S - T)
        # the functional form does not know the module's mode
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask_TS, is_causal=past is None, dropout_p=dropout
        )
        return y.transpose(1, 2).reshape(B, T, D), (k, v)


class Block(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        D = config.n_embd
        self.ln_1, self.ln_2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.attn = Attention(config)
        self.mlp = nn.Sequential(
            nn.Linear(D, 4 * D), nn.ReLU(), nn.Linear(4 * D, D), nn.Dropout(config.dropout)
        )
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, past: KeyValues | None) -> tuple[Tensor, KeyValues]:
        attended_BTD, present = self.attn(self.ln_1(x_BTD), past)
        x_BTD = x_BTD + self.drop(attended_BTD)
        return x_BTD + self.mlp(self.ln_2(x_BTD)), present

    def packed(self, x_MD: Tensor, real: Places, kept: Kept | None = None) -> Tensor:
        """The same for packed rows: (M, D) -> (M, D), or (N, D) for kept positions alone."""
        attended, here = self.attn.packed(self.ln_1(x_MD), real, kept), real
        if kept is not None:
            x_MD, here = kept.of(x_MD), kept.places
        x_MD = x_MD + _dropped(self.drop, attended, here)
        *layers, drop = self.mlp
        h_MD = self.ln_2(x_MD)
        for layer in layers:
            h_MD = layer(h_MD)
        return x_MD + _dropped(drop, h_MD, here)


def _dropped(drop: nn.Module, x_MD: Tensor, here: Places) -> Tensor:
    """Dropout of packed rows; drawn for the padded block, so that the same units drop out there."""
    assert isinstance(drop, nn.Dropout)
    if not drop.training or drop.p == 0:
        return x_MD
    return here.gather(drop(here.spread(x_MD)))


class _Bias(nn.Module):
    """What is left of an output layer whose weight is computed: its bias (V,)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size))


class Decoder(LanguageModel):
    """ids_BT (B, T) -> logits (B, T, V), or (N, V) for the N positions where `keep_BT` is true.

    Without a cache, rows are read up to their last kept position, and the last block computes kept
    positions alone.

    Raises BadInput if the row, with the cache, is longer than the context.
    """

    embedding = "wte"

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)  # token embeddings
        self.wpe = nn.Embedding(config.context, config.n_embd)  # position embeddings
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head: Any = nn.Linear(config.n_embd, config.vocab_size)
        for module in self.modules():
            # as GPT-2 does; LayerNorm keeps torch's initial values
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=config.init_std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        # after the initial values, so that both keep the embedding's
        if config.output == "tokens":
            self.lm_head.weight = self.wte.weight
        elif config.output == "vectors":
            # No weight of its own: fold would otherwise keep the table without characters in it.
            self.lm_head = _Bias(config.vocab_size)

    def forward(
        self, ids_BT: Tensor, keep_BT: Mask = None, cache: Any = None, real_BS: Mask = None,
        targets_N: Tensor | None = None, base: LanguageModel | None = None,
    ) -> Tensor:  # fmt: skip
        assert real_BS is None, "the decoder does not support padding on the left"
        if base is not None:
            return self.divergence_from(base, ids_BT)
        x_ND, weight_VD = self._read(ids_BT, keep_BT, cache)
        if targets_N is not None:
            return cross_entropy(x_ND.flatten(0, -2), weight_VD, self.lm_head.bias, targets_N)
        return F.linear(x_ND, weight_VD, self.lm_head.bias)

    def output(self, ids_BT: Tensor) -> Head:
        x_BTD, weight_VD = self._read(ids_BT)
        return Head(x_BTD.flatten(0, 1), weight_VD, self.lm_head.bias)

    def _read(
        self, ids_BT: Tensor, keep_BT: Mask = None, cache: Any = None
    ) -> tuple[Tensor, Tensor]:
        """The vectors that the output layer reads, and its weight."""
        # the length of the cached keys of the first block
        seen = cache[0][0].shape[2] if cache else 0
        length = seen + ids_BT.shape[1]
        if length > self.wpe.num_embeddings:
            raise BadInput(
                f"{length} tokens do not fit the context of {self.wpe.num_embeddings}: shorten the "
                "prompt or the answer, or train with a longer context."
            )
        vectors_VD = self._vocabulary(ids_BT.device)
        if keep_BT is not None and cache is None:
            x_ND = self._kept(ids_BT, keep_BT, vectors_VD)
        else:
            x_BTD = self._every(ids_BT, seen, cache, vectors_VD)
            x_ND = x_BTD if keep_BT is None else x_BTD[keep_BT]
        x_ND = self.ln_f(x_ND)
        weight_VD: Tensor = self.lm_head.weight if vectors_VD is None else vectors_VD
        return x_ND, weight_VD

    def _vocabulary(self, device: torch.device) -> Tensor | None:
        """The vectors of all tokens, (V, D), if the output layer needs them."""
        if self.config.output != "vectors":
            return None
        vectors_VD: Tensor = self.wte(torch.arange(self.config.vocab_size, device=device))
        return vectors_VD

    def _tokens(self, ids: Tensor, vectors_VD: Tensor | None) -> Tensor:
        """The vectors of some tokens, (..., D); they are not computed a second time."""
        # words without a row, in training alone, are no part of the vocabulary
        beyond = self.training and getattr(self.wte, "num_words", 0) > 0
        if vectors_VD is not None and not beyond:
            return F.embedding(ids, vectors_VD)
        tokens: Tensor = self.wte(ids)
        return tokens

    def _every(self, ids_BT: Tensor, seen: int, cache: Any, vectors_VD: Tensor | None) -> Tensor:
        """The vectors of all positions, (B, T, D), after `seen` cached ones."""
        places_T = torch.arange(seen, seen + ids_BT.shape[1], device=ids_BT.device)
        x_BTD: Tensor = self._tokens(ids_BT, vectors_VD) + self.wpe(places_T)
        presents: Cache = []
        for number, block in enumerate(self.blocks):
            x_BTD, present = block(x_BTD, cache[number] if cache else None)
            presents.append(present)
        if cache is not None:
            cache[:] = presents
        return x_BTD

    def _kept(self, ids_BT: Tensor, keep_BT: Tensor, vectors_VD: Tensor | None) -> Tensor:
        """The vectors of kept positions alone, (N, D); nothing is computed for padding."""
        real, kept = Kept.of_rows(keep_BT)
        places_M = real.flat_M % real.columns
        x_MD = self._tokens(ids_BT.flatten()[real.flat_M], vectors_VD) + self.wpe(places_M)
        blocks: list[Any] = list(self.blocks)
        for block in blocks[:-1]:
            x_MD = block.packed(x_MD, real)
        vectors_ND: Tensor = blocks[-1].packed(x_MD, real, kept)
        return vectors_ND

    @property
    def context(self) -> int:
        return self.wpe.num_embeddings

    def new_cache(self) -> Cache:
        return []

    def drop_rows(self, cache: Cache, kept: Tensor) -> None:
        # in place: the caller holds this list
        cache[:] = [(k[kept], v[kept]) for k, v in cache]

    def repeat_row(self, cache: Cache, num_rows: int) -> None:
        each = num_rows, -1, -1, -1
        cache[:] = [(k.expand(each), v.expand(each)) for k, v in cache]

    def inner_matrices(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.blocks.parameters() if parameter.dim() == 2]

    @torch.no_grad()
    def extend_context(self, context: int, generator: torch.Generator) -> None:
        """Allow longer rows: add positions with fresh initial values behind the learned ones."""
        old = self.wpe.weight
        # a shorter row needs no new positions
        if context <= len(old):
            return
        self.wpe = nn.Embedding(context, self.config.n_embd).to(old.device)
        self.wpe.weight.normal_(std=self.config.init_std, generator=generator)
        self.wpe.weight[: len(old)] = old

"""The transformer encoder: a small transformer over a token's characters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charembed.encoder import Affine, CharEncoder, PaddedSpellings, Rows, normal_, uniform_
from charembed.errors import AttachError
from charembed.spelling import SpellingTable


class _Block(nn.Module):
    """Pre-norm attention over a token's characters, then an MLP of width 4 E.

    The layer norms have no parameters. Shapes: x_UCE (U, C, E) -> (U, C, E).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = Affine(width, 3 * width), Affine(width, width)
        self.up, self.down = Affine(width, 4 * width), Affine(4 * width, width)

    def forward(self, x_UCE: Tensor, real_UC: Tensor, heads: int) -> Tensor:
        width = x_UCE.shape[2]
        norm = nn.functional.layer_norm
        parts = self.qkv(norm(x_UCE, (width,))).chunk(3, dim=2)
        q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in parts)
        # A token without characters attends to its padding: a fully masked row would give NaN.
        mask = real_UC[:, None, None, :] | ~real_UC.any(1)[:, None, None, None]
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x_UCE = x_UCE + self.out(y.transpose(1, 2).flatten(2))
        moved: Tensor = self.down(nn.functional.gelu(self.up(norm(x_UCE, (width,)))))
        return x_UCE + moved


class TransformerEncoder(CharEncoder):
    """Run pre-norm transformer blocks over the characters, take the mean, and project it.

    x_1..n = blocks(E[char_t] + P[t]);   vector = W mean(x_1..n) + b     (Vaswani et al. 2017)

    A E + C E + layers * (12 E E + 9 E) + D (E + 1) parameters.
    Cost: about C (12 E E + 2 C E) products per token and layer, C at most `max_chars`.

    Arguments: as in `CharEncoder`, and
        char_dim: E, width of a character embedding, a multiple of `heads`. Default: 64.
        heads: number of attention heads. Default: 4.
        layers: number of blocks. Default: 1.
        max_chars: number of characters of a token that are used; further ones are ignored.
            Default: 20.

    Raises AttachError if char_dim is not a multiple of heads.
    """

    deterministic = True

    def __init__(
        self,
        spellings: SpellingTable,
        dim: int,
        *,
        char_dim: int = 64,
        heads: int = 4,
        layers: int = 1,
        max_chars: int = 20,
        init: str = "zero",
        seed: int = 0,
    ) -> None:
        super().__init__(
            spellings,
            dim,
            init,
            seed,
            char_dim=char_dim,
            heads=heads,
            layers=layers,
            max_chars=max_chars,
        )

    def build(
        self, num_chars: int, dim: int, char_dim: int, heads: int, layers: int, max_chars: int
    ) -> None:
        if char_dim % heads:
            raise AttachError(
                f"char_dim is {char_dim} and heads is {heads}; char_dim must be a multiple of "
                "heads."
            )
        # `places` are position embeddings, one row for each of the first max_chars positions
        self.chars, self.places = Rows(num_chars, char_dim), Rows(max_chars, char_dim)
        self.blocks = nn.ModuleList(_Block(char_dim) for _ in range(layers))
        self.projection = Affine(char_dim, dim)

    def fill(self, generator: torch.Generator) -> None:
        normal_(self.places.weight, self.chars_std, generator)
        for part in self.blocks.modules():
            if isinstance(part, Affine):
                uniform_(part.weight, part.weight.shape[1] ** -0.5, generator)
                part.bias.zero_()
        self.fill_projection(generator)

    def prepare(self, spellings: SpellingTable) -> None:
        self.token_chars = PaddedSpellings.from_spellings(spellings, self.sizes["max_chars"])

    def read(self, ids_U: Tensor) -> Tensor:
        chars_UC, real_UC = self.token_chars.of(ids_U)
        x_UCE = (
            nn.functional.embedding(chars_UC, self.chars.weight)
            + self.places.weight[: chars_UC.shape[1]]
        )
        for block in self.blocks:
            x_UCE = block(x_UCE, real_UC, self.sizes["heads"])
        mean_UE = (x_UCE * real_UC[..., None]).sum(1) / real_UC.sum(1, keepdim=True).clamp(min=1)
        char_UD: Tensor = self.projection(mean_UE)
        return char_UD

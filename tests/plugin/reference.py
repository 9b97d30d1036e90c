"""Slow reference implementations. Tests and benchmarks compare the fast code with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from charembed import (
    BagEncoder,
    BeeEncoder,
    CharEncoder,
    CNNEncoder,
    GRUEncoder,
    LSTMEncoder,
    TransformerEncoder,
)


class PackedTwin(nn.Module):
    """The parent's design: at every position, a packed LSTM (or GRU) over that token's characters.

    ids_BT (B, T) -> char_BTD (B, T, D). It shares its parameters with the encoder it is compared
    with.
    """

    def __init__(self, encoder: LSTMEncoder | GRUEncoder) -> None:
        super().__init__()
        self.chars, self.projection, self.table = (
            encoder.chars,
            encoder.projection,
            encoder.spellings,
        )
        self.cell, self.kind = (
            (encoder.gru, nn.GRU) if isinstance(encoder, GRUEncoder) else (encoder.lstm, nn.LSTM)
        )

    def forward(self, ids_BT: Tensor) -> Tensor:
        ids = ids_BT.flatten()
        lengths = self.table.lengths_V[ids].long()
        has_chars = lengths > 0
        chars = nn.functional.embedding(self.table.chars_VC[ids[has_chars]], self.chars.weight)
        packed = pack_padded_sequence(
            chars, lengths[has_chars], batch_first=True, enforce_sorted=False
        )
        hidden_size, input_size = self.cell.weight_hh_l0.shape[1], self.cell.weight_ih_l0.shape[1]
        layer = self.kind(input_size, hidden_size, batch_first=True, device="meta")
        _, last = torch.func.functional_call(layer, dict(self.cell.named_parameters()), (packed,))
        vectors = self.projection((last[0] if self.kind is nn.LSTM else last)[0])
        out = vectors.new_zeros(len(ids), vectors.shape[1]).masked_scatter(
            has_chars[:, None], vectors
        )
        return out.view(*ids_BT.shape, -1)


def cnn(encoder: CNNEncoder, x_CE: Tensor) -> Tensor:
    """Compute one filter, one position and one character at a time."""
    y = []
    for width, part in zip(encoder.sizes["widths"], encoder.filters, strict=True):
        for filter_EW, bias in zip(part.weight.unflatten(1, (-1, width)), part.bias, strict=True):
            responses = []
            for start in range(len(x_CE)):
                window = range(start, min(start + width, len(x_CE)))
                total = sum(filter_EW[:, place - start] @ x_CE[place] for place in window)
                responses.append(torch.tanh(total + bias))
            y.append(torch.stack(responses).max())
    y_F = torch.stack(y)
    t_F = torch.sigmoid(affine(encoder.gate, y_F))
    return affine(
        encoder.projection, t_F * torch.relu(affine(encoder.transform, y_F)) + (1 - t_F) * y_F
    )


def bag(encoder: BagEncoder, x_CE: Tensor) -> Tensor:
    return affine(encoder.projection, torch.stack([*x_CE]).sum(0))


def bee(encoder: BeeEncoder, x_CD: Tensor) -> Tensor:
    """Rotate each pair of columns by its position, as a complex number."""
    D, turned = encoder.dim, []
    for place, x_D in enumerate(x_CD):
        pairs = torch.view_as_complex(x_D.unflatten(0, (-1, 2)))
        turns = [
            complex(math.cos(angle), math.sin(angle))
            for angle in (place * 10_000 ** (-2 * i / D) for i in range(D // 2))
        ]
        turned.append(torch.view_as_real(pairs * torch.tensor(turns, dtype=pairs.dtype)).flatten())
    return torch.stack(turned).sum(0) / len(turned)


def transformer(encoder: TransformerEncoder, x_CE: Tensor) -> Tensor:
    """Compute attention for one head, one query and one key at a time."""
    heads = encoder.sizes["heads"]
    rows = [x_E + place_E for x_E, place_E in zip(x_CE, encoder.places.weight, strict=False)]
    for block in encoder.blocks:
        q, k, v = zip(*(affine(block.qkv, normed(x_E)).chunk(3) for x_E in rows), strict=True)
        seen = []
        for here in range(len(rows)):
            found = []
            for q_h, *others in zip(
                q[here].chunk(heads), *([part.chunk(heads) for part in (*k, *v)]), strict=True
            ):
                k_h, v_h = others[: len(rows)], others[len(rows) :]
                scores = torch.stack([q_h @ other / math.sqrt(len(q_h)) for other in k_h]).exp()
                found.append(
                    sum(
                        share * other
                        for share, other in zip(scores / scores.sum(), v_h, strict=True)
                    )
                )
            seen.append(affine(block.out, torch.cat(found)))
        rows = [x_E + seen_E for x_E, seen_E in zip(rows, seen, strict=True)]
        rows = [
            x_E + affine(block.down, nn.functional.gelu(affine(block.up, normed(x_E))))
            for x_E in rows
        ]
    return affine(encoder.projection, torch.stack(rows).mean(0))


def affine(part: Any, x: Tensor) -> Tensor:
    return part.weight @ x + part.bias


def normed(x_E: Tensor) -> Tensor:
    return (x_E - x_E.mean()) / torch.sqrt(x_E.var(correction=0) + 1e-5)


TWINS: dict[type[CharEncoder], Callable[[Any, Tensor], Tensor]] = {
    CNNEncoder: cnn,
    BagEncoder: bag,
    BeeEncoder: bee,
    TransformerEncoder: transformer,
}


def vectors_one_by_one(encoder: CharEncoder, ids: Sequence[int]) -> Tensor:
    """Return an encoder's vectors (U, D), one token at a time, by the docstring's formula."""
    if isinstance(encoder, LSTMEncoder | GRUEncoder):
        return PackedTwin(encoder)(torch.tensor(ids))
    twin, table, vectors = TWINS[type(encoder)], encoder.spellings, []
    for token in ids:
        start = int(table.starts_V[token])
        chars = table.chars_S[
            start : start + min(int(table.lengths_V[token]), encoder.sizes["max_chars"])
        ]
        vectors.append(
            twin(encoder, encoder.chars.weight[chars]) if len(chars) else torch.zeros(encoder.dim)
        )
    return torch.stack(vectors)


@torch.no_grad()
def generate_one_by_one(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop: Sequence[int] = (),
) -> list[list[int]]:
    """Generate greedily without batches and without a cache."""
    model.eval()
    answers = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(max_new_tokens):
            token = int(model(torch.tensor([ids]))[0, -1].argmax())
            if token in stop:
                break
            ids.append(token)
        answers.append(ids[len(prompt) :])
    return answers

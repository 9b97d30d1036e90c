"""Slow, obvious twins of the fast code. Tests compare with them, benchmarks measure against them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from charembed import LSTMEncoder


class PackedTwin(nn.Module):
    """The parent's design: at every position of every row, a packed LSTM over that token's characters.

    ids_BT (B, T) -> spelled_BTD (B, T, D); shares its parameters with the encoder that it is the twin of.
    """

    def __init__(self, encoder: LSTMEncoder) -> None:
        super().__init__()
        self.chars, self.lstm, self.projection, self.table = encoder.chars, encoder.lstm, encoder.projection, encoder.spellings

    def forward(self, ids_BT: Tensor) -> Tensor:
        ids = ids_BT.flatten()
        lengths = self.table.lengths_V[ids].long()
        spelled = lengths > 0
        letters = nn.functional.embedding(self.table.chars_VC[ids[spelled]], self.chars.weight)
        packed = pack_padded_sequence(letters, lengths[spelled], batch_first=True, enforce_sorted=False)
        gates, input_size = self.lstm.weight_ih_l0.shape
        lstm = nn.LSTM(input_size, gates // 4, batch_first=True, device="meta")
        _, (last, _) = torch.func.functional_call(lstm, dict(self.lstm.named_parameters()), (packed,))
        vectors = self.projection(last[0])
        out = vectors.new_zeros(len(ids), vectors.shape[1]).masked_scatter(spelled[:, None], vectors)
        return out.view(*ids_BT.shape, -1)


@torch.no_grad()
def generate_one_by_one(model: nn.Module, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, stop: Sequence[int] = ()) -> list[list[int]]:
    """Greedy answers without batches and without a cache."""
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

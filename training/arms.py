"""The arms of a comparison: one decoder, different input embeddings.

Axes: U distinct tokens, K width of the extra table, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import charembed
from charembed import LSTMEncoder, SpellingTable

from .config import CompareConfig
from .decoder import Decoder, DecoderConfig


@dataclass(frozen=True)
class Arm:
    colour: str
    sentence: str


ARMS = {
    "plain": Arm("#8a8f98", "the model as it is"),
    "matched": Arm("#d1603d", "as many extra parameters as the letters have, in a second table, and no letters"),
    "shuffled": Arm("#b59a2d", "the letters of other tokens"),
    "lstm": Arm("#1f6f8b", "the letters of each token, read by an LSTM"),
}


class ExtraTable(nn.Module):
    """The parent's control: the character path's parameters spent on a second table, ids_U (U,) -> (U, D).

    `num_parameters` sets the width K so that table and projection together come as close to it as whole rows allow.
    """

    def __init__(self, num_tokens: int, dim: int, num_parameters: int, init: str, seed: int) -> None:
        super().__init__()
        width = max(1, round((num_parameters - dim) / (num_tokens + dim)))
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Embedding(num_tokens, width, device="meta").to_empty(device="cpu")
        self.projection = nn.Linear(width, dim, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            self.table.weight.normal_(0, 0.02 if init == "parent" else 1, generator=generator)
            self.projection.weight.normal_(0, {"zero": 0.0, "loud": width**-0.5, "parent": 0.02}[init], generator=generator)
            self.projection.bias.zero_()

    def forward(self, ids_U: Tensor) -> Tensor:
        spelled_UD: Tensor = self.projection(self.table(ids_U))
        return spelled_UD


def build_arm(config: CompareConfig, arm: str, seed: int, table: SpellingTable) -> Decoder:
    """The decoder with the arm's input embedding. The same seed gives every arm the same decoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = Decoder(
            DecoderConfig(
                vocab_size=config.vocab_size,
                context=config.context,
                n_layer=config.layers,
                n_head=config.heads,
                n_embd=config.width,
                dropout=config.dropout,
                tie=config.tie,
            )
        )
    if arm == "plain":
        return decoder
    spelled = table.shuffled(torch.Generator().manual_seed(seed)) if arm == "shuffled" else table
    encoder: nn.Module = LSTMEncoder(spelled, config.width, char_dim=config.char_dim, hidden_size=config.char_hidden, init=config.init, seed=seed)
    if arm == "matched":
        encoder = ExtraTable(config.vocab_size, config.width, num_parameters(encoder), config.init, seed)
    return charembed.attach(decoder, table, module="wte", encoder=encoder)


def num_parameters(model: nn.Module) -> int:
    """Trainable parameters, each counted once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def assert_paired(models: Mapping[str, nn.Module]) -> None:
    """The arms' law: every parameter of the decoder begins with the same value in all of them."""
    (first, reference), *others = models.items()
    shared = {name: value for name, value in reference.named_parameters() if ".encoder." not in name}
    for name, model in others:
        values = {key: value for key, value in model.named_parameters() if ".encoder." not in key}
        assert values.keys() == shared.keys(), f"{first} and {name} have different decoders"
        for key, value in values.items():
            assert torch.equal(value, shared[key]), f"{key} begins differently in {first} and {name}"

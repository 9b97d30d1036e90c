"""Letters that can be read from the first step: an LSTM that was taught to spell, shipped with the package.

It was trained once on the spellings of published vocabularies (`python -m training.ship.speller`), with
a fixed vector for each character, a function of its code point alone: so it reads the tokens of a tokenizer
that it never saw, and characters too. A linear map of its states, here centred and of variance one, says the
letter at each of the first and of the last 12 places.

Axes: E character width, H LSTM width, D model width.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from charembed.encoder import CharEncoder, normal_, seeded_rows
from charembed.errors import AttachError

PATH = Path(__file__).with_name("pretrained.safetensors")
CHAR_DIM, HIDDEN_SIZE, CHARS_SEED = 128, 256, 0
STATES = "states"  # the linear map from the LSTM's states to centred ones of variance one


def check_sizes(char_dim: int, hidden_size: int) -> None:
    if (char_dim, hidden_size) != (CHAR_DIM, HIDDEN_SIZE):
        raise AttachError(
            f"init 'pretrained' has char_dim={CHAR_DIM} and hidden_size={HIDDEN_SIZE}, not {char_dim} and "
            f"{hidden_size}: leave the sizes out, or attach with init='normal' and call charembed.warm_up."
        )


@cache
def tensors() -> dict[str, Tensor]:
    """What the file holds, in half precision: 0.9 MB."""
    found: dict[str, Tensor] = safetensors.load_file(PATH, device="cpu")
    return found


@torch.no_grad()
def fill(encoder: CharEncoder, recurrent: nn.Module, generator: torch.Generator) -> None:
    """Give an LSTMEncoder what was learnt, and a random projection N(0, 1/H) behind it."""
    learnt = {name: tensor.float() for name, tensor in tensors().items()}
    encoder.chars.weight.copy_(seeded_rows(encoder.spellings.alphabet, CHAR_DIM, CHARS_SEED))
    for name, parameter in recurrent.named_parameters():
        parameter.copy_(learnt[name])
    random_DH = normal_(
        torch.empty(encoder.dim, HIDDEN_SIZE, device="cpu"), HIDDEN_SIZE**-0.5, generator
    )
    encoder.projection.weight.copy_(random_DH @ learnt[f"{STATES}.weight"])
    encoder.projection.bias.copy_(random_DH @ learnt[f"{STATES}.bias"])

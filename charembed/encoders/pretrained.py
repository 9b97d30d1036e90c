"""The pretrained LSTM of init "pretrained": its states encode the spelling. Shipped in the package.

`python -m training.ship.speller` trained it once on the spellings of published vocabularies. The
embedding of a character is fixed, a function of its code point alone, so the LSTM also works on
other tokenizers and on characters that it was not trained on. A linear map of its states predicts
the character at each of the first 12 and the last 12 positions. The file also holds the map to
centred states of variance one.

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
STATES = "states"  # key of the linear map from the LSTM's states to centred ones of variance one


def check_sizes(char_dim: int, hidden_size: int) -> None:
    """Raise AttachError if the sizes are not those of the pretrained LSTM."""
    if (char_dim, hidden_size) != (CHAR_DIM, HIDDEN_SIZE):
        raise AttachError(
            f"char_dim is {char_dim} and hidden_size is {hidden_size}, but init 'pretrained' has "
            f"char_dim={CHAR_DIM} and hidden_size={HIDDEN_SIZE}. Leave the sizes out, or attach "
            "with init='normal' and call charembed.warm_up."
        )


@cache
def tensors() -> dict[str, Tensor]:
    """Load the tensors of the file, in half precision (0.9 MB). They are kept in memory."""
    found: dict[str, Tensor] = safetensors.load_file(PATH, device="cpu")
    return found


@torch.no_grad()
def fill(encoder: CharEncoder, recurrent: nn.Module, generator: torch.Generator) -> None:
    """Copy the pretrained weights into an encoder and draw its projection from N(0, 1/H).

    Arguments:
        encoder: a CharEncoder with `chars` (A, 128) and a projection from 256 to D.
        recurrent: its module with the LSTM's parameters.
        generator: random generator for the projection.
    """
    learnt = {name: tensor.float() for name, tensor in tensors().items()}
    encoder.chars.weight.copy_(seeded_rows(encoder.spellings.alphabet, CHAR_DIM, CHARS_SEED))
    for name, parameter in recurrent.named_parameters():
        parameter.copy_(learnt[name])
    random_DH = normal_(
        torch.empty(encoder.dim, HIDDEN_SIZE, device="cpu"), HIDDEN_SIZE**-0.5, generator
    )
    # two linear maps in a row, written as one: normalize the states, then project them
    encoder.projection.weight.copy_(random_DH @ learnt[f"{STATES}.weight"])
    encoder.projection.bias.copy_(random_DH @ learnt[f"{STATES}.bias"])

"""Train the LSTM of `attach(..., init="pretrained")`: charembed/encoders/pretrained.safetensors.

    pip install -e ".[lab,bench]"
    python -m training.ship.speller --out pretrained.safetensors         # six minutes on one core

The LSTM learns to spell the tokens of GPT-2, cl100k and o200k, and random words. The vector of a
character is a fixed function of its code point and is not trained. At the end the program prints
the share of letters that linear heads predict correctly from the vectors of each vocabulary, and of
the vocabulary of another model (--model), which was not in training.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from charembed import LSTMEncoder, SpellingTable
from charembed.encoder import seeded_rows
from charembed.encoders.pretrained import CHAR_DIM, CHARS_SEED, HIDDEN_SIZE, STATES
from charembed.files import write_atomically
from charembed.scale import moments
from charembed.spelling_loss import SpellingHeads, ids_with_characters
from charembed.tokenizers import token_bytes
from charembed.warm_up import teach
from synthetic_tasks import stream
from training.data.encodings import published_encoding
from training.data.tokenizers import HuggingFaceTokenizer
from training.errors import exit_status
from training.flags import Parser, check_numbers
from training.train.loss import letters_read

_LONGEST = 64  # bytes; longer tokens are runs of spaces, which would only cost time
_RANDOM_WORDS = 60_000
# Shares of the tokens in a step; "o200k" also contains cl100k.
_SHARES = {"gpt2": 0.5, "o200k": 0.3, "random": 0.2}


def vocabularies(cache: Path) -> dict[str, list[bytes]]:
    """Return the spellings of the training, by list; none is in two lists."""
    names = ("gpt2", "cl100k_base", "o200k_base")
    read = {name: token_bytes(published_encoding(name, cache)) for name in names}
    kept = {name: {s for s in found if s and len(s) <= _LONGEST} for name, found in read.items()}
    # Words of random letters: vocabularies alone teach the spellings of frequent words.
    rng = stream("random words")
    words = {
        rng.choice(("", " ")) + "".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 12)))
        for _ in range(_RANDOM_WORDS)
    }
    others = (kept["cl100k_base"] | kept["o200k_base"]) - kept["gpt2"]
    return {
        "gpt2": sorted(kept["gpt2"]),
        "o200k": sorted(others),
        "random": sorted({word.encode() for word in words} - others - kept["gpt2"]),
    }


def _drawn(known: dict[str, list[bytes]], tokens: int) -> Tensor:
    """Return ids of spellings, drawn so that each list has its share of `tokens`.

    The ids count through all lists, one after the other.
    """
    starts, ids = 0, []
    for name, spellings in known.items():
        own = torch.arange(starts, starts + len(spellings))
        ids.append(
            own[
                torch.randint(
                    len(own), (round(_SHARES[name] * tokens),), generator=_generator(name)
                )
            ]
        )
        starts += len(spellings)
    return torch.cat(ids)


def _generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(stream("universal encoder", name).getrandbits(63))


def _new_encoder(spellings: SpellingTable) -> LSTMEncoder:
    encoder = LSTMEncoder(
        spellings, HIDDEN_SIZE, char_dim=CHAR_DIM, hidden_size=HIDDEN_SIZE, init="normal"
    )
    with torch.no_grad():
        encoder.chars.weight.copy_(seeded_rows(spellings.alphabet, CHAR_DIM, CHARS_SEED))
    # Fixed vectors also exist for characters that were not in training.
    encoder.chars.weight.requires_grad_(False)
    return encoder


def _state_tensors(encoder: LSTMEncoder) -> dict[str, Tensor]:
    """Return the tensors to save: the LSTM and a projection to vectors of mean 0, variance 1."""
    mean_H, std = moments(encoder, ids_with_characters(encoder.spellings))
    projection = encoder.projection
    tensors = {name: parameter for name, parameter in encoder.recurrent.named_parameters()}
    # Dividing here spares the encoder a normalization at run time.
    tensors[f"{STATES}.weight"] = projection.weight / std
    tensors[f"{STATES}.bias"] = (projection.bias - mean_H.float()) / std
    return {name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}


def _report(
    name: str, encoder: LSTMEncoder, heads: SpellingHeads, spellings: SpellingTable
) -> None:
    """Print how well another vocabulary is spelled with the same weights."""
    other = LSTMEncoder(
        spellings,
        encoder.dim,
        char_dim=CHAR_DIM,
        hidden_size=encoder.sizes["hidden_size"],
        init="normal",
    )
    weights = encoder.state_dict()
    weights["chars.weight"] = seeded_rows(spellings.alphabet, CHAR_DIM, CHARS_SEED)
    other.load_state_dict(weights)
    reads = SpellingHeads(spellings, encoder.dim, 0)
    reads.heads.load_state_dict(heads.heads.state_dict())
    letters, whole = letters_read(other, reads, ids_with_characters(spellings))
    print(f"{name}: {letters:.4f} of the letters, {whole:.4f} of the whole tokens are correct")


def _program(argv: Sequence[str] | None) -> int:
    parser = Parser("python -m training.ship.speller", __doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument(
        "--model", help="folder or hub name of a model whose tokens are spelled at the end"
    )
    options = parser.parse_args(argv)
    check_numbers(options, steps=(1, None))
    torch.set_num_threads(1)  # more threads would change the last digits
    known = vocabularies(options.cache)
    spellings = SpellingTable.from_bytes(
        [spelling for members in known.values() for spelling in members]
    )
    encoder = _new_encoder(spellings)
    heads = SpellingHeads(spellings, HIDDEN_SIZE, 0)
    with tqdm(total=options.steps, disable=None) as bar:

        def show(step: int, steps: int, loss: float) -> None:
            bar.update()
            bar.set_postfix_str(f"{loss:.3f} nats a letter", refresh=False)
            if step % 200 == 0:
                bar.write(f"step {step}: {loss:.4f} nats a letter", file=sys.stdout)

        teach(
            encoder,
            heads,
            steps=options.steps,
            tokens=512,
            lr=3e-3,
            seed=0,
            progress=show,
            ids_L=_drawn(known, 512 * options.steps),
        )
    write_atomically(options.out, save(_state_tensors(encoder)))
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB")
    for name, members in known.items():
        _report(name, encoder, heads, SpellingTable.from_bytes(members))
    if options.model:
        tokenizer = HuggingFaceTokenizer.load(options.model)
        read = tokenizer.spellings
        _report("its tokens", encoder, heads, SpellingTable.from_bytes(read))
        learnt = {spelling for members in known.values() for spelling in members}
        new = [spelling for spelling in read if spelling and spelling not in learnt]
        _report(
            f"{len(new)} of them that were not in training",
            encoder,
            heads,
            SpellingTable.from_bytes(new),
        )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(lambda: _program(argv))


if __name__ == "__main__":
    sys.exit(main())

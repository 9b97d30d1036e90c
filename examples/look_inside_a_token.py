"""Print the path of a text through the model's input: ids, bytes, characters, vectors, shapes.

    python -m examples.look_inside_a_token "strawberries are naïve 🍓"

It trains the vocabulary of the quick preset once (seconds) and keeps it in the cache.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from charembed import CharEmbedding, LSTMEncoder, SpellingTable
from training.config.presets import PRESETS, preset
from training.data.corpus import load_corpus
from training.data.encodings import load_encoding
from training.errors import exit_status
from training.flags import Parser


def _run(argv: Sequence[str] | None) -> int:
    parser = Parser("python -m examples.look_inside_a_token", __doc__)
    parser.add_argument("text", nargs="?", default="strawberries are naïve 🍓")
    parser.add_argument(
        "--preset", default="quick", choices=PRESETS, help="the preset of the vocabulary"
    )
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args(argv)
    if not options.text:
        parser.error("the text is empty; it must have at least one character")
    config, console = preset(options.preset), Console()
    data = config.data
    encoding = load_encoding(
        load_corpus(data.corpus, data.alphabet).train, data.vocab_size, data.alphabet, options.cache
    )
    spellings = SpellingTable.from_tokenizer(encoding)
    embedding = CharEmbedding(
        torch.nn.Embedding(data.vocab_size, config.model.width),
        LSTMEncoder(spellings, config.model.width, init="normal"),
    )

    ids = encoding.encode_ordinary(options.text)
    ids_BT = torch.tensor([ids])
    # The encoder is slow, so the embedding runs it once for each distinct token.
    ids_U, which_BT = torch.unique(ids_BT, return_inverse=True)
    char_UD = embedding.encoder(ids_U)
    table = Table(title=escape(repr(options.text)))
    for heading in ("id", "bytes", "characters", "length", "‖token‖", "‖encoder‖"):
        table.add_column(heading, justify="left" if heading in ("bytes", "characters") else "right")
    for place, token_id in enumerate(ids):
        table.add_row(
            str(token_id),
            escape(repr(encoding.decode_single_token_bytes(token_id))),
            escape(" ".join(map(repr, spellings.spell(token_id)))),
            str(int(spellings.lengths_V[token_id])),
            f"{embedding.weight[token_id].norm():.2f}",
            f"{char_UD[which_BT[0, place]].norm():.2f}",
        )
    console.print(table)
    for name, what, tensor in (
        ("ids_BT", "the text as tokens", ids_BT),
        ("ids_U", "the distinct tokens: the encoder reads each of them once", ids_U),
        ("chars_UC", "their characters, padded", spellings.chars_VC[ids_U]),
        ("char_UD", "the LSTM's last states, projected", char_UD),
        ("char_BTD", "gathered back to every position", char_UD[which_BT]),
        (
            "embedded_BTD",
            "token + character vector: the decoder's input",
            embedding.train()(ids_BT),
        ),
    ):
        console.print(f"{name:12} {tuple(tensor.shape)!s:16} {what}", highlight=False)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 for bad input."""
    return exit_status(lambda: _run(argv))


if __name__ == "__main__":
    sys.exit(main())

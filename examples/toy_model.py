"""Save a toy GPT-2 with random weights and a BPE of 600 tokens.

    python -m examples.toy_model base

With it, the guides in docs/ run without a download.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from synthetic_tasks.samples import SAMPLE_WORDS

# Repeated, so that "strawberry" and its parts become tokens before the other words do.
BERRIES = ["the straw berry and the strawberry by the blue berry and the black berry"] * 9


def save_toy_model(folder: str | Path) -> None:
    """Write the model and its tokenizer into a folder that `from_pretrained` opens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()  # without it, answers would read "Ġa Ġn"
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        BERRIES + [f"the {word}" for word in SAMPLE_WORDS],
        trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer), n_layer=2, n_head=2, n_embd=64,
        bos_token_id=end, eos_token_id=end,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)


if __name__ == "__main__":
    save_toy_model(sys.argv[1])

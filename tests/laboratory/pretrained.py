"""Tiny models with random weights and their own tokenizer, saved as pretrained models are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY, ROWS = 600, 608  # a table that is larger than its vocabulary, as many are
SIZES = {"vocab_size": ROWS, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": None}
LLAMA = {
    **SIZES,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}


def train_tokenizer(text: str, kind: str = "byte_level") -> Any:
    """Train a BPE over bytes, or over characters with ▁ for a space, as a fast tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet() if kind == "byte_level" else sorted(set(text))
    if kind == "byte_level":
        tokenizer.pre_tokenizer, tokenizer.decoder = (
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            decoders.ByteLevel(),
        )
    else:
        tokenizer.pre_tokenizer, tokenizer.decoder = (
            pre_tokenizers.Metaspace(),
            decoders.Metaspace(),
        )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|end|>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        [text[i : i + 10_000] for i in range(0, len(text), 10_000)], trainer
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


def llama(**changes: Any) -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**(LLAMA | changes)))


def gemma2() -> Any:
    """Build a model with scaled embeddings, capped logits and sliding attention."""
    torch.manual_seed(0)
    config = transformers.Gemma2Config(
        **LLAMA,
        head_dim=16,
        final_logit_softcapping=0.05,
        query_pre_attn_scalar=16,
        sliding_window=8,
    )
    return transformers.Gemma2ForCausalLM(config)


def gpt2() -> Any:
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**SIZES, n_layer=2, n_head=2, n_embd=32, n_positions=128)
    )


def save(folder: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder

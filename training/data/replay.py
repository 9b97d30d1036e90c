"""Replay: steps of fine-tuning that train on text, so that the model forgets less of it.

The text is the corpus, or samples of the pretrained model, or both in turn. Replaying one corpus
keeps a model good at that corpus; samples of its own distribution are as varied as its pretraining
text, which nobody else has (LAMOL, Sun et al. 2019, arXiv 1909.03329; on large models, Huang et al.
2024, arXiv 2403.01244).

The loss is cross-entropy, or the KL divergence from the pretrained model (`replay_target`, see
train/loss.py).

Axes: B rows, T tokens per row, L a list of token ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor

from charembed.files import hash_tensors
from training.config.phase import Phase
from training.files import AGAIN, cached, read_tensors, write_tensors
from training.models.huggingface import HuggingFace
from training.models.precision import has_fast_bf16

from .batches import Batch, BatchAt, generator_of, text_batches

ROWS, TOKENS = 256, 128  # samples of the pretrained model, and tokens in each
_AT_ONCE = 64  # samples generated together
_KEPT = "base_text.safetensors"  # file of the samples in a run's folder


def base_samples(model: str, first_L: Tensor, cache: Path, run: Path | None = None) -> Tensor:
    """Text sampled from a pretrained model, as one row of token ids, int32 (ROWS * TOKENS,).

    Each sample begins with a token of `first_L` and has TOKENS tokens, or the model's context if
    that is less. It takes three minutes of a core for 135 million parameters, once for each model;
    later calls read `cache`. The samples that the folder `run` keeps come first: another CPU or GPU
    may sample other text.
    """
    if run is not None and (run / _KEPT).exists():
        return read_tensors(run / _KEPT, AGAIN)[0]["written"]
    # a context of 1 fits every model; the length of samples is limited below
    language_model = HuggingFace.load(model, 1)
    tokens = min(TOKENS, language_model.context or TOKENS)
    weights = hash_tensors(language_model.state_dict())
    # file name and facts are those of earlier versions, so that their caches stay valid
    path = cache / f"base-text-{weights[:16]}.safetensors"
    facts = {"model": weights, "rows": ROWS, "tokens": tokens}
    made = cached(path, facts, lambda: {"written": _sample(language_model, first_L, tokens)})
    return made["written"]


def keep_base_samples(samples: Tensor, run: Path) -> None:
    """Write the samples that a run replays into its folder, if there are any."""
    if len(samples) and not (run / _KEPT).exists():
        write_tensors(run / _KEPT, {"written": samples}, {})


@torch.no_grad()
def _sample(language_model: HuggingFace, first_L: Tensor, tokens: int) -> Tensor:
    device = PartialState().device
    fast = torch.bfloat16 if has_fast_bf16(device.type == "cpu") else torch.float32
    model = language_model.eval().to(device, fast).model
    # all options of a generation_config.json, so that the plain distribution is sampled
    options = {
        "do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0,
        "num_beams": 1, "no_repeat_ngram_size": 0, "typical_p": 1.0, "pad_token_id": 0,
        "min_new_tokens": tokens - 1, "max_new_tokens": tokens - 1,
    }  # fmt: skip
    rows = []
    with torch.random.fork_rng():  # generate() draws from the global generator
        torch.manual_seed(0)
        begins_B1 = first_L[torch.randint(len(first_L), (ROWS, 1))].to(device)
        for some_B1 in torch.split(begins_B1, _AT_ONCE):
            # without a mask, generate() would take a first token of id 0 for padding
            mask_B1 = torch.ones_like(some_B1)
            rows.append(model.generate(some_B1, attention_mask=mask_B1, **options).cpu())
    return torch.cat(rows).flatten().int()


def replay_texts(
    phase: Phase, text: Phase, corpus_L: Tensor, samples_L: Tensor, spelled_L: Tensor, seed: int
) -> list[BatchAt]:
    """The texts that a phase replays, each as batches of the rows of the phase `text`.

    `corpus_L` is the corpus, `samples_L` the samples of the pretrained model, and `spelled_L` the
    ids with characters, from which replacements of tokens are drawn.
    """
    # subtle: the key seeds the random stream, and finetune's has no phase name in it
    key = "replay" if phase.name == "finetune" else f"replay {phase.name}"
    ids = [corpus_L] * phase.replays("corpus") + [samples_L] * phase.replays("base")
    texts = [text_batches(each, text.batch_size, text.context, key, seed) for each in ids]
    if phase.replays("corpus") and phase.replay_target == "base":
        texts[0] = with_other_tokens(texts[0], spelled_L, key, seed)
    return texts


def with_other_tokens(batch_at: BatchAt, ids_L: Tensor, *key: int | str) -> BatchAt:
    """The same batches, with half of the tokens of every second row drawn from `ids_L` instead.

    The targets are unchanged: these rows serve the divergence from the pretrained model alone.
    """

    def replacing(k: int) -> Batch:
        batch, generator = batch_at(k), generator_of("other tokens", *key, k)
        ids_BT = batch.ids_BT.clone()
        odd_BT = ids_BT[1::2]
        drawn_BT = ids_L[torch.randint(len(ids_L), odd_BT.shape, generator=generator)]
        replaced_BT = torch.rand(odd_BT.shape, generator=generator) < 0.5
        ids_BT[1::2] = torch.where(replaced_BT, drawn_BT, odd_BT)
        return replace(batch, ids_BT=ids_BT)

    return replacing


def mixed_batches(questions: BatchAt, texts: Sequence[BatchAt], replay_share: float) -> BatchAt:
    """Batches of questions, and in an evenly spread share of the steps of the texts in turn.

    replay_share 0.25 -> question, question, question, text, question, ...
    """

    def batch_at(k: int) -> Batch:
        # the number of text steps before step k and after it; it rises at a text step
        before, after = int(k * replay_share), int((k + 1) * replay_share)
        return texts[before % len(texts)](k) if after > before else questions(k)

    return batch_at

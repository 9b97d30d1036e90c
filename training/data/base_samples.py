"""What a pretrained model writes by itself: text to replay where nobody has the text that it learnt from.

Replaying one corpus keeps a model at that corpus; what it draws from its own distribution is as varied as all
that it has read (LAMOL, Sun et al. 2019, arXiv 1909.03329; on large models, Huang et al. 2024, arXiv
2403.01244).
"""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor

from charembed.files import hash_tensors
from training.files import AGAIN, cached, read_tensors, write_tensors
from training.models.huggingface import HuggingFace
from training.models.precision import has_fast_bf16

ROWS, TOKENS, AT_ONCE = (
    256,
    128,
    64,
)  # pieces of text, the length of each, and how many are written at once
KEPT = "base_text.safetensors"  # in the folder of a run


def base_text(model: str, first_L: Tensor, cache: Path, run: Path | None = None) -> Tensor:
    """int32 (ROWS * TOKENS,): pieces of text, one after another, that `model` draws from its distribution.

    Each begins with a token of `first_L`; none ends before its length. Written once for each model (135
    million parameters: three minutes of a core), and then read from `cache`. What the folder `run` keeps
    counts before that: with other arithmetic the same model draws other text.
    """
    if run is not None and (run / KEPT).exists():
        return read_tensors(run / KEPT, AGAIN)[0]["written"]
    language_model = HuggingFace.load(model, 1)
    tokens = min(TOKENS, language_model.context or TOKENS)
    weights = hash_tensors(language_model.state_dict())
    path = cache / f"base-text-{weights[:16]}.safetensors"
    facts = {"model": weights, "rows": ROWS, "tokens": tokens}
    return cached(path, facts, lambda: {"written": _written(language_model, first_L, tokens)})[
        "written"
    ]


def keep_base_text(written: Tensor, run: Path) -> None:
    """Put the text that a run replays into its folder."""
    if len(written) and not (run / KEPT).exists():
        write_tensors(run / KEPT, {"written": written}, {})


@torch.no_grad()
def _written(language_model: HuggingFace, first_L: Tensor, tokens: int) -> Tensor:
    device = PartialState().device
    fast = torch.bfloat16 if has_fast_bf16(device.type == "cpu") else torch.float32
    model = language_model.eval().to(device, fast).model
    length = {"min_new_tokens": tokens - 1, "max_new_tokens": tokens - 1}
    plainly = {
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "repetition_penalty": 1.0,
    }
    plainly |= {"num_beams": 1, "no_repeat_ngram_size": 0, "typical_p": 1.0}
    options = {**plainly, **length, "pad_token_id": 0}
    rows = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        begins_B1 = first_L[torch.randint(len(first_L), (ROWS, 1))].to(device)
        for some_B1 in torch.split(begins_B1, AT_ONCE):
            rows.append(
                model.generate(some_B1, attention_mask=torch.ones_like(some_B1), **options).cpu()
            )
    return torch.cat(rows).flatten().int()

"""Ask a model to spell words, by greedy generation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from charembed.errors import SpellingError
from charembed.progress import Advance

FEW_SHOT = (
    "Spell cat: c a t\nSpell house: h o u s e\nSpell window: w i n d o w\n"
    "Spell planet: p l a n e t\nSpell {word}:"
)
_AT_ONCE = 32  # prompts of one length in a batch
_LEAST_ROOM = 8  # tokens of an answer beyond two for each letter
_BETWEEN = re.compile(r"[\s,.;|/_·-]+")


class Answer(NamedTuple):
    """The first line that the model wrote, and whether it spells the word."""

    text: str
    right: bool


def check_prompt(prompt: Any) -> str:
    """Return the prompt, "" if nothing is asked. Raises SpellingError if it has no {word}."""
    if prompt is False:
        return ""
    if not isinstance(prompt, str) or "{word}" not in prompt:
        raise SpellingError(
            f"spell is {prompt!r}; it must be True, False, or a prompt with {{word}} in the place of "
            "the word, such as 'Spell {word}:'."
        )
    return prompt


def ask(
    model: Any,
    tokenizer: Any,
    words: Sequence[str],
    prompt: str,
    known: Sequence[bytes | None],
    progress: Advance,
) -> dict[str, Answer]:
    """Return the answer for each word; none for a word that has no letters or does not fit."""
    if not hasattr(model, "generate"):
        raise SpellingError(
            f"{type(model).__name__} has no generate(), so it cannot be asked. Pass spell=False."
        )
    limit = getattr(model.config, "max_position_embeddings", None)
    ends = torch.tensor([i for i, one in enumerate(known) if one and b"\n" in one] or [-1])
    by_length = dict[int, list[tuple[str, list[int]]]]()
    for word in words:
        if not _letters(word):  # signs alone cannot be spelled
            continue
        ids = tokenizer(prompt.replace("{word}", word))["input_ids"]
        if limit is None or len(ids) + _room(word) <= limit:
            by_length.setdefault(len(ids), []).append((word, ids))
    answers, training = dict[str, Answer](), model.training
    model.eval()
    try:
        # prompts of one length need no padding, which not every model ignores
        for same in by_length.values():
            for first in range(0, len(same), _AT_ONCE):
                answers |= _answers(model, tokenizer, same[first : first + _AT_ONCE], ends)
                progress(len(answers), sum(map(len, by_length.values())))
    finally:
        model.train(training)
    return answers


def _answers(
    model: nn.Module, tokenizer: Any, batch: Sequence[tuple[str, list[int]]], ends: torch.Tensor
) -> dict[str, Answer]:
    device = next(model.parameters()).device
    ids_BT = torch.tensor([ids for _, ids in batch], device=device)
    start, ends = ids_BT.shape[1], ends.to(device)

    def is_done(ids_BT: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        return torch.isin(ids_BT[:, start:], ends).any(1)

    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    written_BT = model.generate(  # type: ignore[operator]
        ids_BT,
        attention_mask=torch.ones_like(ids_BT),
        max_new_tokens=max(_room(word) for word, _ in batch),
        pad_token_id=pad if pad is not None else 0,
        stopping_criteria=[is_done],
        **_GREEDY,
    )
    texts = tokenizer.batch_decode(written_BT[:, start:].tolist(), skip_special_tokens=True)
    return {
        word: Answer(first := _first_line(text), _spells(first, word))
        for (word, _), text in zip(batch, texts, strict=True)
    }


# The model's own generation config fills everything that is not named here.
_GREEDY: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
}


def _room(word: str) -> int:
    return 2 * len(word) + _LEAST_ROOM


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0].strip()


def _spells(answer: str, word: str) -> bool:
    """True if the answer is the word's letters one by one: "c-a-t" for "Cat", not "cat".

    Signs between letters, and signs in the word, do not count.
    """
    parts = [part for part in _BETWEEN.split(unicodedata.normalize("NFC", answer)) if part]
    return all(len(part) == 1 for part in parts) and _letters(word) == _letters("".join(parts))


def _letters(text: str) -> list[str]:
    text = unicodedata.normalize("NFC", text).lower()
    return [letter for letter in text if letter.isalnum()]

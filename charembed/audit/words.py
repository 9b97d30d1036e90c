"""Audit words: count their tokens, read their letters from the rows, ask the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from charembed.arguments import check_int
from charembed.embedding import CharEmbedding
from charembed.errors import SpellingError
from charembed.new_tokens import check_words, is_token, pieces_of, special_names, tables_of, text_of
from charembed.progress import Advance, bar
from charembed.spelling import characters, readable
from charembed.tokenizers import token_bytes

from .asking import FEW_SHOT, Answer, ask, check_prompt
from .letters import Readings, read_letters, right_letters
from .report import Audit, AuditedWord


def audit(
    model: nn.Module,
    tokenizer: Any,
    words: Iterable[str] | Mapping[str, int],
    *,
    space: bool = True,
    spell: bool | str = False,
    spell_at_most: int | None = None,
    progress: Advance | None = None,
) -> Audit:
    """Show for each word its tokens, and the gain and the cost of the word as one token.

    report = charembed.audit(model, tokenizer, {"ibuprofen": 12, "aspirin": 7})
    print(report)                                     # a table, the largest gain first
    charembed.add_tokens(model, tokenizer, report.best(1))

    The gain is the number of tokens saved: the word's tokens less one, times its count. A word that
    already is one token gains and costs nothing. The report also has the share of the word's
    letters that can be read from the rows of its tokens: by linear discriminants for each place,
    which were fitted to the rows of other tokens (`read_letters`). It tells how much of the
    spelling these rows hold, not whether the model uses it. Model and tokenizer do not change.

    Arguments:
        model: a transformers model, with or without an attached encoder. With one, a row is the sum
            of token and character vector.
        tokenizer: its transformers tokenizer.
        words: the words as they are written, or a mapping from each word to its count. In a list,
            a word counts as often as it occurs.
        space: if True (the default), each word has a space before it, as within a sentence.
        spell: whether the model is asked to spell the words, by greedy generation. True asks with
            `charembed.audit.FEW_SHOT`, a str is a prompt of your own with {word} in it. An answer is
            right if its first line is the letters of the word, one by one. Default: False, because
            it takes a generation for each word, and the answers of a model that was never trained
            to answer say little.
        spell_at_most: ask for so many words only, those with the largest gain. Default: all.
        progress: function of the number of finished and of all steps. Default: None, a bar on
            standard error if that is a terminal.

    Raises SpellingError if a word is empty, no str or contains a special token, if a count is no
    int of 0 or more, if the prompt has no {word}, or if the tokenizer is not the model's. Raises
    AttachError if the model's embedding cannot be read.
    """
    tables, known = tables_of(model), token_bytes(tokenizer)
    rows = len(tables[0])
    check_words(tokenizer, words, rows)
    prompt = check_prompt(FEW_SHOT if spell is True else spell)
    if spell_at_most is not None:
        check_int("spell_at_most", spell_at_most, 0, SpellingError)
    counts = _counts(words, space, special_names(tokenizer))
    with bar("Reading the words") as draw:
        pieces = pieces_of(tokenizer, counts, progress or draw)
    with torch.inference_mode(False), torch.no_grad(), bar("Reading the rows") as draw:
        every = {i for ids in pieces.values() for i in ids}
        readings = read_letters(_rows(model), known, sorted(every), progress or draw)
    row_parameters = sum(table[0].numel() for table in tables)
    shown = {i: _shown(tokenizer, known, i) for i in every}
    found = [
        AuditedWord(
            word=text.strip() if space else text,
            count=count,
            pieces=tuple(shown[i] for i in pieces[text]),
            is_token=is_token(text, pieces[text], known),
            row_parameters=row_parameters,
            **_letters(text, pieces[text], readings),
        )
        for text, count in counts.items()
    ]
    found.sort(key=lambda one: -one.saved)  # stable: equal words stay in the order of the list
    answers = dict[str, Answer]()
    if prompt:
        asked = [one.word for one in found[:spell_at_most]]
        with bar("Asking the model") as draw:
            answers = ask(model, tokenizer, asked, prompt, known, progress or draw)
    return Audit(
        words=tuple(one.answered(answers.get(one.word)) for one in found),
        row_parameters=row_parameters,
        spare_rows=rows - len(tokenizer),
        vocabulary_letters=readings.vocabulary if readings else None,
        baseline_letters=readings.baseline if readings else None,
        prompt=prompt or None,
    )


def _counts(
    words: Iterable[str] | Mapping[str, int], space: bool, special: Sequence[str]
) -> dict[str, int]:
    """Return the count of each text."""
    pairs = words.items() if isinstance(words, Mapping) else ((word, 1) for word in words)
    counts = dict[str, int]()
    for word, count in pairs:
        if type(count) is not int or count < 0:
            raise SpellingError(
                f"The count of {word!r} is {count!r}; it must be an int of 0 or more."
            )
        text = text_of(word, space, special)
        counts[text] = counts.get(text, 0) + count
    return counts


def _rows(model: nn.Module) -> Tensor:
    """Return the rows as the model sees them, without the host's own scaling."""
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    rows: Tensor = embedding.table() if isinstance(embedding, CharEmbedding) else embedding.weight
    return rows


def _shown(tokenizer: Any, known: Sequence[bytes | None], token: int) -> str:
    """Return the text of a token; its name if it has none."""
    if spelling := known[token] if token < len(known) else None:
        return "".join(readable(ord(character)) for character in characters(spelling))
    return str(tokenizer.convert_ids_to_tokens(token))


def _letters(text: str, pieces: Sequence[int], readings: Readings | None) -> dict[str, Any]:
    """Return the letters that are read from the pieces, and the share of right ones."""
    if readings is None:
        return {"letters": None, "letters_right": None}
    read = [readings.read.get(i, "") for i in pieces]
    right = sum(
        right_letters(readings.texts[i], one) for i, one in zip(pieces, read, strict=True) if one
    )
    letters = sum(not letter.isspace() for letter in text.lower())
    return {"letters": "|".join(read), "letters_right": min(right / letters, 1.0)}

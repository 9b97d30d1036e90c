"""Words that were several tokens become one, and the model can read them at once.

Axes: V vocabulary, D model width.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .embedding import CharEmbedding, char_embeddings
from .encoder import CharEncoder
from .errors import AttachError, SpellingError
from .rows_from_spellings import readable_states, rows_from_spellings
from .spelling import SpellingTable
from .tokenizers import token_bytes

# Of what the pieces' rows have beyond their letters: 0 is no better for spelling, 1 better for text alone
PIECES = 0.5
FEW = 256  # whole words among the tokens; with fewer of them, a new word is guessed from all tokens


def add_tokens(
    model: nn.Module, tokenizer: Any, words: Sequence[str], *, space: bool = True
) -> list[int]:
    """Give a model words as tokens of their own, in place; returns their ids in the words' order.

    charembed.add_tokens(model, tokenizer, ["strawberry", "raspberry"]) -> [49152, 49153]

    Tokenizer, input embedding, output layer and letters change together. A new token's rows are those that
    its letters make likely (`charembed/rows_from_spellings.py`: a regression, over the tokens that are whole
    words where it is one, and over all otherwise; seconds of a core) and half of what its old pieces' rows
    have beyond their own letters; its letters, where the model has them, are read by the encoder as they are
    of any token that training never met. (`python -m benchmarks.new_tokens` compares this with other ways.)
    Rows that the embedding has beyond the tokenizer are filled before it grows. Build the optimizer
    afterwards. (A tokenizer that puts a space before each stretch of text, as Llama 2's does, puts one behind
    a new token, too: its library cuts the text there.)

    Arguments:
        tokenizer: of transformers.
        words: as they are written. One that is a single token already keeps it.
        space: each word with the space before it, as within a sentence; False takes the texts as they are. A
            token is found wherever its text stands: also at the beginning of a longer word.

    Raises SpellingError for words that are empty, no text or special tokens or that the tokenizer cannot
    hold, and for a tokenizer that is not the model's, AttachError for a model that cannot be resized; nothing
    has changed then, nor after an interruption.
    """
    with torch.inference_mode(False), torch.no_grad():
        return _add_tokens(model, tokenizer, words, space)


def _add_tokens(model: nn.Module, tokenizer: Any, words: Sequence[str], space: bool) -> list[int]:
    tables, letters = _tables(model), list(char_embeddings(model))
    rows, known = len(tables[0]), token_bytes(tokenizer)
    _check(tokenizer, words, rows)
    for embedding in letters:
        _check_letters(embedding, known)
    texts = [_text(word, space, tokenizer) for word in words]
    pieces = {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts}
    new = [text for text in dict.fromkeys(texts) if not _is_token(text, pieces[text], known)]
    grown = copy.deepcopy(tokenizer)
    grown.add_tokens(_added(new, tokenizer))
    id_of = {text: grown.convert_tokens_to_ids(text) for text in new}
    _check_added(id_of, tokenizer, grown)
    spellings = token_bytes(grown)
    lettered = {id_of[text]: [i for i in pieces[text] if known[i]] for text in new}
    rows_of_new = _rows_of_new(tables, spellings, len(tokenizer), lettered)
    before = [table[len(tokenizer) :].clone() for table in tables]
    spelled, head = [embedding.spellings for embedding in letters], model.get_output_embeddings()  # type: ignore[operator]
    try:
        if len(grown) > rows:
            model.resize_token_embeddings(len(grown), mean_resizing=False)  # type: ignore[operator]
        for table, filled in zip(_tables(model), rows_of_new, strict=True):
            table[[id_of[text] for text in new]] = filled.to(table)
        for embedding in letters:
            _spell(embedding, {id_of[text]: text.encode() for text in new})
        tokenizer.add_tokens(_added(new, tokenizer))  # last: it takes all of them or none
    except BaseException:
        if len(tokenizer) < len(grown):  # else everything has been done
            if len(_tables(model)[0]) != rows:
                model.resize_token_embeddings(rows, mean_resizing=False)  # type: ignore[operator]
            if model.get_output_embeddings() is not head:  # type: ignore[operator]
                model.set_output_embeddings(head)  # type: ignore[operator]
            for table, values in zip(_tables(model), before, strict=True):
                table[len(tokenizer) :] = values
            for embedding, table_before in zip(letters, spelled, strict=True):
                own = isinstance(embedding.encoder, CharEncoder)
                embedding.update_spellings(
                    table_before if own else table_before.over(embedding.spellings.alphabet)
                )
        raise
    for parameter in model.parameters():
        if parameter.grad is not None and parameter.grad.shape != parameter.shape:
            parameter.grad = None  # of fewer rows
    return [id_of[text] if text in id_of else pieces[text][0] for text in texts]


def _rows_of_new(
    tables: list[Tensor], spellings: list[bytes | None], known: int, pieces: dict[int, list[int]]
) -> list[Tensor]:
    """(N, D) for each table: what the token's letters make likely, and a share of what its pieces' rows have
    beyond their letters."""
    if not pieces:
        return [table[:0] for table in tables]
    with torch.device("cpu"):  # whatever the user's default is
        states_VH = readable_states(spellings)
        known_L = torch.tensor([token for token in range(known) if spellings[token]])
        words_L = torch.tensor([token for token in range(known) if _is_word(spellings[token])])
        words_L = words_L if len(words_L) >= FEW else known_L
        found = []
        for table in tables:
            of_any, of_words = (
                rows_from_spellings(table, states_VH, ids_L) for ids_L in (known_L, words_L)
            )
            rows = []
            for token, ids in pieces.items():
                row = (of_words if _is_word(spellings[token]) else of_any)(torch.tensor([token]))[0]
                if ids:
                    row += PIECES * (table[ids].cpu().float() - of_any(torch.tensor(ids))).mean(0)
                rows.append(row)
            found.append(torch.stack(rows))
    return found


def _is_token(text: str, pieces: list[int], known: list[bytes | None]) -> bool:
    """Is it one token of the vocabulary, apart from space around it and from capitals that it has not?

    A tokenizer that has no pieces for a text may answer with one token, too: an unknown one, or a space.
    """
    spelling = known[pieces[0]] if len(pieces) == 1 else None
    return (
        spelling is not None
        and spelling.decode(errors="replace").strip().lower() == text.strip().lower()
    )


def _is_word(spelling: bytes | None) -> bool:
    """Is it a space and then two letters or more?"""
    text = (spelling or b"").decode(errors="replace")
    return len(text) > 2 and text[0] == " " and text[1:].isalpha()


def _check(tokenizer: Any, words: Any, rows: int) -> None:
    """Raises SpellingError for a tokenizer that cannot grow or is not the model's, and for one bare word."""
    if not hasattr(tokenizer, "added_tokens_decoder"):
        raise SpellingError(
            f"the tokenizer is a {type(tokenizer).__name__}, which takes no new tokens: pass one of "
            "transformers."
        )
    if len(tokenizer) > rows:
        raise SpellingError(
            f"the tokenizer has {len(tokenizer)} tokens, but the embedding has {rows} rows: pass the model's "
            "own tokenizer."
        )
    if isinstance(words, str) or not isinstance(words, Iterable):
        raise SpellingError(f"the words are {words!r}: pass a list of words.")


def _check_letters(embedding: CharEmbedding, known: list[bytes | None]) -> None:
    """Raises SpellingError for letters of another vocabulary. (Those of the same one may be dealt anew.)"""
    attached = embedding.spellings.to_bytes()[: len(known)]
    here = [spelling or None for spelling in known[: len(attached)]]
    differing = sum(one != other for one, other in zip(attached, here, strict=True))
    if 2 * differing > len(here) and Counter(attached) != Counter(here):
        raise SpellingError(
            f"{differing} of the tokenizer's {len(here)} tokens have other letters than those attached: pass "
            "the model's own tokenizer."
        )


def _check_added(id_of: dict[str, int], tokenizer: Any, grown: Any) -> None:
    """Raises SpellingError for a text that the tokenizer cannot hold as a token of its own, or not write."""
    taken = set(tokenizer.get_vocab().values())
    for text, token in id_of.items():
        if token in taken:
            raise SpellingError(
                f"the word {text!r} is how the tokenizer writes its token {token}, which stands for other "
                "text: add it with the space before it, or leave it out."
            )
        written = grown.decode(
            [token], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        if written.strip() != text.strip():
            raise SpellingError(
                f"the word {text!r} would be written as {written!r}, since the tokenizer's decoder takes its "
                "characters for bytes: add it with the space before it, or leave it out."
            )


def _text(word: Any, space: bool, tokenizer: Any) -> str:
    """The token's text. Raises SpellingError for what cannot be one."""
    if not isinstance(word, str) or not word.strip():
        raise SpellingError(
            f"the word {word!r} has no letters: pass the words to add, each as a text."
        )
    try:
        word.encode()
    except UnicodeEncodeError:
        raise SpellingError(
            f"the word {word!r} holds half a character (a lone surrogate): pass whole text."
        ) from None
    added = tokenizer.added_tokens_decoder.values()
    names = [*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)]
    if special := next((name for name in names if name in word), None):
        raise SpellingError(
            f"the word {word!r} holds the special token {special!r}, which would lose its meaning there: "
            "leave it out."
        )
    return f" {word.strip()}" if space else word


def _added(texts: Sequence[str], tokenizer: Any) -> list[Any]:
    """As the tokenizer's library writes a token that is looked for in the text as it stands."""
    if not texts:
        return []
    some = tokenizer.added_tokens_decoder
    if not some:  # what kind of object that is shows when there is one
        tried = copy.deepcopy(tokenizer)
        tried.add_tokens(list(texts))
        some = tried.added_tokens_decoder
    kind: Any = type(next(iter(some.values())))
    return [kind(text, normalized=False) for text in texts]


def _tables(model: Any) -> list[Tensor]:
    """The rows per token: of the input embedding and, where it has its own, of the output layer.

    They are written to in place. Raises AttachError for a model that has none that can grow.
    """
    if not isinstance(model, nn.Module) or not hasattr(model, "resize_token_embeddings"):
        raise AttachError(
            f"{type(model).__name__} has no resize_token_embeddings(): give its embedding and its output "
            "layer the new rows yourself, then call charembed.update_spellings(model, tokenizer)."
        )
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[operator]
    if isinstance(embedding, CharEmbedding):
        embedding.check_whole()
    tables = [embedding.weight.data]
    if head is not None and head.weight is not embedding.weight:
        tables.append(head.weight.data)
    if getattr(head, "bias", None) is not None:
        tables.append(head.bias.data)
    return tables


def _spell(embedding: CharEmbedding, new: dict[int, bytes]) -> None:
    """Give rows of the embedding their letters; all others keep those that they have."""
    known = embedding.spellings
    spellings = known.to_bytes()
    spellings += [None] * (embedding.num_embeddings - len(spellings))
    for token, spelling in new.items():
        spellings[token] = spelling
    embedding.update_spellings(SpellingTable.from_bytes(spellings, known.unit, known.alphabet))

"""Add words as new tokens whose rows are predicted from their spelling.

Axes: V vocabulary, N new tokens, L known tokens, D model width.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .embedding import CharEmbedding, attached
from .encoder import CharEncoder
from .errors import AttachError, SpellingError
from .progress import Advance, bar
from .rows_from_spellings import readable_states, rows_from_spellings
from .sharding import check_unsharded
from .spelling import SpellingTable
from .tokenizers import bytes_of_ids, token_bytes

# Weight of the residual of the word's former tokens. 0 does not improve spelling further, 1
# improves text only.
_RESIDUAL_WEIGHT = 0.5
# With fewer whole words in the vocabulary, the regression uses all tokens for new words too.
_MIN_WORDS = 256
# A regression is fitted to at most this many tokens, evenly over the ids, if the vocabulary has more
# than twice as many. On 128,256 tokens the squared error of new rows is 0.3 to 0.5 % larger than
# after a fit on all of them.
_MAX_FITTED = 32_768
_BEFORE = "a"  # a text before the pieces of a word
_TEXTS_AT_ONCE = 4_096  # a tokenizer reads many texts at once, in several threads


def add_tokens(
    model: nn.Module,
    tokenizer: Any,
    words: Sequence[str],
    *,
    space: bool = True,
    progress: Advance | None = None,
) -> list[int]:
    """Add words to tokenizer and model as one token each, in place, and return their ids in order.

    charembed.add_tokens(model, tokenizer, ["strawberry", "raspberry"]) -> [49152, 49153]

    Tokenizer, input embedding, output layer and spellings change together. The rows of a new token
    are the prediction of a ridge regression from its spelling (`rows_from_spellings`), plus 0.5 x
    the mean residual of the rows of its former tokens, the part that their spelling does not
    predict. For new words the regression is fitted to the tokens that are whole words, otherwise to
    all tokens; in a vocabulary of more than 65,536, to 32,768 of them. It takes seconds of a core,
    and a bar on a terminal shows the progress. If an encoder is attached, it also encodes the new token
    from its spelling, without training. (`python -m benchmarks.new_tokens` compares this with other
    methods.)

    If the embedding has more rows than the tokenizer has tokens, the extra rows are used before the
    embedding grows. Build the optimizer afterwards.

    Arguments:
        model: a transformers model, with or without an attached encoder.
        tokenizer: its transformers tokenizer.
        words: the words, as they are written. A word that is already one token keeps its id.
        space: if True (the default), each token is the word with a space before it, as within a
            sentence. If False, the texts are used unchanged. A token also matches at the beginning
            of a longer word.
        progress: function of the number of read and of all spellings. Default: None, a bar on
            standard error if that is a terminal.

    Note: tokenizers with a dummy prefix space (Llama 2) also insert a space after an added token.

    Raises SpellingError if a word is empty, no str or contains a special token, if the tokenizer
    cannot hold it, or if the tokenizer is not the model's. Raises AttachError if the model cannot
    be resized. After an error or an interruption model and tokenizer are unchanged.
    """
    with torch.inference_mode(False), torch.no_grad(), bar("Reading the spellings") as draw:
        return _add_tokens(model, tokenizer, words, space, progress or draw)


def _add_tokens(
    model: nn.Module, tokenizer: Any, words: Sequence[str], space: bool, progress: Advance
) -> list[int]:
    tables, embeddings = tables_of(model), attached(model)
    rows, known = len(tables[0]), token_bytes(tokenizer)
    check_words(tokenizer, words, rows)
    for embedding in embeddings:
        _check_spellings(embedding, known)
    special = special_names(tokenizer)
    texts = [text_of(word, space, special) for word in words]
    pieces = pieces_of(tokenizer, dict.fromkeys(texts))
    new = [text for text in dict.fromkeys(texts) if not is_token(text, pieces[text], known)]
    # A copy grows first: an error below must leave the tokenizer as it was.
    grown = _copy(tokenizer)
    grown.add_tokens(_added(new, tokenizer))
    id_of = {text: grown.convert_tokens_to_ids(text) for text in new}
    _check_added(id_of, tokenizer, grown)
    spellings = _grown(known, grown, list(id_of.values()))
    # former tokens of each new one, without those that have no characters
    former = {id_of[text]: [i for i in pieces[text] if known[i]] for text in new}
    rows_of_new = predicted_rows(tables, spellings, len(tokenizer), former, progress)
    before = [table[len(tokenizer) :].clone() for table in tables]
    spellings_before = [embedding.own_spellings for embedding in embeddings]
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    try:
        if len(grown) > rows:
            model.resize_token_embeddings(len(grown), mean_resizing=False)  # type: ignore[operator]
        for table, filled in zip(tables_of(model), rows_of_new, strict=True):
            table[[id_of[text] for text in new]] = filled.to(table)
        for embedding in embeddings:
            _add_spellings(embedding, {token: spellings[token] for token in id_of.values()})
        # last, because it adds all tokens or none
        tokenizer.add_tokens(_added(new, tokenizer))
    except BaseException:  # also Ctrl+C
        if len(tokenizer) < len(grown):  # otherwise everything was done before the interruption
            if len(tables_of(model)[0]) != rows:
                model.resize_token_embeddings(rows, mean_resizing=False)  # type: ignore[operator]
            if model.get_output_embeddings() is not head:  # type: ignore[operator]
                model.set_output_embeddings(head)  # type: ignore[operator]
            for table, values in zip(tables_of(model), before, strict=True):
                table[len(tokenizer) :] = values
            for embedding, table_before in zip(embeddings, spellings_before, strict=True):
                # A CharEncoder drops new characters again; an encoder of the user's own may not.
                own = isinstance(embedding.encoder_in_use, CharEncoder)
                embedding.update_spellings(
                    table_before if own else table_before.over(embedding.spellings.alphabet)
                )
        raise
    for parameter in model.parameters():
        if parameter.grad is not None and parameter.grad.shape != parameter.shape:
            parameter.grad = None  # it has fewer rows
    return [id_of[text] if text in id_of else pieces[text][0] for text in texts]


def _copy(tokenizer: Any) -> Any:
    """Return a copy that can take new tokens, without a second copy of the pieces.

    Gemma 3 keeps its 262,144 pieces and 514,906 merges as Python objects too, which takes most of
    the time of a deep copy. A fast tokenizer adds tokens to its backend alone.
    """
    shared = dict[int, Any]()
    if getattr(tokenizer, "is_fast", False):
        for holder in (vars(tokenizer), getattr(tokenizer, "init_kwargs", {})):
            for name in ("_vocab", "_merges", "vocab", "merges"):
                if isinstance(found := holder.get(name), dict | list | tuple):
                    shared[id(found)] = found
    return copy.deepcopy(tokenizer, shared)


def _grown(known: list[bytes | None], grown: Any, new: list[int]) -> list[bytes | None]:
    """Return the bytes of all ids of the grown tokenizer."""
    spellings = [*known, *[None] * (max(new, default=-1) + 1 - len(known))]
    for token, spelling in zip(new, bytes_of_ids(grown, new), strict=True):
        spellings[token] = spelling
    return spellings


def predicted_rows(
    tables: list[Tensor],
    spellings: list[bytes | None],
    known: int,
    pieces: dict[int, list[int]],
    progress: Advance | None = None,
) -> list[Tensor]:
    """Return rows (N, D) of the new tokens for each table: prediction plus weighted residual.

    `add_tokens` calls this; a model that is no transformers model can be grown with it by hand.

    Arguments:
        tables: the token tables, (V, D) or a bias (V,).
        spellings: bytes of all tokens, old and new.
        known: number of old tokens.
        pieces: former tokens of each new token, by its id.
        progress: function of the number of read and of all spellings.
    """
    if not pieces:
        return [table[:0] for table in tables]
    fitted = [token for token in range(known) if spellings[token]]
    words = [token for token in fitted if _is_word(spellings[token])]
    words = words if len(words) >= _MIN_WORDS else fitted
    read = list(range(len(spellings)))
    if len(read) > 2 * _MAX_FITTED:
        fitted, words = _evenly(fitted), _evenly(words)
        # The other tokens are not read, apart from the new ones and their former tokens.
        read = sorted({*fitted, *words, *pieces, *(i for ids in pieces.values() for i in ids)})
    row_of = {token: row for row, token in enumerate(read)}

    def rows_in(tokens: Iterable[int]) -> Tensor:
        return torch.tensor([row_of[token] for token in tokens])

    with torch.device("cpu"):  # the user may have set another default device
        states_VH = readable_states([spellings[token] for token in read], progress)
        known_L, words_L, read_V = rows_in(fitted), rows_in(words), torch.tensor(read)
        found = []
        for table in tables:
            table = table[read_V[read_V < len(table)].to(table.device)]
            of_any, of_words = (
                rows_from_spellings(table, states_VH, ids_L) for ids_L in (known_L, words_L)
            )
            rows = []
            for token, ids in pieces.items():
                guess = of_words if _is_word(spellings[token]) else of_any
                row = guess(rows_in([token]))[0]
                if ids:
                    residual = table[rows_in(ids)].cpu().float() - of_any(rows_in(ids))
                    row += _RESIDUAL_WEIGHT * residual.mean(0)
                rows.append(row)
            found.append(torch.stack(rows))
    return found


def pieces_of(
    tokenizer: Any, texts: Iterable[str], progress: Advance | None = None
) -> dict[str, list[int]]:
    """Return the tokens of each text within a sentence.

    pieces_of(gpt2, [" strawberry"]) -> {" strawberry": [41236, 8396]}

    A text that begins with a space is read after a letter: at the beginning of a text, Llama 2's
    tokenizer inserts a space of its own.
    """
    texts = list(texts)
    before = tokenizer(_BEFORE, add_special_tokens=False)["input_ids"]
    inside = [_BEFORE + text if text[:1] == " " else text for text in texts]
    found = dict[str, list[int]]()
    for first in range(0, len(texts), _TEXTS_AT_ONCE):
        some = texts[first : first + _TEXTS_AT_ONCE]
        read = tokenizer(inside[first : first + _TEXTS_AT_ONCE], add_special_tokens=False)
        for text, ids in zip(some, read["input_ids"], strict=True):
            if text[:1] == " " and ids[: len(before)] == before:
                ids = ids[len(before) :]
            elif text[:1] == " ":  # the letter is not a token of its own
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            found[text] = ids
        if progress is not None:
            progress(len(found), len(texts))
    return found


def _evenly(tokens: list[int]) -> list[int]:
    """Return at most `_MAX_FITTED` of the tokens, evenly from the first to the last."""
    if len(tokens) <= _MAX_FITTED:
        return tokens
    return [tokens[k * len(tokens) // _MAX_FITTED] for k in range(_MAX_FITTED)]


def is_token(text: str, pieces: list[int], known: list[bytes | None]) -> bool:
    """True if the text is one token already, apart from spaces around it and from letter case.

    A single id is not enough: for a text that it cannot tokenize, a tokenizer may return one id
    too, of the unknown token or of a space.
    """
    spelling = known[pieces[0]] if len(pieces) == 1 else None
    return (
        spelling is not None
        and spelling.decode(errors="replace").strip().lower() == text.strip().lower()
    )


def _is_word(spelling: bytes | None) -> bool:
    """True for a space followed by at least two letters."""
    text = (spelling or b"").decode(errors="replace")
    return len(text) > 2 and text[0] == " " and text[1:].isalpha()


def check_words(tokenizer: Any, words: Any, rows: int) -> None:
    """Raise SpellingError if tokenizer, model and words do not fit each other."""
    if not hasattr(tokenizer, "added_tokens_decoder"):
        raise SpellingError(
            f"The tokenizer is a {type(tokenizer).__name__}, which takes no new tokens. Pass a "
            "tokenizer of transformers."
        )
    if len(tokenizer) > rows:
        raise SpellingError(
            f"The tokenizer has {len(tokenizer)} tokens, but the embedding has {rows} rows. Pass "
            "the tokenizer of the model."
        )
    # a str is iterable too: its letters would be added one by one
    if isinstance(words, str) or not isinstance(words, Iterable):
        raise SpellingError(f"words is {words!r}; it must be a list of words.")


def _check_spellings(embedding: CharEmbedding, known: list[bytes | None]) -> None:
    """Raise SpellingError if the attached spellings are another vocabulary's.

    The same spellings in another order are accepted (shuffled controls).
    """
    attached = embedding.spellings.to_bytes()[: len(known)]
    here = [spelling or None for spelling in known[: len(attached)]]
    differing = sum(one != other for one, other in zip(attached, here, strict=True))
    if 2 * differing > len(here) and Counter(attached) != Counter(here):
        raise SpellingError(
            f"{differing} of the tokenizer's {len(here)} tokens differ from the attached "
            "spellings. Pass the tokenizer of the model."
        )


def _check_added(id_of: dict[str, int], tokenizer: Any, grown: Any) -> None:
    """Raise SpellingError if the tokenizer cannot hold a text as one token, or not decode it."""
    vocabulary = tokenizer.get_vocab()
    taken = set(vocabulary.values())
    # The library numbers a new token by the number of tokens. If lower ids are unused, this number
    # may be another token's id.
    unused = sorted(set(range(max(taken, default=0))) - taken)
    for text, token in id_of.items():
        if token in taken and text not in vocabulary and unused:
            raise SpellingError(
                f"The tokenizer gives the new token {text!r} id {token}, which another token has "
                f"already, because {len(unused)} ids below {max(taken)} are unused (the first is "
                f"{unused[0]}). Give these ids to placeholder tokens in the tokenizer's vocabulary "
                "first."
            )
        if token in taken:
            raise SpellingError(
                f"The word {text!r} is the tokenizer's name of token {token}, which has another "
                "text. Add it with the space before it, or leave it out."
            )
        written = grown.decode(
            [token], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        if written.strip() != text.strip():
            raise SpellingError(
                f"The word {text!r} would be decoded as {written!r}, because the tokenizer's "
                "decoder maps its characters to bytes. Add it with the space before it, or leave "
                "it out."
            )


def special_names(tokenizer: Any) -> list[str]:
    """Return the texts of the special tokens."""
    added = tokenizer.added_tokens_decoder.values()
    return [*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)]


def text_of(word: Any, space: bool, special_names: Sequence[str]) -> str:
    """Return the text of the token. Raises SpellingError if the word cannot be one."""
    if not isinstance(word, str) or not word.strip():
        raise SpellingError(
            f"The word {word!r} has no letters. Pass each word as a str with letters."
        )
    try:
        word.encode()
    except UnicodeEncodeError:
        raise SpellingError(
            f"The word {word!r} contains half a character (a lone surrogate). Pass whole text."
        ) from None
    if special := next((name for name in special_names if name in word), None):
        raise SpellingError(
            f"The word {word!r} contains the special token {special!r}, which would lose its "
            "meaning. Leave it out."
        )
    return f" {word.strip()}" if space else word


def _added(texts: Sequence[str], tokenizer: Any) -> list[Any]:
    """Return AddedToken objects of the tokenizer's library that match the text without
    normalization."""
    if not texts:
        return []
    some = tokenizer.added_tokens_decoder
    if not some:  # find the class of such objects by adding one to a copy
        tried = copy.deepcopy(tokenizer)
        tried.add_tokens(list(texts))
        some = tried.added_tokens_decoder
    kind: Any = type(next(iter(some.values())))
    return [kind(text, normalized=False) for text in texts]


def tables_of(model: Any) -> list[Tensor]:
    """Return the input embedding's rows and, if they are separate, the output layer's rows and
    bias.

    The tensors are written to in place. Raises AttachError if the model cannot be resized.
    """
    if not isinstance(model, nn.Module) or not hasattr(model, "resize_token_embeddings"):
        raise AttachError(
            f"{type(model).__name__} has no resize_token_embeddings(). Add the rows to its "
            "embedding and output layer yourself, then call charembed.update_spellings(model, "
            "tokenizer)."
        )
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    if isinstance(embedding, CharEmbedding):
        check_unsharded(model, embedding)
        embedding.check_whole()
    tables = [embedding.weight.data]
    if head is not None and head.weight is not embedding.weight:
        tables.append(head.weight.data)
    if getattr(head, "bias", None) is not None:
        tables.append(head.bias.data)
    return tables


def _add_spellings(embedding: CharEmbedding, new: dict[int, bytes | None]) -> None:
    """Set the spellings of new rows; all other rows keep theirs."""
    known = embedding.own_spellings
    spellings = known.to_bytes()
    spellings += [None] * (embedding.num_embeddings - len(spellings))
    for token, spelling in new.items():
        spellings[token] = spelling
    embedding.update_spellings(SpellingTable.from_bytes(spellings, known.unit, known.alphabet))

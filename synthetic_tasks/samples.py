"""Some hundred plain words, and splits without a tokenizer, to look at the tasks."""

from collections.abc import Sequence
from pathlib import Path

from .errors import TaskError
from .words import WordSplits, one_list, split_words

_MAX_TRAINED = 10  # letters of a training word

SAMPLE_WORDS = tuple(Path(__file__).with_name("sample_words.txt").read_text("utf-8").split())


def split_sample(words: Sequence[str]) -> WordSplits:
    """Split words by word and by pair of letters; put all into each split if they are too few."""

    def pairs(word: str) -> list[bytes]:
        return [word[i : i + 2].encode() for i in range(0, len(word), 2)]

    try:
        return split_words(words, pairs, seed=0, max_letters=_MAX_TRAINED, token_share=0.05)
    except TaskError:  # a preview of a few words is better than none
        return one_list(words)

"""The tokens that are probed, and the splits that hold some of them out.

" the", "The" and "the" have one text, `the`. Tokens of one text are on the same side of every
split: otherwise a probe could learn the answer for a held-out token from its twin.

Axes: N tokens that are probed, P places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charembed import SpellingTable
from charembed.spelling_loss import IGNORED, PLACES, spelling_targets
from synthetic_tasks import stream
from training.errors import BadInput

# The texts are shuffled into ten parts: two are held out, one chooses hyperparameters, seven train.
PARTS, HELD = 10, 2
_FEWEST = 100  # different texts; a probe cannot learn from fewer


@dataclass(frozen=True, eq=False)
class ProbedTokens:
    """The tokens that consist of letters, apart from spaces around them.

    Attributes:
        ids_N: their ids.
        texts: their texts, stripped and in lower case: the answers that a probe should give.
        keys: tokens of one key are never on both sides of a split.
        table: the spellings of the texts; its alphabet numbers the letters in all probes.
        letters_NP: the letters at the first PLACES places, then at the last ones counted backwards;
            IGNORED if a text has no such place.
        lengths_N: letters of each text.
    """

    ids_N: Tensor
    texts: list[str]
    keys: list[str]
    table: SpellingTable
    letters_NP: Tensor
    lengths_N: Tensor

    @classmethod
    def of(
        cls, spellings: Sequence[bytes | None], limit: int | None = None, prefix: int | None = None
    ) -> ProbedTokens:
        """Choose the tokens: [b" the", b"The", b"42", None] -> ids [0, 1], texts ["the", "the"]

        Arguments:
            limit: at most this many tokens, drawn at random, the same ones each time.
            prefix: letters of the text that are the key of a token; by default all of them. With 4,
                relatives such as walk, walked and walking are on one side of a split too.

        Raises BadInput if too few tokens consist of letters.
        """
        read = ((number, plain_text(spelling)) for number, spelling in enumerate(spellings))
        found = [(number, text) for number, text in read if text]
        if limit is not None and limit < len(found):
            found = sorted(stream("probed tokens").sample(found, limit))
        texts = [text for _, text in found]
        keys = [text[:prefix] for text in texts]
        if (different := len(set(keys))) < _FEWEST:
            raise BadInput(
                f"{len(texts)} tokens consist of letters, with {different} different "
                f"{'texts' if prefix is None else 'beginnings'}; a probe needs {_FEWEST}. Use more "
                "tokens, or a model with a larger vocabulary."
            )
        table = SpellingTable.from_bytes([text.encode() for text in texts])
        letters_NP = spelling_targets(table, PLACES, PLACES)
        # Targets of the spelling loss mark the end of a word with one more class; probes do not.
        letters_NP = letters_NP.masked_fill(letters_NP == len(table.alphabet), IGNORED)
        ids_N = torch.tensor([number for number, _ in found])
        return cls(ids_N, texts, keys, table, letters_NP, table.lengths_V.long())

    def split(self, number: int) -> ProbeSplit:
        """Return split `number`; 0 to 4 hold out every token once, 5 to 9 after a reshuffle."""
        rounds, place = divmod(number, PARTS // HELD)
        keys = sorted(set(self.keys))
        stream("split", rounds).shuffle(keys)
        part = {key: i % PARTS for i, key in enumerate(keys)}
        part_N = torch.tensor([part[key] for key in self.keys])
        held_N = part_N // HELD == place
        check_N = part_N == (HELD * (place + 1)) % PARTS
        masks = (~(held_N | check_N), check_N, held_N)
        return ProbeSplit(number, *(mask_N.nonzero().squeeze(1) for mask_N in masks))


@dataclass(frozen=True, eq=False)
class ProbeSplit:
    """Token numbers: `fit` trains, `check` chooses the strength, `held` gives the scores."""

    number: int
    fit: Tensor
    check: Tensor
    held: Tensor


def plain_text(spelling: bytes | None) -> str:
    """Return the text of a token: b" The" -> "the"; "" if it is not letters or not valid UTF-8."""
    try:
        text = (spelling or b"").decode().strip()
    except UnicodeDecodeError:
        return ""
    return text.lower() if text.isalpha() else ""

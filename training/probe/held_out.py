"""Which tokens are probed, and which of them a probe never sees.

" the", "The" and "the" have one text, `the`. Tokens of one text stand on the same side of every split, so
that what is asked of a held-out token cannot have been learnt by heart from its twin.

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

PARTS, HELD = (
    10,
    2,
)  # the texts are dealt into ten parts, of which two are held out and one is for choices
FEWEST = 100  # different texts, below which a probe has nothing to learn from


@dataclass(frozen=True, eq=False)
class ProbedTokens:
    """The tokens made of letters alone, spaces around them and their case aside.

    Attributes:
        ids_N: their ids.
        texts: of each, stripped and in lower case: what a probe has to say.
        keys: of each; tokens of one key are never on both sides of a split.
        table: the spellings of the texts; its alphabet numbers the letters everywhere in the probes.
        letters_NP: the letter at the first places, then at the last ones counted backwards; IGNORED where a
            text has no such place.
        lengths_N: letters of each.
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
        """[b" the", b"The", b"42", None] -> ids [0, 1], texts ["the", "the"]

        Arguments:
            limit: so many of them, drawn at random, the same ones each time.
            prefix: the key of a token is this many letters of its text, and not the whole text: relatives
                such as walk, walked and walking then stand on one side as well.

        Raises BadInput where too few tokens are made of letters.
        """
        read = ((number, plain_text(spelling)) for number, spelling in enumerate(spellings))
        found = [(number, text) for number, text in read if text]
        if limit is not None and limit < len(found):
            found = sorted(stream("probed tokens").sample(found, limit))
        texts = [text for _, text in found]
        keys = [text[:prefix] for text in texts]
        if len(set(keys)) < FEWEST:
            raise BadInput(
                f"{len(texts)} tokens are made of letters alone, with {len(set(keys))} different "
                f"{'texts' if prefix is None else 'beginnings'}, and a probe needs {FEWEST}: take more "
                "tokens, or a model with a larger vocabulary."
            )
        table = SpellingTable.from_bytes([text.encode() for text in texts])
        letters_NP = spelling_targets(table, PLACES, PLACES)
        letters_NP = letters_NP.masked_fill(letters_NP == len(table.alphabet), IGNORED)  # no ends
        ids_N = torch.tensor([number for number, _ in found])
        return cls(ids_N, texts, keys, table, letters_NP, table.lengths_V.long())

    def split(self, number: int) -> Split:
        """Five splits in a row hold out every token once; those after them deal the texts anew."""
        rounds, place = divmod(number, PARTS // HELD)
        keys = sorted(set(self.keys))
        stream("split", rounds).shuffle(keys)
        part = {key: i % PARTS for i, key in enumerate(keys)}
        part_N = torch.tensor([part[key] for key in self.keys])
        held_N = part_N // HELD == place
        check_N = part_N == (HELD * (place + 1)) % PARTS
        return Split(
            number,
            *(mask_N.nonzero().squeeze(1) for mask_N in (~(held_N | check_N), check_N, held_N)),
        )


@dataclass(frozen=True, eq=False)
class Split:
    """Numbers of tokens: those that a probe learns from, those by which its strength is chosen (a tenth), and
    those held out (a fifth), by which alone it is judged.
    """

    number: int
    fit: Tensor
    check: Tensor
    held: Tensor


def plain_text(spelling: bytes | None) -> str:
    """b" The" -> "the"; "" for what is not made of letters alone, or is a piece of a character."""
    try:
        text = (spelling or b"").decode().strip()
    except UnicodeDecodeError:
        return ""
    return text.lower() if text.isalpha() else ""
